"""SIGKILL in the middle of training and again in the middle of inference: the same command ends with the same masks."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cgckit.cli.main import main

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")

SUBJECTS = 2
STEPS = 30  # checkpoints come every 25
QUICK = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", f"steps={STEPS}"]

# The command line in a process that is killed, as by the system, when a function is called for the n-th time. A signal
# from outside would come at another place each time, or too late on a busy machine.
KILLED = """
import os, signal, sys
from importlib import import_module
from cgckit.cli.main import main

module, kind, name, last = sys.argv[1:5]
owner = getattr(import_module(module), kind)
original, calls = getattr(owner, name), 0

def counted(*arguments, **options):
    global calls
    calls += 1
    if calls == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

setattr(owner, name, counted)
sys.argv[1:] = sys.argv[5:]
main()
"""


def arguments(scans: Path, out: Path) -> list[str]:
    references = scans.with_name(f"{scans.name}-references")
    settings = [word for value in QUICK for word in ("--set", value)]
    prior = ["--prior", f"mask:{references}/{{subject}}_seg.nii.gz", "--device", "cpu", "--quiet"]
    return ["refine", str(scans), "--out", str(out), *prior, *settings]


def run(scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the command in this process, which has torch in memory, and let it end by itself."""
    monkeypatch.setattr(sys, "argv", ["cgckit", *arguments(scans, out)])
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code in (None, 0)


def run_killed(scans: Path, out: Path, *where: object) -> None:
    """Give it in a process that is killed at the call that `where` names: module, class, method, number of the call."""
    command = [sys.executable, "-c", KILLED, *map(str, where), *arguments(scans, out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, f"ended by itself: {done.stderr}"


def images(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.nii.gz"))}


def test_a_run_killed_in_training_and_in_inference_ends_with_the_same_masks(
    write_cohort: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, whole, out = write_cohort(SUBJECTS), tmp_path / "whole", tmp_path / "out"
    run(scans, whole, monkeypatch)
    scratch, card = out / "work" / "run", out / "model" / "model.json"
    assert (whole / "model" / "model.json").exists()

    run_killed(scans, out, "cgckit.cgc.crops", "CropSampler", "__call__", 28)
    assert (scratch / "checkpoint.safetensors").exists()
    assert not card.exists()
    assert not list(out.rglob("*desc-cgc_mask.nii.gz"))

    # While the mask of the second subject is written, after two images of the first and one of its own.
    run_killed(scans, out, "nibabel", "Nifti1Image", "to_stream", 4)
    assert card.exists()
    assert [path.stem for path in (scratch / "inference").glob("[!.]*.json")] == ["case1"]
    assert len(list(out.rglob(".partial-*"))) == 1
    finished = {path: path.stat().st_mtime_ns for path in out.glob("sub-case1/anat/*.nii.gz")}
    assert not (out / "summary.tsv").exists()

    run(scans, out, monkeypatch)
    assert images(out) == images(whole)
    assert len(images(out)) == 4 * SUBJECTS
    assert (out / "summary.tsv").read_text() == (whole / "summary.tsv").read_text()
    assert (out / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    assert not list(out.rglob(".partial-*"))
    # Nothing was done twice: neither the priors, nor the training, nor the subject that was finished.
    log = (out / "cgckit.log").read_text()
    assert log.count("mask read from") == SUBJECTS
    assert log.count(f"step {STEPS} of {STEPS}") == 1
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
