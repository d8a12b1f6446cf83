"""`python -m benchmarks loss`, `profile` or `pipeline`: measure, and write what was found to benchmarks/results/."""

from __future__ import annotations

import argparse

from benchmarks import loss, pipeline, profile

BENCHMARKS = {"loss": loss, "pipeline": pipeline, "profile": profile}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, benchmark in BENCHMARKS.items():
        benchmark.add_arguments(commands.add_parser(name, help=str(benchmark.__doc__).splitlines()[0]))
    arguments = parser.parse_args()
    BENCHMARKS[arguments.command].run(arguments)


if __name__ == "__main__":
    main()
