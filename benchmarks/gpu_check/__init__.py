"""What only a GPU can show about the CUDA kernels of the loss, on a bare machine and in a few minutes.

Builds the extension for the card it finds, then runs the steps of `steps.py`, each in a process of its own. Every
finding is a line of JSON in `gpu_check.jsonl`, whatever a step printed lies beside it; the exit status is 1 if anything
was bad.

It needs torch for CUDA, nvcc, ninja, pybind11, numpy, pytest and compute-sanitizer. Wheels in a folder `.whl` are
unpacked for it: those of monai and safetensors let it train the network too. With `--device cpu` it tries itself out,
on what is built and at tiny sizes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.gpu_check.steps import STEPS, run_steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=STEPS, action="append", help="only this step (may be repeated)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="stop after this (default %(default)g)")
    parser.add_argument(
        "--results", type=Path, default=Path("benchmarks-work/gpu_check"), help="folder (default %(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu_check: torch finds no CUDA device; --device cpu tries the checks out")
    good = run_steps(arguments.only or list(STEPS), arguments.device, arguments.results, 60 * arguments.minutes)
    sys.exit(0 if good else 1)
