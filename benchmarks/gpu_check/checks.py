"""`python -m benchmarks.gpu_check.checks NAME`: one check, in the process that a step starts for it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from benchmarks.gpu_check import graphs, repeats, situations, small_calls, timings, training, values
from benchmarks.gpu_check.findings import Findings
from cgckit.contrast import resolve_implementation

CHECKS = {
    "values": values.check,
    "situations": situations.check,
    "graphs": graphs.check,
    "repeats": repeats.check,
    "small_calls": small_calls.check,
    "timings": timings.check,
    "training": training.check,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=CHECKS)
    chosen = parser.parse_args().check
    device = torch.device(os.environ["GPU_CHECK_DEVICE"])
    findings = Findings(Path(os.environ["GPU_CHECK_LINES"]))
    resolve_implementation("fused", device)  # else every check would fail, each in its own words
    CHECKS[chosen](device, findings)
    sys.exit(bool(findings.bad))


if __name__ == "__main__":
    main()
