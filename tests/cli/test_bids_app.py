"""BIDS in and out: `cgckit bids` as BIDS-Apps are called, and outputs that the validator accepts."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cgckit.cli.bids.validation import find_validator
from cgckit.derivatives import Derivatives
from cgckit.images.cohort import Cohort

VALIDATOR = find_validator()
QUICK = ["--device", "cpu", "--quiet"]
TINY = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "steps=3"]
SETTINGS = [word for setting in TINY for word in ("--set", setting)]
PRIOR = """
from dataclasses import dataclass
from cgckit import Prior

@dataclass
class Bright(Prior):
    def predict(self, case):
        return ((case.image[0] > 2.5) & case.brain).float()
"""


@pytest.fixture
def prior(tmp_path: Path) -> str:
    (tmp_path / "prior.py").write_text(PRIOR)
    return f"{tmp_path}/prior.py:Bright"


@pytest.fixture
def study(write_cohort, tmp_path: Path) -> Path:
    """A BIDS data set: person 01 with two sessions, 02 with one."""
    scans, root = write_cohort(3), tmp_path / "study"
    for number, (person, session) in enumerate((("01", "a"), ("01", "b"), ("02", "a")), 1):
        anat = root / f"sub-{person}/ses-{session}/anat"
        anat.mkdir(parents=True)
        for modality, suffix in (("flair", "FLAIR"), ("t1", "T1w")):
            given = scans / f"case{number}/case{number}_{modality}.nii.gz"
            given.rename(anat / f"sub-{person}_ses-{session}_{suffix}.nii.gz")
    description = {"Name": "A study", "BIDSVersion": "1.10.0", "License": "CC0", "Authors": ["A", "B"]}
    (root / "dataset_description.json").write_text(json.dumps(description))
    return root


def errors(folder: Path) -> list[str]:
    """What bids-validator calls an error in a folder."""
    command = [str(VALIDATOR), str(folder), "--json", "--ignoreWarnings"]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return [f"{issue['code']} {issue.get('location', '')}" for issue in answer["issues"]["issues"]]


def test_it_means_the_same_as_refine(cgckit, study: Path, prior: str, tmp_path: Path) -> None:
    out, same = tmp_path / "out", tmp_path / "same"
    ending = cgckit("bids", study, out, "participant", "--skip-bids-validation", "--prior", prior, *QUICK, *SETTINGS)
    assert ending.code == 0, ending.err
    assert cgckit("refine", study, "--out", same, "--prior", prior, *QUICK, *SETTINGS).code == 0
    masks = sorted(path.relative_to(out) for path in out.rglob("*_mask.nii.gz"))
    assert len(masks) == 6
    for path in masks:
        assert path.parts[1].startswith("ses-")
        assert (out / path).read_bytes() == (same / path).read_bytes()
    rows = Derivatives(out).read_table("longitudinal.tsv")
    assert [(row["participant_id"], row["session_id"]) for row in rows] == [("sub-01", "ses-a"), ("sub-01", "ses-b")]
    volumes = [float(row["lesion_ml"]) for row in rows]
    assert rows[0]["change_ml"] == "n/a"
    assert float(rows[1]["change_ml"]) == pytest.approx(volumes[1] - volumes[0], abs=2e-3)
    assert cgckit("report", out, "--quiet").code == 0


@pytest.mark.skipif(VALIDATOR is None, reason="bids-validator-deno is not installed")
@pytest.mark.parametrize("kind", ["sessions", "folders", "left out"])
def test_the_validator_finds_no_error_in_the_output(cgckit, write_cohort, study, prior, tmp_path, kind) -> None:
    scans, out, code = study, tmp_path / "out", 0
    if kind != "sessions":
        scans = write_cohort(2, name="others")
        (scans / "case1").rename(scans / "Önal, 1")
    if kind == "left out":
        (scans / "case2/case2_flair.nii.gz").write_text("no image")
        code = 6
    command = ["refine", *SETTINGS, "--device", "cpu"] if kind == "sessions" else ["prior"]
    assert cgckit(*command, scans, "--out", out, "--prior", prior, "--quiet").code == code
    assert cgckit("report", out, "--quiet").code == 0
    assert errors(out) == []


def test_participants_and_sessions_follow_their_options(cgckit, study: Path, prior: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["bids", study, out, "participant", "--skip-bids-validation", "--prior", prior, *QUICK, *SETTINGS]
    assert cgckit(*command, "--participant-label", "01", "sub-02", "--session_label", "a").code == 0
    assert sorted(Derivatives(out).subjects()) == ["01_ses-a", "02_ses-a"]
    ending = cgckit(*command, "--participant-label", "03")
    assert (ending.code, ending.err) == (
        2,
        "cgckit: no image of 03 was found; check --participant-label and --session-label\n",
    )


def test_a_filter_file_chooses_among_acquisitions(cgckit, study: Path, tmp_path: Path) -> None:
    flair = study / "sub-02/ses-a/anat/sub-02_ses-a_FLAIR.nii.gz"
    for name in ("acq-a", "acq-b"):
        shutil.copy(flair, flair.with_name(f"sub-02_ses-a_{name}_FLAIR.nii.gz"))
    (tmp_path / "filter.json").write_text(json.dumps({"flair": {"acquisition": ["b", None]}, "t1w": {"session": "a"}}))
    flair.unlink()
    out = tmp_path / "out"
    command = ["--out", out, "--filter-file", tmp_path / "filter.json", "--quiet"]
    ending = cgckit("prior", study, *command, "--prior", f"mask:{study}/**/{{subject}}*_T1w.nii.gz")
    assert ending.code == 3, "T1 is no mask: but the images were found"
    assert "neither probabilities" in ending.err
    (tmp_path / "filter.json").write_text("[")
    ending = cgckit("prior", study, *command)
    assert (ending.code, "filter.json: no JSON" in ending.err) == (3, True)


@pytest.mark.parametrize(
    ("spoil", "arguments", "words"),
    [
        (lambda study: (study / "dataset_description.json").unlink(), [], "no dataset_description.json"),
        (lambda study: shutil.rmtree(study), ["--skip-bids-validation"], "no such file or folder"),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(cgckit, study, tmp_path, spoil, arguments, words) -> None:
    spoil(study)
    ending = cgckit("bids", study, tmp_path / "out", "participant", *arguments)
    assert ending.code == 3
    assert words in ending.err
    assert len(ending.err.splitlines()) == 1


@pytest.mark.skipif(VALIDATOR is None, reason="bids-validator-deno is not installed")
def test_the_validator_is_asked_unless_it_is_to_be_skipped(cgckit, study: Path, tmp_path: Path) -> None:
    (study / "sub-01/ses-a/anat/notes.nii.gz").write_bytes(b"")
    ending = cgckit("bids", study, tmp_path / "out", "participant")
    assert ending.code == 3
    assert "no valid BIDS" in ending.err
    assert "--skip-bids-validation" in ending.err


def test_another_level_is_refused(cgckit, study: Path, tmp_path: Path) -> None:
    ending = cgckit("bids", study, tmp_path / "out", "group")
    assert ending.code == 2
    assert "there is only participant" in ending.err


def test_a_prior_refuses_a_cohort_without_what_it_needs(cgckit, write_cohort, tmp_path: Path) -> None:
    scans = write_cohort(1, modalities=("t1",))
    for name in ("gmm", "mumford-shah", "aucseg", "aucseg+gmm"):
        ending = cgckit("prior", scans, "--prior", name, "--out", tmp_path / "out")
        assert ending.code == 3
        assert "finds lesions on one of flair" in ending.err
        assert "there is only t1" in ending.err
    image = scans / "case1/case1_t1.nii.gz"
    image.rename(tmp_path / "head.nii.gz")
    ending = cgckit("prior", tmp_path / "head.nii.gz", "--prior", "aucseg", "--out", tmp_path / "out")
    assert ending.code == 0
    assert "may not find them on image" in ending.err


def test_lesions_are_looked_for_where_they_are_bright() -> None:
    import torch

    from cgckit import Case
    from cgckit.lesion_evidence.evidence import main_channel

    for modalities, expected in ((("t1", "t2"), "t2"), (("flair", "t1"), "flair"), (("t1", "t1ce"), "t1ce")):
        brain = torch.from_numpy(np.ones((2, 2, 2), bool))
        case = Case("a", torch.zeros(len(modalities), 2, 2, 2), brain, modalities, (1.0, 1.0, 1.0))
        assert case.modalities[main_channel(case)] == expected


def test_pybids_finds_masks_by_subject_and_session(study: Path, tmp_path: Path) -> None:
    bids = pytest.importorskip("bids", reason="pybids is not installed")
    cohort = Cohort.find(study)
    out = Derivatives.create(tmp_path / "out")
    out.write_description(cohort)
    for subject in cohort:
        out.write_mask(subject.label, np.zeros((40, 44, 36)), subject.files["flair"])
    layout = bids.BIDSLayout(out.root, validate=False, is_derivative=True)
    for person, sessions in (("01", ["a", "b"]), ("02", ["a"])):
        for session in sessions:
            (found,) = layout.get(subject=person, session=session, suffix="mask", extension=".nii.gz")
            assert Path(found.path) == out.refined_mask(f"{person}_ses-{session}")
