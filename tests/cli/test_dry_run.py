"""`cgckit refine --dry-run`: what would be done is said, with the exit code of the run, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cgckit.lock import locked

WriteCohort = Callable[..., Path]
QUICK = [
    *("--device", "cpu", "--quiet", "--set", "spacing=4", "--set", "crop=16x16x16", "--set", "widths=4x4x4x4"),
    *("--set", "projection=4", "--set", "batch=1", "--set", "steps=2"),
]


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything in a folder: sizes and times of the last change."""
    found = {str(path): path.stat() for path in [folder, *sorted(folder.rglob("*"))]}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


@pytest.fixture
def refine(cgckit, monkeypatch, tmp_path: Path):
    """`cgckit refine scans`, as in a terminal of 80 columns, which must not change a byte if it is a dry run."""

    def call(*more: object, out: str = "out"):
        prior = f"mask:{tmp_path}/scans-references/{{subject}}_seg.nii.gz"
        before = state(tmp_path)
        monkeypatch.setenv("COLUMNS", "80")
        ending = cgckit("refine", tmp_path / "scans", "--prior", prior, "--out", tmp_path / out, *QUICK, *more)
        if "--dry-run" in more:
            assert state(tmp_path) == before
        return ending

    return call


def rows(text: str) -> dict[str, list[str]]:
    """The cells of a table by the first of their row; those of a row that goes over several lines are put together."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if cells and cells[0]:
            name = cells[0]
            found[name] = cells
        elif cells:
            found[name] = [" ".join(filter(None, pair)) for pair in zip(found[name], cells, strict=True)]
    return found


def damage(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array.astype(np.float32), affine), path)


def test_a_plan_says_what_was_found_and_what_will_be_done(refine, write_cohort: WriteCohort) -> None:
    pytest.importorskip("SimpleITK", reason="SimpleITK is not in this environment")
    scans = write_cohort(3)
    image = nib.load(scans / "case2" / "case2_t1.nii.gz")
    moved = image.affine.copy()
    moved[0, 3] += 5
    damage(scans / "case2" / "case2_t1.nii.gz", image.get_fdata(), moved)
    damage(scans / "case3" / "case3_t1.nii.gz", np.full(image.shape, np.nan), image.affine)
    ending = refine("--dry-run")
    assert ending.code == 6
    assert ending.err.splitlines()[-1] == "cgckit: 1 of 3 subjects would be left out (case3); see the table"
    found = rows(ending.out)
    assert found["case1"] == ["case1", "flair t1", "40x44x36", "2x2x2", "prior, map"]
    assert found["case2"][-1] == "align, prior, map"
    assert found["case3"][-1].startswith("left out: ")
    assert "NaN" in found["case3"][-1].replace(" ", "")
    assert max(map(len, ending.out.splitlines())) <= 80
    assert "prior mask, preset light, 2 steps on cpu" in ending.out
    assert "done: 0 of 2 priors, training no, 0 of 2 maps" in ending.out
    assert "memory: about 0.5 GB" in ending.out


def test_whole_heads_and_given_masks_are_told_apart(refine, write_cohort: WriteCohort) -> None:
    pytest.importorskip("SimpleITK", reason="SimpleITK is not in this environment")
    scans = write_cohort(2)
    rng = np.random.default_rng(0)
    for name in ("case1", "case2"):
        for modality in ("flair", "t1"):
            path = scans / name / f"{name}_{modality}.nii.gz"
            image = nib.load(path)
            array = image.get_fdata()
            damage(path, array + rng.uniform(5, 40, array.shape), image.affine)
    mask = (nib.load(scans.parent / "scans-references" / "case2_seg.nii.gz").get_fdata() >= 0).astype(np.uint8)
    mask[:3] = 0
    nib.save(nib.Nifti1Image(mask, image.affine), scans / "case2" / "case2_brain_mask.nii.gz")
    found = rows(refine("--dry-run").out)
    assert found["case1"][-1] == "align, find brain, prior, map"
    assert found["case2"][-1] == "prior, map"


def test_what_a_run_did_is_not_planned_again(refine, write_cohort: WriteCohort) -> None:
    write_cohort(2)
    assert refine("--stage", "prior").code == 0
    begun = refine("--dry-run")
    assert begun.code == 0, begun.err
    assert rows(begun.out)["case1"][-1] == "map"
    assert "done: 2 of 2 priors, training no, 0 of 2 maps" in begun.out
    assert refine().code == 0
    complete = refine("--dry-run")
    assert rows(complete.out)["case1"][-1] == "nothing"
    assert "done: 2 of 2 priors, training yes, 2 of 2 maps" in complete.out
    other_maps = refine("--dry-run", "--set", "mirror=no")
    assert "done: 2 of 2 priors, training yes, 0 of 2 maps" in other_maps.out
    assert rows(refine("--dry-run", "--overwrite").out)["case1"][-1] == "prior, map"


def test_a_dry_run_ends_as_the_run_would(refine, write_cohort: WriteCohort, tmp_path: Path) -> None:
    write_cohort(1)
    assert refine().code == 0
    for words, code in (
        (["--seed", "1"], 2),  # another run is in the folder
        (["--set", "stepz=3"], 2),
        (["--modalities", "t2"], 3),
        (["--stage", "noon"], 2),
    ):
        planned, done = refine("--dry-run", *words), refine(*words)
        assert (planned.code, planned.err) == (done.code, done.err) == (code, done.err)
    with locked(tmp_path / "out"):
        planned, done = refine("--dry-run"), refine()
    assert (planned.code, planned.err) == (done.code, done.err)
    assert planned.code == 2
