"""The steps, and how they are run: one process each, within a limit of time."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from benchmarks.gpu_check.findings import Findings

ROOT = Path(__file__).parents[2]
PYTHON = (sys.executable, "-u")


@dataclass(frozen=True)
class Step:
    """A command, and the seconds after which it is stopped."""

    command: tuple[str, ...]
    seconds: float
    environment: tuple[tuple[str, str], ...] = ()
    on_cpu: bool = False
    """Whether `--device cpu` runs it too."""


def _check(name: str, seconds: float, *, on_cpu: bool = False) -> Step:
    return Step((*PYTHON, "-m", "benchmarks.gpu_check.checks", name), seconds, on_cpu=on_cpu)


def _sanitizer(tool: str) -> Step:
    # Every tensor an allocation of its own, so that the sanitizer knows where each ends.
    environment = (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),)
    sanitizer = ("compute-sanitizer", "--tool", tool, "--error-exitcode", "9", "--kernel-regex", "kns=cgckit")
    check = _check("small_calls", 60)
    return Step((*sanitizer, *check.command), check.seconds, environment)


def _suite() -> tuple[str, ...]:
    # The tests' shared conftest needs nibabel, which is not here.
    tests = ("tests/contrast", "-k", "cuda", "--confcutdir=tests/contrast", "-q", "-x", "-p", "no:cacheprovider")
    workers = ("-n", "6") if importlib.util.find_spec("xdist") else ()
    return (*PYTHON, "-m", "pytest", *tests, *workers)


STEPS = {
    "build": Step((*PYTHON, "setup.py", "-q", "build_ext", "--inplace"), 150),
    "values": _check("values", 60, on_cpu=True),
    "situations": _check("situations", 45, on_cpu=True),
    "suite": Step(_suite(), 75),
    "graphs": _check("graphs", 30),
    "repeats": _check("repeats", 30, on_cpu=True),
    "timings": _check("timings", 150, on_cpu=True),
    "training": _check("training", 60, on_cpu=True),
    "small_calls": _check("small_calls", 30, on_cpu=True),
    "memcheck": _sanitizer("memcheck"),
    "racecheck": _sanitizer("racecheck"),
    "synccheck": _sanitizer("synccheck"),
}


def run_steps(names: Sequence[str], device: str, results: Path, seconds: float) -> bool:
    """Run the steps of these names in their order; whether all of them, and all that they found, were good.

    Args:
        names: of `STEPS`.
        device: "cuda" or "cpu".
        results: folder for `gpu_check.jsonl`, which is written anew, and for what each step prints, NAME.log.
        seconds: no step starts after that many, and the one at work is stopped.
    """
    results.mkdir(parents=True, exist_ok=True)
    lines = (results / "gpu_check.jsonl").resolve()
    lines.unlink(missing_ok=True)
    findings = Findings(lines)
    environment = _environment(device, lines, results)
    end = time.monotonic() + seconds
    good = True
    for name in names:
        step, left = STEPS[name], end - time.monotonic()
        if device == "cpu" and not step.on_cpu:
            findings.skip(step=name, why="needs a GPU")
        elif left <= 0:
            good = False
            findings.note(False, step=name, why="no time left")
        else:
            good = _run(name, step, min(step.seconds, left), environment, results, findings) and good
    return good


def _run(name: str, step: Step, seconds: float, environment: dict[str, str], results: Path, findings: Findings) -> bool:
    began = time.monotonic()
    log = results / f"{name}.log"
    status: int | str
    with log.open("w") as output:
        try:
            status = _status(step, seconds, environment, output)
        except FileNotFoundError as error:
            status = f"{error.filename} is not there"
    findings.note(status == 0, step=name, status=status, seconds=round(time.monotonic() - began, 1))
    if status != 0:
        print("\n".join(log.read_text(errors="replace").splitlines()[-15:]), flush=True)
    return status == 0


def _status(step: Step, seconds: float, environment: dict[str, str], output: IO[str]) -> int | str:
    """Exit status of a step, or that it had to be stopped: with all the processes that it has started."""
    environment = environment | dict(step.environment)
    process = subprocess.Popen(
        step.command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(device: str, lines: Path, results: Path) -> dict[str, str]:
    """What the steps are told by their environment."""
    wheels = _unpacked_wheels(results)
    path = [str(ROOT), *([str(wheels)] if wheels else []), os.environ.get("PYTHONPATH", "")]
    found = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "GPU_CHECK_LINES": str(lines),
        "GPU_CHECK_DEVICE": device,
    }
    found.setdefault("OMP_NUM_THREADS", "4" if device == "cuda" else "1")
    if device == "cuda":
        # Binaries for the card at hand alone: the build is what takes longest.
        found.setdefault("TORCH_CUDA_ARCH_LIST", "{}.{}".format(*torch.cuda.get_device_capability()))
        compiler = shutil.which("nvcc")
        if compiler:
            found.setdefault("CUDA_HOME", str(Path(compiler).resolve().parents[1]))
    return found


def _unpacked_wheels(results: Path) -> Path | None:
    """The wheels in `.whl`, unpacked into a folder to import from: there may be neither a network nor pip."""
    wheels = sorted((ROOT / ".whl").glob("*.whl"))
    if not wheels:
        return None
    folder = results.resolve() / "site"
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder
