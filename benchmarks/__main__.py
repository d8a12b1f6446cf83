"""`python -m benchmarks NAME`: measure, and write what was found to a folder of results.

Each benchmark is imported when it is asked for: none needs the libraries of another.
"""

from __future__ import annotations

import argparse
import importlib

BENCHMARKS = {
    "loss": "the contrastive loss against its yardsticks",
    "profile": "where the fused loss spends its time on a CPU",
    "cohort": "memory, seconds and opened files of a run as its cohort grows",
    "ring": "memory and time of a batch that lies in several processes",
    "stages": "seconds a volume of every stage, against what a user would run instead",
    "pipeline": "cgckit against the prior and a copy of it",
    "table1": "the paper's Table 1: every prior alone and refined",
    "robustness": "prior and refinement on scans that are turned, noisy, coarse, incomplete, ...",
    "constants": "how much each constant and default matters",
    "gpu_check": "what only a GPU can show about the CUDA kernels",
}


def main() -> None:
    names = "\n".join(f"  {name:10} {what}" for name, what in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measurements, each with a --help of its own:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of the benchmark")
    chosen = parser.parse_args()
    benchmark = importlib.import_module(f"benchmarks.{chosen.benchmark}")
    of_benchmark = argparse.ArgumentParser(
        prog=f"python -m benchmarks {chosen.benchmark}", description=benchmark.__doc__
    )
    benchmark.add_arguments(of_benchmark)
    benchmark.run(of_benchmark.parse_args(chosen.options))


if __name__ == "__main__":
    main()
