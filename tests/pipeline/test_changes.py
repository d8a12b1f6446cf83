"""What changes while a run is at work, or between its calls: inputs that are replaced, and the number of threads."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

import cgckit
from cgckit.cgc.crops import CropSampler
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort, Subject
from cgckit.priors.base import Prior
from cgckit.sealed import read_json

QUICK = {
    "spacing": 4.0,
    "crop": (16, 16, 16),
    "widths": (4, 4, 4, 4),
    "projection": 4,
    "batch": 1,
    "steps": 30,
    "mirror": False,
}
WriteCohort = Callable[..., Path]


@dataclass
class BrightFlair(Prior):
    """Everything above a threshold in FLAIR."""

    def predict(self, case: Case) -> Tensor:
        return ((case.channel("flair") > 2.5) & case.brain).float()


def run(scans: Path, out: Path, **changes: object) -> cgckit.Run:
    options: dict[str, object] = {"prior": BrightFlair(), "settings": QUICK, "device": "cpu"} | changes
    return cgckit.refine(scans, out=out, **options)  # type: ignore[arg-type]


def before(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, do: Callable[[], object]) -> None:
    """Have something done before the first call of a method."""
    original, done = getattr(owner, name), []

    def first(*arguments: object, **options: object) -> object:
        if not done:
            done.append(do())
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, first)


def brighten(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * np.float32(1.5), image.affine), path)


def same_size(path: Path) -> None:
    """One voxel more, in as many bytes, and at what seems to be the same time."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def other_grid(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:-2], image.affine), path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "other content": brighten,
    "as many bytes": same_size,
    "another grid": other_grid,
    "no image": lambda path: path.write_text("half copied"),
    "removed": Path.unlink,
}
# When: before the first subject is prepared, and before the first map is written.
MOMENTS = {"priors": (BrightFlair, "predict"), "inference": (Derivatives, "write_probability")}


@pytest.mark.parametrize(
    ("change", "moment"),
    [*((change, "priors") for change in CHANGES), *((change, "inference") for change in ("as many bytes", "removed"))],
)
def test_a_scan_that_is_replaced_in_mid_run_ends_it_in_one_line(
    write_cohort: WriteCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, moment: str
) -> None:
    scans, out = write_cohort(1), tmp_path / "out"
    scan = scans / "case1" / "case1_flair.nii.gz"
    kept = scan.read_bytes()
    settings = {**QUICK, "steps": 2}
    with monkeypatch.context() as patch:
        before(patch, *MOMENTS[moment], lambda: CHANGES[change](scan))
        with pytest.raises(BadInputError, match=r"case1_flair\.nii\.gz: was re\w+ while the run was working") as caught:
            run(scans, out, settings=settings)
    assert "\n" not in str(caught.value)
    scan.write_bytes(kept)
    run(scans, out, settings=settings)


def test_a_scan_that_is_touched_or_copied_onto_itself_goes_on(
    write_cohort: WriteCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = write_cohort(1)
    scan = scans / "case1" / "case1_flair.nii.gz"

    def copy() -> None:
        shutil.copy(scan, tmp_path / "copy")
        os.replace(tmp_path / "copy", scan)

    before(monkeypatch, BrightFlair, "predict", copy)
    before(monkeypatch, Derivatives, "write_probability", scan.touch)
    run(scans, tmp_path / "out", settings={**QUICK, "steps": 2})


def test_a_brain_mask_that_is_replaced_is_noticed(write_cohort: WriteCohort) -> None:
    scans = write_cohort(1)
    mask = scans / "case1" / "case1_brain_mask.nii.gz"
    image = nib.load(scans / "case1" / "case1_flair.nii.gz")
    nib.save(nib.Nifti1Image((np.asarray(image.dataobj) > 0).astype(np.uint8), image.affine), mask)
    subject: Subject = Cohort.find([scans])[0]
    with subject.unchanged():
        mask.touch()  # nobody has asked for its fingerprint
    subject.fingerprint()
    with pytest.raises(BadInputError, match="brain_mask"), subject.unchanged():
        mask.write_bytes(b"")


def test_the_mask_of_a_prior_that_is_replaced_in_mid_run_ends_it_in_one_line(
    write_cohort: WriteCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = write_cohort(2)
    masks = scans.with_name("scans-references")
    prior = f"mask:{masks}/{{subject}}_seg.nii.gz"
    before(
        monkeypatch,
        Derivatives,
        "write_brain",
        lambda: shutil.copy(masks / "case1_seg.nii.gz", masks / "case2_seg.nii.gz"),
    )
    with pytest.raises(BadInputError, match=r"case2: what the prior mask.* reads of it was replaced"):
        run(scans, tmp_path / "out", prior=prior)


@pytest.mark.parametrize("change", ["no image", "removed", "another grid"])
@pytest.mark.parametrize("kind", ["scan", "mask"])
def test_who_is_replaced_in_mid_run_is_not_left_out_as_unusable(
    write_cohort: WriteCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, change: str
) -> None:
    scans = write_cohort(2)
    masks = scans.with_name("scans-references")
    file = scans / "case2" / "case2_t1.nii.gz" if kind == "scan" else masks / "case2_seg.nii.gz"
    before(monkeypatch, Derivatives, "write_brain", lambda: CHANGES[change](file))  # of the first subject
    with pytest.raises(BadInputError, match=r"while the run was|there is no file for subject case2"):
        cgckit.compute_priors(scans, f"mask:{masks}/{{subject}}_seg.nii.gz", tmp_path / "out", strict=False)


def test_going_on_with_another_number_of_threads_is_said_and_recorded(
    write_cohort: WriteCohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scans, out, threads = write_cohort(1), tmp_path / "out", torch.get_num_threads()

    def stop() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        before(patch, CropSampler, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            run(scans, out)
    assert read_json(out / "run.json")["threads"] == [threads]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)  # as if it were so
    with caplog.at_level(logging.WARNING, logger="cgckit"):
        run(scans, out)
    said = [record.getMessage() for record in caplog.records if "threads" in record.getMessage()]
    assert len(said) == 1
    assert f"OMP_NUM_THREADS={threads}" in said[0]
    assert "\n" not in said[0]
    assert read_json(out / "run.json")["threads"] == [threads, threads + 1]
    caplog.clear()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    run(scans, out)
    assert "threads" not in caplog.text, "there was nothing left to be done"
    assert read_json(out / "run.json")["threads"] == [threads, threads + 1]
