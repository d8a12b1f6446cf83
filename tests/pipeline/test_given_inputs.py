"""What the pipeline takes besides files and folders: mappings; and what it must not assume of numbered channels."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import cgckit
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError, UsageError
from cgckit.images.preparation import Preparation
from cgckit.pipeline.inputs import find_cohort


def test_mappings_of_files_are_worked_on_like_a_table(write_cohort, tmp_path: Path) -> None:
    scans, references = write_cohort(2), tmp_path / "scans-references"
    rows = [{"subject": "sub-01", "session": str(n), "flair": scans / f"case{n}/case{n}_flair.nii.gz"} for n in (1, 2)]
    for number in (1, 2):
        (references / f"case{number}_seg.nii.gz").rename(references / f"sub-01_ses-{number}.nii.gz")
    out = tmp_path / "out"
    run = cgckit.compute_priors(rows, f"mask:{references}/{{subject}}.nii.gz", out)
    assert [subject.label for subject in run] == ["01_ses-1", "01_ses-2"]
    assert run["sub-01_ses-2"].probability_path.parent == out / "sub-01/ses-2/anat"
    assert list(Derivatives(out).subjects().values()) == ["sub-01_ses-1", "sub-01_ses-2"]
    with pytest.raises(UsageError, match="lies in the output folder"):
        cgckit.compute_priors(rows[0], out=scans)


def test_a_models_modalities_are_no_names_of_numbered_channels(write_cohort, tmp_path: Path) -> None:
    scans = write_cohort(1)
    (tmp_path / "imagesTr").mkdir()
    for number, modality in enumerate(("flair", "t1")):
        shutil.copy(scans / f"case1/case1_{modality}.nii.gz", tmp_path / f"imagesTr/a_000{number}.nii.gz")
    assert find_cohort(tmp_path / "imagesTr", ["flair", "t1"], False, Preparation.of())[0].label == "a"
    with pytest.raises(BadInputError, match="channels 0000, 0001 have no names"):
        find_cohort(tmp_path / "imagesTr", ["flair", "t1"], False, Preparation.of(), name_channels=False)
