"""Scans that are not prepared are aligned and stripped once, by `prepare` and in `refine`; others are not touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import nibabel as nib
import numpy as np
import pytest

import cgckit
from cgckit.errors import BadInputError, UsageError
from cgckit.images.cohort import Cohort
from cgckit.images.registration import Registration

SHIFT = np.array([6.0, -4.0, 2.0])
FEW_STEPS = {"steps": 2}


@dataclass
class Known(Registration):
    """Knows how far the scans below lie apart, and counts how often it is asked."""

    asked: ClassVar[int] = 0

    def align(self, fixed, moving):
        type(self).asked += 1
        back = np.eye(4)
        back[:3, 3] = -SHIFT
        return back


@dataclass
class Unwanted(Registration):
    """Fails whoever asks it."""

    def align(self, fixed, moving):
        raise AssertionError("prepared scans are not to be aligned")


@pytest.fixture
def prepared(write_cohort) -> Path:
    """Two subjects on one grid, stripped."""
    return write_cohort(2)


@pytest.fixture
def raw(prepared: Path) -> Path:
    """The same whose T1 the headers place elsewhere."""
    for path in prepared.glob("*/*_t1.nii.gz"):
        image = nib.load(path)
        affine = image.affine.copy()
        affine[:3, 3] += SHIFT
        nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), affine), path)
    Known.asked = 0
    return prepared


def array_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_scans_come_out_on_the_grid_of_the_first(raw: Path, tmp_path: Path) -> None:
    run = cgckit.prepare(raw, tmp_path / "out", registration=Known())
    assert [subject.remarks for subject in run] == [("t1 moved to flair by 7.5 mm, 0.0 degrees",)] * 2
    anat = run.out / "sub-case1" / "anat" / "sub-case1_space-orig_desc"
    brain = array_of(Path(f"{anat}-brain_mask.nii.gz")) > 0
    for name, suffix in (("flair", "FLAIR"), ("t1", "T1w")):
        image = nib.load(f"{anat}-preproc_{suffix}.nii.gz")
        assert np.allclose(image.affine, np.diag([2, 2, 2, 1]))
        expected = np.where(brain, array_of(raw / "case1" / f"case1_{name}.nii.gz"), 0)
        assert np.allclose(image.get_fdata(), expected, atol=1e-3)


def test_what_was_prepared_is_a_cohort_of_prepared_scans(raw: Path, tmp_path: Path) -> None:
    run = cgckit.prepare(raw, tmp_path / "out", registration=Known())
    cohort = Cohort.find(run.out / "prepared.tsv")
    assert [subject.source for subject in cohort] == ["case1", "case2"]
    again = cgckit.prepare(cohort, tmp_path / "again", registration=Unwanted())
    assert [subject.remarks for subject in again] == [(), ()]


def test_what_is_done_is_not_done_again(raw: Path, tmp_path: Path) -> None:
    for _ in range(2):
        cgckit.prepare(raw, tmp_path / "out", registration=Known())
    assert Known.asked == 2
    next((tmp_path / "out").glob("sub-case1/anat/*FLAIR.nii.gz")).unlink()
    cgckit.prepare(raw, tmp_path / "out", registration=Known())
    assert Known.asked == 2, "where the scans lie is kept apart from what was written"


def test_a_damaged_note_of_where_scans_lie_is_made_again(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cgckit.prepare(raw, out, registration=Known())
    kept = next((out / "work" / "prepared").glob("case1-*"))
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    next(out.glob("sub-case1/anat/*FLAIR.nii.gz")).unlink()
    cgckit.prepare(raw, out, registration=Known())
    assert Known.asked == 3


def test_prepared_scans_are_not_touched(prepared: Path, tmp_path: Path) -> None:
    run = cgckit.prepare(prepared, tmp_path / "out", registration=Unwanted())
    assert [subject.remarks for subject in run] == [(), ()]
    with pytest.raises(cgckit.PluginError, match="not to be aligned"):
        cgckit.prepare(prepared, tmp_path / "no", registration=Unwanted(), prepared="no")


def test_scans_on_one_grid_stay_unless_they_lie_a_millimetre_apart(prepared: Path, tmp_path: Path) -> None:
    run = cgckit.prepare(prepared, tmp_path / "out", registration=Known(), prepared={"case1": "no"}, brain="coarse")
    assert [len(subject.remarks) for subject in run] == [1, 0]


def test_what_is_called_prepared_must_lie_on_one_grid(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"case1_t1\.nii\.gz and .*case1_flair\.nii\.gz lie on different grids"):
        cgckit.prepare(raw, tmp_path / "out", registration=Known(), prepared="yes")
    table = tmp_path / "table.tsv"
    table.write_text("subject\tprepared\ncase2\tyes\n")
    run = cgckit.prepare(raw, tmp_path / "out", registration=Known(), prepared=table, strict=False)
    assert list(run.left_out) == ["case2"]
    with pytest.raises(UsageError, match="names 'nobody'"):
        cgckit.prepare(raw, tmp_path / "other", prepared={"nobody": "yes"})


def test_refinement_aligns_by_itself_and_gives_masks_on_every_grid(raw: Path, tmp_path: Path) -> None:
    run = cgckit.refine(raw, out=tmp_path / "out", settings=FEW_STEPS, registration=Known(), own_grids=True)
    assert "t1 moved to flair by 7.5 mm, 0.0 degrees" in run.subjects[0].remarks
    first = run.subjects[0].mask_path
    other = first.with_name(first.name.replace("space-orig", "space-t1"))
    assert np.allclose(nib.load(first).affine[:3, 3], 0)
    assert np.allclose(nib.load(other).affine[:3, 3], SHIFT)
    assert array_of(first).any()
    assert np.array_equal(array_of(first), array_of(other)), "the scans show the same voxels, placed elsewhere"
    cgckit.refine(raw, out=tmp_path / "out", settings=FEW_STEPS, registration=Known())
    assert not other.exists()
    assert Known.asked == 2, "the stages share what was found out"
