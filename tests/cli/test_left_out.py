"""One unusable subject does not stop the others: it is named, left out and counted, and the exit code is 6."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import cgckit as package
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError

QUICK = ["--device", "cpu", "--quiet"]
TINY = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "steps=3"]
SETTINGS = [word for setting in TINY for word in ("--set", setting)]

PRIOR = """
from dataclasses import dataclass
import torch
from cgckit import Prior

@dataclass
class Bright(Prior):
    def predict(self, case):
        return ((case.channel("flair") > 2.5) & case.brain).float()

@dataclass
class Learned(Bright):
    def fit(self, cases):
        assert len([case.subject for case in cases]) == 2
        return self

    def state(self):
        return {"seen": torch.tensor([2])}

    def load_state(self, state):
        pass
"""


def flair(scans: Path, subject: str) -> Path:
    return scans / subject / f"{subject}_flair.nii.gz"


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def set_nan(path: Path) -> None:
    image = nib.load(path)
    array = image.get_fdata()
    array[20, 20, 18] = np.nan
    nib.save(nib.Nifti1Image(array, image.affine), path)


def empty_mask(path: Path) -> None:
    image = nib.load(path)
    mask = nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine)
    nib.save(mask, path.with_name(path.name.replace("flair", "brain_mask")))


def unlink_annexed(path: Path) -> None:
    path.unlink()
    path.symlink_to("../../.git/annex/objects/gone.nii.gz")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "header": (lambda path: path.write_text("no image"), "not a readable NIfTI"),
    "empty file": (lambda path: path.write_bytes(b""), "not a readable NIfTI"),
    "bit": (flip_a_bit, "damaged"),
    "NaN": (set_nan, "NaN"),
    "link": (unlink_annexed, "a link to a file that is not there; fetch it"),
    "brain": (empty_mask, "brain mask is empty"),
}


@pytest.fixture
def prior(tmp_path: Path) -> str:
    (tmp_path / "prior.py").write_text(PRIOR)
    return f"{tmp_path}/prior.py"


def assert_left_out(ending, out: Path, words: str, count: int = 3) -> None:
    """Case 2 is named with its fault, and no result of it is listed."""
    assert ending.code == 6, ending.err
    first, last = ending.err.splitlines()
    assert "case2 is left out: " in first
    assert words in first
    assert last == f"cgckit: 1 of {count} subjects left out (case2); summary.tsv says why"
    results = Derivatives(out)
    assert list(results.subjects().values()) == ["case1", "case3"]
    remarks = {row["source"]: row["remarks"] for row in results.read_table("summary.tsv")}
    assert words in remarks["case2"]
    assert remarks["case2"].startswith("left out: ")
    assert not any(text.startswith("left out") for source, text in remarks.items() if source != "case2")
    assert json.loads((out / "run.json").read_text())["status"] == "complete"


@pytest.mark.parametrize(
    ("fault", "kind"), [*((fault, "Bright") for fault in FAULTS), ("header", "Learned"), ("NaN", "Learned")]
)
def test_refine_leaves_out_who_cannot_be_used(cgckit, write_cohort, prior, tmp_path, fault, kind) -> None:
    scans, out, alone = write_cohort(3), tmp_path / "out", tmp_path / "alone"
    spoil, words = FAULTS[fault]
    spoil(flair(scans, "case2"))
    command = ["--prior", f"{prior}:{kind}", *QUICK, *SETTINGS]
    ending = cgckit("refine", scans, "--out", out, *command)
    assert_left_out(ending, out, words)
    assert "case1" in ending.out
    assert cgckit("refine", scans, "--out", out, *command).code == 6  # made again, there is nothing to do
    # The others are as they are without it.
    shutil.rmtree(scans / "case2")
    assert cgckit("refine", scans, "--out", alone, *command).code == 0
    for path in alone.glob("sub-*/anat/*.nii.gz"):
        assert path.read_bytes() == (out / path.relative_to(alone)).read_bytes()


@pytest.mark.parametrize("fault", ["header", "NaN"])
def test_prior_and_predict_leave_out_too_and_what_follows_reads_the_rest(
    cgckit, write_cohort, prior, tmp_path, fault
) -> None:
    scans = write_cohort(3)
    command = ["--prior", f"{prior}:Bright", *QUICK, *SETTINGS]
    assert cgckit("refine", scans, "--out", tmp_path / "model", *command).code == 0
    spoil, words = FAULTS[fault]
    spoil(flair(scans, "case2"))
    out = tmp_path / "priors"
    assert_left_out(cgckit("prior", scans, "--prior", f"{prior}:Bright", "--out", out, "--quiet"), out, words)
    out = tmp_path / "predicted"
    assert_left_out(cgckit("predict", scans, "--model", tmp_path / "model", "--out", out, *QUICK), out, words)
    assert cgckit("report", out, "--quiet").code == 0
    assert words in (out / "report" / "index.html").read_text()
    ending = cgckit("evaluate", out, tmp_path / "scans-references", "--quiet")
    assert ending.code == 0
    assert "2 subjects against their reference" in ending.out


def test_a_subject_without_a_prior_file_is_left_out(cgckit, write_cohort, tmp_path) -> None:
    scans, references, out = write_cohort(3), tmp_path / "scans-references", tmp_path / "out"
    (references / "case2_seg.nii.gz").unlink()
    ending = cgckit("prior", scans, "--prior", f"mask:{references}/{{subject}}_seg.nii.gz", "--out", out, "--quiet")
    assert_left_out(ending, out, "there is no file for subject case2")


def test_a_prior_file_on_another_grid_leaves_its_subject_out(cgckit, write_cohort, tmp_path) -> None:
    scans, references, out = write_cohort(3), tmp_path / "scans-references", tmp_path / "out"
    mask = nib.load(references / "case2_seg.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj)[1:], mask.affine), references / "case2_seg.nii.gz")
    ending = cgckit("prior", scans, "--prior", f"mask:{references}/{{subject}}_seg.nii.gz", "--out", out, "--quiet")
    assert_left_out(ending, out, "not on the grid")


@pytest.mark.parametrize("fault", ["header", "NaN"])
def test_the_files_of_who_is_left_out_are_inputs_too(cgckit, write_cohort, prior, tmp_path, fault) -> None:
    scans = write_cohort(3)
    FAULTS[fault][0](flair(scans, "case2"))
    ending = cgckit("prior", scans, "--prior", f"{prior}:Bright", "--out", scans / "case2", "--quiet")
    assert ending.code == 2
    assert "case2_flair.nii.gz: lies in the output folder" in ending.err
    assert sorted(path.name for path in (scans / "case2").iterdir()) == ["case2_flair.nii.gz", "case2_t1.nii.gz"]


def test_the_mask_of_who_is_left_out_is_an_input_too(cgckit, write_cohort, tmp_path) -> None:
    scans, references = write_cohort(3), tmp_path / "scans-references"
    (references / "case2").mkdir()
    (references / "case2_seg.nii.gz").rename(references / "case2" / "case2_seg.nii.gz")
    for subject in ("case1", "case3"):
        (references / subject).mkdir()
        (references / f"{subject}_seg.nii.gz").rename(references / subject / f"{subject}_seg.nii.gz")
    flair(scans, "case2").write_text("no image")
    specification = f"mask:{references}/{{subject}}/{{subject}}_seg.nii.gz"
    ending = cgckit("prior", scans, "--prior", specification, "--out", references / "case2", "--quiet")
    assert ending.code == 2
    assert "case2_seg.nii.gz: lies in the output folder" in ending.err


@pytest.mark.parametrize("fault", ["header", "NaN"])
def test_a_complete_run_without_some_stays_as_it_is(cgckit, write_cohort, prior, tmp_path, fault) -> None:
    scans, out = write_cohort(3), tmp_path / "out"
    FAULTS[fault][0](flair(scans, "case2"))
    command = ["refine", scans, "--out", out, "--prior", f"{prior}:Bright", *QUICK, *SETTINGS]
    assert cgckit(*command).code == 6
    assert cgckit("report", out, "--quiet").code == 0
    told = ("cgckit.log", "written.jsonl")  # what went on, each time
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name not in told}
    assert_left_out(cgckit(*command), out, FAULTS[fault][1])
    assert {path: path.read_bytes() for path in kept if path.exists()} == kept


@pytest.mark.parametrize("fault", ["header", "bit"])
def test_where_nobody_is_usable_the_first_says_why(cgckit, write_cohort, prior, tmp_path, fault) -> None:
    scans = write_cohort(2)
    for subject in ("case1", "case2"):
        FAULTS[fault][0](flair(scans, subject))
    ending = cgckit("refine", scans, "--prior", f"{prior}:Bright", "--out", tmp_path / "out", *QUICK, *SETTINGS)
    assert ending.code == 3
    assert FAULTS[fault][1] in ending.err.splitlines()[-1]
    assert "case1" in ending.err.splitlines()[-1]


def test_python_is_strict_unless_told_otherwise(write_cohort, tmp_path) -> None:
    scans = write_cohort(2)
    set_nan(flair(scans, "case2"))
    with pytest.raises(BadInputError, match="NaN"):
        package.compute_priors(scans, out=tmp_path / "strict")
    run = package.compute_priors(scans, out=tmp_path / "out", strict=False)
    assert [subject.source for subject in run] == ["case1"]
    assert list(run.left_out) == ["case2"]
    assert "NaN" in run.left_out["case2"]


def test_an_output_that_cannot_be_written_is_nobodys_fault(write_cohort, tmp_path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise BadInputError("the disk is full")

    monkeypatch.setattr("cgckit.derivatives.Derivatives.write_brain", fail)
    with pytest.raises(BadInputError, match="the disk is full"):
        package.compute_priors(write_cohort(2), out=tmp_path / "out", strict=False)
