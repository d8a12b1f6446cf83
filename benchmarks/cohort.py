"""`python -m benchmarks cohort`: memory, CPU seconds a subject and opens of an image as the cohort of a run grows.

The cohorts are of miniature heads, twelve of them, linked under as many names as there are subjects. Each stage of
`refine` runs in processes of its own, which are asked for their CPU time and their largest memory; `cohort.md` has
the table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from benchmarks.machine import description
from cgckit.jobs.part import STAGES

RESULTS = Path(__file__).parent / "results"

_ORIGINALS = 12
_SHAPE, _EDGE_MM = (24, 28, 24), 2.0
_STEPS = 50
# Runs the command line in a process that counts how often a file of the cohort is opened.
_COUNTED = """
import json, os, resource, sys
scans, report, *arguments = sys.argv[1:]
opens = {}
def hear(event, details):
    if event == "open" and isinstance(details[0], str) and details[0].startswith(scans):
        opens[details[0]] = opens.get(details[0], 0) + 1
sys.addaudithook(hear)
sys.argv = ["cgckit", *arguments]
from cgckit.__main__ import main
try:
    main()
finally:
    with open(report, "w") as file:
        json.dump(opens, file)
"""


@dataclass(frozen=True)
class Taken:
    """What a stage took: seconds, those of all its processors, MB at most, and the most opens of an image."""

    subjects: int
    jobs: int
    stage: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    opens: int

    def line(self) -> str:
        """A row of the table."""
        return (
            f"| {self.subjects} | {self.jobs} | {self.stage} | {self.wall_s:.1f} | {self.cpu_s / self.subjects:.2f} "
            f"| {self.peak_mb:.0f} | {self.opens} |"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--subjects", type=int, nargs="+", default=[10, 100, 1000], help="sizes of the cohorts (default 10 100 1000)"
    )
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="numbers of processes (default 1 2)")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of cohort.md (default benchmarks/results)"
    )


def run(arguments: argparse.Namespace) -> None:
    found: list[Taken] = []
    arguments.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cohort-") as folder:
        originals = _originals(Path(folder) / "originals")
        for count in arguments.subjects:
            scans = _linked(originals, Path(folder) / f"scans-{count}", count)
            for jobs in arguments.jobs:
                for taken in _stages(scans, Path(folder) / f"out-{count}-{jobs}", count, jobs):
                    print(taken.line(), flush=True)
                    found.append(taken)
                    (arguments.results / "cohort.md").write_text(_page(found))  # a cohort of thousands takes hours


def _originals(folder: Path) -> list[Path]:
    """Miniature heads, each a bright ball in a noisy one."""
    folder.mkdir()
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in _SHAPE), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    for number in range(_ORIGINALS):
        draw = np.random.default_rng(number)
        centre = draw.uniform(0.2, 0.4, 3)
        lesion = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True))) < draw.uniform(0.25, 0.4)
        image = np.where(radius < 0.95, draw.normal(100, 6, _SHAPE) + 70 * lesion, 0).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.diag([*[_EDGE_MM] * 3, 1.0])), folder / f"{number:02}.nii.gz")
    return sorted(folder.iterdir())


def _linked(originals: list[Path], folder: Path, count: int) -> Path:
    for number in range(count):
        subject = folder / f"sub-{number:05}"
        subject.mkdir(parents=True)
        os.link(originals[number % _ORIGINALS], subject / "flair.nii.gz")
    return folder


def _stages(scans: Path, out: Path, count: int, jobs: int) -> Iterable[Taken]:
    for stage in STAGES:
        report = out.with_name(f"{out.name}-{stage}.json")
        command = ["refine", str(scans), "--out", str(out), "--set", f"steps={_STEPS}", "--jobs", str(jobs)]
        command += ["--stage", stage, "--quiet"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", _COUNTED, str(scans), str(report), *command], env=environment, stdout=sys.stderr
        )
        _, status, used = os.wait4(process.pid, 0)
        if process.returncode is None:
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"cgckit {' '.join(command)} ended with {process.returncode}")
        yield Taken(count, jobs, stage, time.perf_counter() - began, *_used(used), _most_opens(report))


def _used(used: resource.struct_rusage) -> tuple[float, float]:
    """CPU seconds of a process and those it waited for, and the memory that the largest of them took [MB]."""
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def _most_opens(report: Path) -> int:
    return max(json.loads(report.read_text()).values(), default=0)


def _page(found: list[Taken]) -> str:
    machine = description(torch.device("cpu"))
    shape = " x ".join(map(str, _SHAPE))
    return "\n".join(
        [
            f"Written by `python -m benchmarks cohort`: heads of {shape} voxels of {_EDGE_MM:g} mm, FLAIR alone, "
            f"`gmm`, {_STEPS} steps; every process has one thread. {machine['device']}, commit {machine['commit']}. "
            "The memory is that of the largest process; of processes that work for another, the opens are not counted.",
            "",
            "| subjects | jobs | stage | seconds | CPU seconds a subject | most memory [MB] | opens of an image |",
            "|---|---|---|---|---|---|---|",
            *(taken.line() for taken in found),
            "",
        ]
    )
