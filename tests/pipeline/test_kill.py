"""SIGKILL in the middle of training and again in the middle of inference: the same command ends with the same masks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cgckit.cli.main import main

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")

SUBJECTS = 3
STEPS = 150
QUICK = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", f"steps={STEPS}"]
PATIENCE = 300  # seconds after which a process that does not get on is given up


def command(scans: Path, out: Path) -> list[str]:
    references = scans.with_name(f"{scans.name}-references")
    settings = [word for value in QUICK for word in ("--set", value)]
    prior = ["--prior", f"mask:{references}/{{subject}}_seg.nii.gz", "--device", "cpu", "--quiet"]
    return [sys.executable, "-m", "cgckit", "refine", str(scans), "--out", str(out), *prior, *settings]


def run(scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the command in this process, which has torch in memory, and let it end by itself."""
    monkeypatch.setattr(sys, "argv", command(scans, out)[2:])
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code in (None, 0)


def kill_when(scans: Path, out: Path, reached: Callable[[], bool]) -> None:
    """Start the command and kill it as soon as `reached` is true, which must be before it ends by itself."""
    with subprocess.Popen(command(scans, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not reached():
                assert process.poll() is None, f"ended before it could be killed: {process.communicate()[1]}"
                assert time.monotonic() < deadline, "never got where it was to be killed"
                time.sleep(0.001)
        finally:
            os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "the process ended by itself before the signal came"


def images(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.nii.gz"))}


def test_a_run_killed_in_training_and_in_inference_ends_with_the_same_masks(
    write_cohort: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, whole, out = write_cohort(SUBJECTS), tmp_path / "whole", tmp_path / "out"
    run(scans, whole, monkeypatch)
    scratch, log, card = out / "work" / "run", out / "cgckit.log", out / "model" / "model.json"
    assert (whole / "model" / "model.json").exists()

    kill_when(scans, out, lambda: log.exists() and f"step 100 of {STEPS}" in log.read_text())
    assert (scratch / "checkpoint.safetensors").exists()
    assert not card.exists(), "training was over before the signal came: raise STEPS"
    assert not list(out.rglob("*desc-cgc_mask.nii.gz"))

    refined = scratch / "refined"
    kill_when(scans, out, lambda: any(refined.glob("[!.]*.json")))
    kept = {path.stem: path for path in refined.glob("[!.]*.json")}
    assert len(kept) < SUBJECTS, "inference was over before the signal came: raise SUBJECTS"
    masks = [next(out.glob(f"sub-{label}/anat/*desc-cgc_mask.nii.gz")) for label in kept]
    finished = {mask: mask.stat().st_mtime_ns for mask in masks}
    assert not (out / "summary.tsv").exists()

    run(scans, out, monkeypatch)
    assert images(out) == images(whole)
    assert len(images(out)) == 4 * SUBJECTS
    assert (out / "summary.tsv").read_text() == (whole / "summary.tsv").read_text()
    assert (out / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    assert not list(out.rglob(".partial-*"))
    # Nothing was done twice: neither the first steps, nor the subjects that were finished.
    assert log.read_text().count(f"step 50 of {STEPS}") == 1
    assert log.read_text().count("mask read from") == SUBJECTS
    assert {mask: mask.stat().st_mtime_ns for mask in masks} == finished
