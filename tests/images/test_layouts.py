"""How people keep their scans: who is a subject, with which images; what cannot be told is asked in one line."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cgckit.errors import BadInputError, UsageError
from cgckit.images.cohort import Cohort


def make(root: Path, names: str) -> Path:
    """Make files whose content is their name: nothing of an image is read to find subjects."""
    for name in names.split():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def find(root: Path, **options: Any) -> dict[str, dict[str, str]]:
    """The cohort as {label: {modality: path below the root}}."""
    cohort = Cohort.find(root, allow_missing=True, **options)
    return {s.label: {m: p.relative_to(root).as_posix() for m, p in s.files.items()} for s in cohort}


def each(prefix: str, **images: str) -> dict[str, str]:
    return {modality: prefix + name for modality, name in images.items()}


MS = "{0}/T1/{0}_T1_FLAIR.nii.gz {0}/T1/{0}_T1_T1.nii.gz {0}/T1/{0}_T1_MASK.nii.gz"
MS += " {0}/T2/{0}_T2_FLAIR.nii.gz {0}/T2/{0}_T2_T1.nii.gz"
VSD = "HGG/{0}/VSD.Brain.XX.O.MR_{1}.{2}/VSD.Brain.XX.O.MR_{1}.{2}.mha"
GLI = "BraTS-GLI-00005-{0}/BraTS-GLI-00005-{0}"

LAYOUTS: dict[str, tuple[str, dict[str, dict[str, str]]]] = {
    "BIDS beside diffusion": (
        "sub-01/anat/sub-01_T1w.nii.gz sub-01/anat/sub-01_FLAIR.nii.gz sub-01/dwi/sub-01_dwi.nii.gz "
        "sub-01/swi/sub-01_swi.nii.gz sub-01/fmap/sub-01_magnitude1.nii.gz sub-01/func/sub-01_task-rest_bold.nii.gz",
        {"01": each("sub-01/anat/sub-01_", flair="FLAIR.nii.gz", t1="T1w.nii.gz")},
    ),
    "stroke in BIDS": (
        "sub-s1/ses-0001/dwi/sub-s1_ses-0001_dwi.nii.gz sub-s1/ses-0001/dwi/sub-s1_ses-0001_adc.nii.gz",
        {"s1_ses-0001": each("sub-s1/ses-0001/dwi/sub-s1_ses-0001_", dwi="dwi.nii.gz", adc="adc.nii.gz")},
    ),
    "the highest run": (
        "sub-01/anat/sub-01_run-2_FLAIR.nii.gz sub-01/anat/sub-01_run-10_FLAIR.nii.gz",
        {"01": {"flair": "sub-01/anat/sub-01_run-10_FLAIR.nii.gz"}},
    ),
    "no second space": (
        "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz "
        "sub-01/anat/sub-01_space-MNI152NLin2009cAsym_desc-preproc_T1w.nii.gz",
        {"01": {"t1": "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz"}},
    ),
    "a template's space if there is no other": (
        "sub-01/anat/sub-01_space-MNI152NLin2009aSym_T1w.nii.gz",
        {"01": {"t1": "sub-01/anat/sub-01_space-MNI152NLin2009aSym_T1w.nii.gz"}},
    ),
    "WMH 2017": (
        "Utrecht/0/pre/FLAIR.nii.gz Utrecht/0/pre/T1.nii.gz Utrecht/0/orig/FLAIR.nii.gz Utrecht/0/orig/3DT1.nii.gz "
        "Utrecht/0/wmh.nii.gz Singapore/50/pre/FLAIR.nii.gz Singapore/50/pre/T1.nii.gz Singapore/50/wmh.nii.gz",
        {
            "0": each("Utrecht/0/pre/", flair="FLAIR.nii.gz", t1="T1.nii.gz"),
            "50": each("Singapore/50/pre/", flair="FLAIR.nii.gz", t1="T1.nii.gz"),
        },
    ),
    "MSSEG 2016": (
        "C1/P1/Raw_Data/3DFLAIR.nii.gz C1/P1/Raw_Data/3DT1GADO.nii.gz "
        "C1/P1/Preprocessed_Data/FLAIR_preprocessed.nii.gz "
        "C1/P1/Preprocessed_Data/GADO_preprocessed.nii.gz C1/P1/Masks/Consensus.nii.gz C1/P1/Masks/Brain_Mask.nii.gz",
        {"P1": each("C1/P1/Preprocessed_Data/", flair="FLAIR_preprocessed.nii.gz", t1ce="GADO_preprocessed.nii.gz")},
    ),
    "MSSEG 2: two points in time in one folder": (
        "013/flair_time01_on_middle_space.nii.gz 013/flair_time02_on_middle_space.nii.gz 013/ground_truth.nii.gz",
        {
            "013_ses-time01": {"flair": "013/flair_time01_on_middle_space.nii.gz"},
            "013_ses-time02": {"flair": "013/flair_time02_on_middle_space.nii.gz"},
        },
    ),
    "ISBI 2015": (
        "a1/preprocessed/a1_01_flair_pp.nii a1/preprocessed/a1_01_mprage_pp.nii a1/orig/a1_01_flair.nii.gz "
        "a1/preprocessed/a1_02_flair_pp.nii a1/preprocessed/a1_02_mprage_pp.nii a1/masks/a1_01_mask1.nii",
        {
            "a1_ses-01": each("a1/preprocessed/a1_01_", flair="flair_pp.nii", t1="mprage_pp.nii"),
            "a1_ses-02": each("a1/preprocessed/a1_02_", flair="flair_pp.nii", t1="mprage_pp.nii"),
        },
    ),
    "MSLesSeg": (
        f"{MS.format('P1')} {MS.format('P2')}",
        {
            f"P{p}_ses-T{t}": each(f"P{p}/T{t}/P{p}_T{t}_", flair="FLAIR.nii.gz", t1="T1.nii.gz")
            for p in (1, 2)
            for t in (1, 2)
        },
    ),
    "BraTS 2015": (
        f"{VSD.format('p1', 'Flair', 1)} {VSD.format('p1', 'T1c', 2)} "
        "HGG/p1/VSD.Brain_3more.XX.O.OT.3/VSD.Brain_3more.XX.O.OT.3.mha "
        f"{VSD.format('p2', 'Flair', 4)} {VSD.format('p2', 'T1c', 5)}",
        {
            "p1": {"flair": VSD.format("p1", "Flair", 1), "t1ce": VSD.format("p1", "T1c", 2)},
            "p2": {"flair": VSD.format("p2", "Flair", 4), "t1ce": VSD.format("p2", "T1c", 5)},
        },
    ),
    "BraTS from 2023 on, with points in time": (
        " ".join(f"{GLI.format(s)}-{m}.nii.gz" for s in ("000", "101") for m in ("t2f", "t1c", "seg")),
        {
            f"BraTSGLI00005_ses-{s}": each(GLI.format(s), flair="-t2f.nii.gz", t1ce="-t1c.nii.gz")
            for s in ("000", "101")
        },
    ),
    "weeks": (
        "P-1/week-000-1/FLAIR.nii.gz P-1/week-044/FLAIR.nii.gz P-2/week-000/FLAIR.nii.gz",
        {
            "P1_ses-week0001": {"flair": "P-1/week-000-1/FLAIR.nii.gz"},
            "P1_ses-week044": {"flair": "P-1/week-044/FLAIR.nii.gz"},
            "P2_ses-week000": {"flair": "P-2/week-000/FLAIR.nii.gz"},
        },
    ),
    "a folder a modality": (
        "train/flair/1_FLAIR_isovox.nii.gz train/flair/2_FLAIR_isovox.nii.gz train/t1/1_T1_isovox.nii.gz "
        "train/t1/2_T1_isovox.nii.gz train/gt/1_gt_isovox.nii.gz",
        {
            n: {"flair": f"train/flair/{n}_FLAIR_isovox.nii.gz", "t1": f"train/t1/{n}_T1_isovox.nii.gz"}
            for n in ("1", "2")
        },
    ),
    "a folder a modality, files named by subject alone": (
        "FLAIR/anna.nii.gz FLAIR/ben.nii.gz T1/anna.nii.gz T1/ben.nii.gz masks/anna.nii.gz",
        {p: {"flair": f"FLAIR/{p}.nii.gz", "t1": f"T1/{p}.nii.gz"} for p in ("anna", "ben")},
    ),
    "a folder a series": (
        "S01/Ax_T2_FLAIR/scan.nii.gz S01/t1_mprage/scan.nii.gz",
        {"S01": {"flair": "S01/Ax_T2_FLAIR/scan.nii.gz", "t1": "S01/t1_mprage/scan.nii.gz"}},
    ),
    "BIANCA": (
        "S01/FLAIR.nii.gz S01/T1.nii.gz S01/FLAIR_brain.nii.gz S01/T1_brain.nii.gz S01/T1_brain_mask.nii.gz",
        {"S01": each("S01/", flair="FLAIR_brain.nii.gz", t1="T1_brain.nii.gz")},
    ),
    "one image of two is stripped": (
        "S01/FLAIR.nii.gz S01/T1.nii.gz S01/T1_brain.nii.gz",
        {"S01": each("S01/", flair="FLAIR.nii.gz", t1="T1.nii.gz")},
    ),
    "an original that was kept": (
        "S01/S01_FLAIR_orig.nii.gz S01/S01_FLAIR.nii.gz S01/S01_T1.nii.gz",
        {"S01": each("S01/S01_", flair="FLAIR.nii.gz", t1="T1.nii.gz")},
    ),
    "moved to another": (
        "S01/FLAIR.nii.gz S01/T1.nii.gz S01/T1_to_FLAIR.nii.gz S01/FLAIR_to_MNI.nii.gz S01/T1_to_MNI.nii.gz",
        {"S01": each("S01/", flair="FLAIR.nii.gz", t1="T1_to_FLAIR.nii.gz")},
    ),
    "the other way round": (
        "S01/FLAIR.nii.gz S01/FLAIR_to_T1.nii.gz S01/T1.nii.gz",
        {"S01": each("S01/", flair="FLAIR_to_T1.nii.gz", t1="T1.nii.gz")},
    ),
    "as a scanner names them, in one folder": (
        "S1_t2_space_dark-fluid_sag_p2_iso_5.nii.gz S1_t1_mprage_sag_p2_iso_3.nii.gz "
        "S2_t2_space_dark-fluid_sag_p2_iso_7.nii.gz S2_t1_mprage_sag_p2_iso_2.nii.gz",
        {
            "S1": {"flair": "S1_t2_space_dark-fluid_sag_p2_iso_5.nii.gz", "t1": "S1_t1_mprage_sag_p2_iso_3.nii.gz"},
            "S2": {"flair": "S2_t2_space_dark-fluid_sag_p2_iso_7.nii.gz", "t1": "S2_t1_mprage_sag_p2_iso_2.nii.gz"},
        },
    ),
    "numbers of series": (
        "S01/3_FLAIR.nii.gz S01/7_T1.nii.gz",
        {"S01": each("S01/", flair="3_FLAIR.nii.gz", t1="7_T1.nii.gz")},
    ),
    "the modality first": (
        "FLAIR_anna.nii.gz T1_anna.nii.gz FLAIR_ben.nii.gz T1_ben.nii.gz",
        {p: {"flair": f"FLAIR_{p}.nii.gz", "t1": f"T1_{p}.nii.gz"} for p in ("anna", "ben")},
    ),
    "T1 FLAIR and T2 FLAIR": (
        "S01/Sag_T1_FLAIR.nii.gz S01/Ax_T2_FLAIR.nii.gz",
        {"S01": each("S01/", flair="Ax_T2_FLAIR.nii.gz", t1="Sag_T1_FLAIR.nii.gz")},
    ),
    "subjects that are called as masks are": (
        "tumor01/FLAIR.nii.gz lesion_02/lesion_02_FLAIR.nii.gz wmh/FLAIR.nii.gz MSSEG_03/MSSEG_03_FLAIR.nii.gz",
        {
            "tumor01": {"flair": "tumor01/FLAIR.nii.gz"},
            "lesion02": {"flair": "lesion_02/lesion_02_FLAIR.nii.gz"},
            "wmh": {"flair": "wmh/FLAIR.nii.gz"},
            "MSSEG03": {"flair": "MSSEG_03/MSSEG_03_FLAIR.nii.gz"},
        },
    ),
    "the same name in two places": (
        "Utrecht/0/FLAIR.nii.gz Amsterdam/0/FLAIR.nii.gz",
        {"Utrecht0": {"flair": "Utrecht/0/FLAIR.nii.gz"}, "Amsterdam0": {"flair": "Amsterdam/0/FLAIR.nii.gz"}},
    ),
    "suffixes of BIDS alone say which image it is": (
        "sub-1/anat/sub-1_acq-FLAIR_T1w.nii.gz sub-1/anat/sub-1_acq-T1w_MTR.nii.gz sub-1/anat/sub-1_T1map.nii.gz",
        {"1": {"t1": "sub-1/anat/sub-1_acq-FLAIR_T1w.nii.gz"}},
    ),
    "sessions of BIDS that the folder alone names": (
        "sub-1/ses-a/anat/sub-1_FLAIR.nii.gz sub-1/ses-b/anat/sub-1_FLAIR.nii.gz",
        {f"1_ses-{s}": {"flair": f"sub-1/ses-{s}/anat/sub-1_FLAIR.nii.gz"} for s in "ab"},
    ),
    "months": (
        "S1/m00/flair.nii.gz S1/m12/flair.nii.gz S2/m00/flair.nii.gz",
        {f"{s}_ses-{m}": {"flair": f"{s}/{m}/flair.nii.gz"} for s, m in (("S1", "m00"), ("S1", "m12"), ("S2", "m00"))},
    ),
    "a folder a point in time, with the subjects in it": (
        "baseline/S1/flair.nii.gz followup/S1/flair.nii.gz followup/S2/flair.nii.gz",
        {
            f"{s}_ses-{t}": {"flair": f"{t}/{s}/flair.nii.gz"}
            for t, s in (("baseline", "S1"), ("followup", "S1"), ("followup", "S2"))
        },
    ),
    "points in time in one folder": (
        "anna_tp1_flair.nii.gz anna_tp2_flair.nii.gz",
        {f"anna_ses-{t}": {"flair": f"anna_{t}_flair.nii.gz"} for t in ("tp1", "tp2")},
    ),
    "subjects that are called as modalities are": (
        "FLAIR_01/FLAIR.nii.gz FLAIR_02/FLAIR.nii.gz",
        {f"FLAIR{n}": {"flair": f"FLAIR_{n}/FLAIR.nii.gz"} for n in ("01", "02")},
    ),
    "numbered series in folders": (
        "S1/5_FLAIR/FLAIR.nii.gz S1/3_T1/T1.nii.gz",
        {"S1": each("S1/", flair="5_FLAIR/FLAIR.nii.gz", t1="3_T1/T1.nii.gz")},
    ),
    "results of fsl_anat": (
        "S1/FLAIR.nii.gz S1/T1.anat/T1.nii.gz S1/T1.anat/T1_to_MNI_lin.nii.gz S1/T1.anat/T1_fast_pve_0.nii.gz",
        {"S1": each("S1/", flair="FLAIR.nii.gz", t1="T1.anat/T1.nii.gz")},
    ),
    "perfusion maps are no CT": (
        "case_1/SMIR.XX.O.CT.34/SMIR.XX.O.CT.34.nii case_1/SMIR.XX.O.CT_CBF.35/SMIR.XX.O.CT_CBF.35.nii",
        {"case1": {"ct": "case_1/SMIR.XX.O.CT.34/SMIR.XX.O.CT.34.nii"}},
    ),
    "a mask in the space of another image": (
        "S1/S1_FLAIR.nii.gz S1/S1_lesion_T1.nii.gz",
        {"S1": {"flair": "S1/S1_FLAIR.nii.gz"}},
    ),
    "older versions below": (
        "S01/FLAIR.nii.gz S01/old/FLAIR.nii.gz",
        {"S01": {"flair": "S01/FLAIR.nii.gz"}},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_recognised(tmp_path: Path, layout: str) -> None:
    names, expected = LAYOUTS[layout]
    assert find(make(tmp_path / "data", names)) == expected


ASKED = {
    "points in time or weightings": ("P1_T1_FLAIR.nii.gz P1_T2_FLAIR.nii.gz", "weightings or points in time"),
    "two modalities in one name": ("S01/S01_T1_T2.nii.gz", "speaks of T1 and of T2"),
    "TIRM": ("S01/t2_tirm_tra.nii.gz S01/t1.nii.gz", "FLAIR .* or STIR"),
    "two names in one folder": ("anna_flair.nii.gz ben_t1.nii.gz", "same subject as ben_t1"),
    "a mask or an image": ("S01/T1.nii.gz S01/lesion_T2.nii.gz", "may be a mask"),
    "a dual echo": ("S01/PD_T2.nii.gz S01/T1.nii.gz", "speaks of PD and of T2"),
    "no description": ("imagesTr/BRATS_001.nii.gz", r"no dataset\.json beside imagesTr"),
    "an old one": ("S01/S01_FLAIR.nii.gz S01/S01_new_FLAIR.nii.gz", "same subject as S01_new_FLAIR"),
    "two of a kind": ("S01/S01_FLAIR.nii.gz S01/S01_FLAIR_new.nii.gz", "one of two flair images of S01"),
    "numbered channels": ("imagesTr/a_0000.nii.gz imagesTr/a_0001.nii.gz", "--modalities flair,t1"),
    "no modality": ("S01/head.nii.gz", "head.nii.gz does not"),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_told_is_asked_in_one_line(tmp_path: Path, case: str) -> None:
    names, words = ASKED[case]
    with pytest.raises(BadInputError, match=words) as caught:
        find(make(tmp_path / "data", names))
    assert len(str(caught.value).splitlines()) == 1


# ---- what is said


def test_what_was_chosen_is_said_once_and_what_is_worth_a_look_is_a_remark(tmp_path: Path, caplog: Any) -> None:
    subjects = " ".join(
        f"sub-{n}/anat/sub-{n}_run-1_FLAIR.nii.gz sub-{n}/anat/sub-{n}_run-2_FLAIR.nii.gz "
        f"sub-{n}/dwi/sub-{n}_dwi.nii.gz"
        for n in range(1, 9)
    )
    with caplog.at_level(logging.INFO):
        cohort = Cohort.find(make(tmp_path, subjects))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "several flair images: *_run-2_FLAIR.nii.gz is taken, not *_run-1_FLAIR.nii.gz: sub-1, sub-2, sub-3 and 5 more"
    ]
    assert sum("dwi/ is not read" in record.getMessage() for record in caplog.records) == 1
    assert cohort[0].remarks == ("several flair images: sub-1_run-2_FLAIR.nii.gz is taken",)


def test_which_version_was_taken_is_said(tmp_path: Path, caplog: Any) -> None:
    with caplog.at_level(logging.INFO):
        cohort = Cohort.find(make(tmp_path, "S1/S1_FLAIR.nii.gz S1/S1_FLAIR_bet.nii.gz S1/S1_FLAIR_bet_mask.nii.gz"))
    assert "*_FLAIR_bet.nii.gz is taken, not *_FLAIR.nii.gz: S1" in caplog.text
    assert cohort[0].brain_mask == tmp_path / "S1/S1_FLAIR_bet_mask.nii.gz"


@pytest.mark.parametrize("link", ["gone.nii.gz", "../../.git/annex/objects/gone.nii.gz"])
def test_a_dangling_link_is_a_file_of_its_subject(tmp_path: Path, link: str) -> None:
    make(tmp_path, "sub-02/anat/sub-02_FLAIR.nii.gz")
    (tmp_path / "sub-01/anat").mkdir(parents=True)
    (tmp_path / "sub-01/anat/sub-01_FLAIR.nii.gz").symlink_to(link)
    cohort = Cohort.find(tmp_path)
    assert [subject.label for subject in cohort] == ["01", "02"]
    with pytest.raises(BadInputError, match="git annex get"):
        cohort[0].load("flair")


@pytest.mark.parametrize("content", ["/annex/objects/MD5E-s1--x.nii.gz\n", "version https://git-lfs.github.com/spec\n"])
def test_what_stands_for_a_file_that_was_not_fetched_is_named(tmp_path: Path, content: str) -> None:
    make(tmp_path, "S1/flair.nii.gz")
    (tmp_path / "S1/flair.nii.gz").write_text(content)
    with pytest.raises(BadInputError, match="fetch it"):
        Cohort.find(tmp_path)[0].load("flair")


# ---- brain masks


def test_a_brain_mask_in_a_folder_of_masks_is_used(tmp_path: Path) -> None:
    make(
        tmp_path, "P1/Preprocessed_Data/FLAIR_preprocessed.nii.gz P1/Masks/Brain_Mask.nii.gz P1/Masks/Consensus.nii.gz"
    )
    assert Cohort.find(tmp_path)[0].brain_mask == tmp_path / "P1/Masks/Brain_Mask.nii.gz"


def test_a_mask_of_each_image_means_that_of_the_first(tmp_path: Path) -> None:
    make(tmp_path, "S1/FLAIR_bet.nii.gz S1/T1_bet.nii.gz S1/T1_bet_mask.nii.gz S1/FLAIR_bet_mask.nii.gz")
    assert Cohort.find(tmp_path)[0].brain_mask == tmp_path / "S1/FLAIR_bet_mask.nii.gz"


def write(path: Path, shape: tuple[int, int, int] = (4, 5, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), path)


def test_brain_masks_of_derivatives_are_used_where_they_fit(tmp_path: Path) -> None:
    for number in ("01", "02"):
        write(tmp_path / f"sub-{number}/anat/sub-{number}_FLAIR.nii.gz")
    prep = tmp_path / "derivatives/fmriprep"
    write(prep / "sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    write(prep / "sub-01/anat/sub-01_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz")
    write(prep / "sub-02/anat/sub-02_desc-brain_mask.nii.gz", (9, 9, 9))
    own = tmp_path / "derivatives/cgckit"
    write(own / "sub-02/anat/sub-02_desc-brain_mask.nii.gz")
    (own / "dataset_description.json").write_text(json.dumps({"GeneratedBy": [{"Name": "cgckit"}]}))
    masks = [subject.brain_mask for subject in Cohort.find(tmp_path)]
    assert masks == [prep / "sub-01/anat/sub-01_desc-brain_mask.nii.gz", None]


# ---- numbered channels


@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_numbered_channels_are_named_by_the_description(tmp_path: Path, key: str) -> None:
    make(tmp_path, "D/imagesTr/a_0000.nii.gz D/imagesTr/a_0001.nii.gz D/labelsTr/a.nii.gz D/imagesTs/b_0000.nii.gz")
    make(tmp_path, "D/imagesTs/b_0001.nii.gz")
    (tmp_path / "D/dataset.json").write_text(json.dumps({key: {"0": "FLAIR", "1": "t1gd"}}))
    expected = {
        "a": each("D/imagesTr/a_", flair="0000.nii.gz", t1ce="0001.nii.gz"),
        "b": each("D/imagesTs/b_", flair="0000.nii.gz", t1ce="0001.nii.gz"),
    }
    assert find(tmp_path) == expected


def test_numbered_channels_may_be_named_in_their_order(tmp_path: Path) -> None:
    make(tmp_path, "imagesTr/a_0000.nii.gz imagesTr/a_0001.nii.gz")
    expected = {"a": {"t1": "imagesTr/a_0000.nii.gz", "flair": "imagesTr/a_0001.nii.gz"}}
    assert find(tmp_path, modalities=["T1w", "flair"]) == expected
    given = Cohort.find(sorted((tmp_path / "imagesTr").iterdir()), ["t1", "flair"])
    assert [subject.label for subject in given] == ["a"]


def test_files_of_several_volumes_are_read_by_the_description(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(100, 9, (8, 9, 10, 2)).astype(np.float32)
    (tmp_path / "imagesTr").mkdir()
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "imagesTr/BRATS_001.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "FLAIR", "1": "T1w"}}))
    (subject,) = Cohort.find(tmp_path)
    for number, modality in enumerate(("flair", "t1")):
        volume = subject.load(modality)
        assert volume.grid.shape == (8, 9, 10)
        np.testing.assert_array_equal(volume.array, array[..., number])
    swapped = json.dumps({"modality": {"1": "FLAIR", "0": "T1w"}})
    (tmp_path / "dataset.json").write_text(swapped)
    assert Cohort.find(tmp_path)[0].fingerprint() != subject.fingerprint()


# ---- what is wanted


ACQUISITIONS = (
    "sub-01/anat/sub-01_acq-a_FLAIR.nii.gz sub-01/anat/sub-01_acq-b_FLAIR.nii.gz sub-01/anat/sub-01_T1w.nii.gz"
)


@pytest.mark.parametrize(
    ("entities", "name"),
    [
        ({"acquisition": "b"}, "acq-b_FLAIR"),
        ({"acq": ["x", "b"]}, "acq-b_FLAIR"),
        ({"acquisition": "*", "run": None, "datatype": "anat", "suffix": "FLAIR"}, "acq-a_FLAIR"),
    ],
)
def test_filters_choose_by_entities(tmp_path: Path, entities: dict[str, object], name: str) -> None:
    found = find(make(tmp_path, ACQUISITIONS), filters={"FLAIR": entities})
    assert found["01"] == each("sub-01/anat/sub-01_", flair=f"{name}.nii.gz", t1="T1w.nii.gz")


def test_filters_are_mappings_by_modality(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="an object for each modality"):
        find(make(tmp_path, ACQUISITIONS), filters={"flair": "acq-b"})


def test_participants_and_sessions_may_be_named(tmp_path: Path) -> None:
    make(tmp_path, " ".join(f"sub-{p}/ses-{s}/anat/sub-{p}_ses-{s}_FLAIR.nii.gz" for p in (1, 2) for s in (1, 2)))
    assert list(find(tmp_path, participants=["sub-2"])) == ["2_ses-1", "2_ses-2"]
    assert list(find(tmp_path, participants=["1"], sessions=["ses-2"])) == ["1_ses-2"]
    with pytest.raises(UsageError, match="no image of 3"):
        find(tmp_path, participants=["3"])


def test_a_table_of_participants_names_those_of_its_data_set(tmp_path: Path, caplog: Any) -> None:
    make(tmp_path, "sub-01/anat/sub-01_FLAIR.nii.gz sub-02/anat/sub-02_FLAIR.nii.gz")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-02\t51\nsub-03\t40\n")
    assert [subject.label for subject in Cohort.find(tmp_path / "participants.tsv")] == ["02"]
    assert "there is no image: sub-03" in caplog.text


# ---- tables and mappings


def test_a_table_may_have_sessions(tmp_path: Path) -> None:
    make(tmp_path, "a.nii.gz b.nii.gz")
    (tmp_path / "t.tsv").write_text("subject\tsession\tflair\nanna\t1\ta.nii.gz\nanna\tses-2\tb.nii.gz\n")
    cohort = Cohort.find(tmp_path / "t.tsv")
    assert [(subject.person, subject.session) for subject in cohort] == [("anna", "1"), ("anna", "2")]
    (tmp_path / "t.tsv").write_text("subject\tflair\nanna\ta.nii.gz\nanna\tb.nii.gz\n")
    with pytest.raises(BadInputError, match="duplicate subject: 'anna' has two rows"):
        Cohort.find(tmp_path / "t.tsv")


def test_mappings_are_rows_of_a_table(tmp_path: Path) -> None:
    make(tmp_path, "a.nii.gz b.nii.gz m.nii.gz")
    rows = [
        {"subject": "anna", "flair": tmp_path / "a.nii.gz", "brain_mask": str(tmp_path / "m.nii.gz")},
        {"subject": "ben", "T2f": tmp_path / "b.nii.gz", "t1": None},
    ]
    cohort = Cohort.find(rows)
    assert [(s.label, s.files["flair"].name, s.brain_mask and s.brain_mask.name) for s in cohort] == [
        ("anna", "a.nii.gz", "m.nii.gz"),
        ("ben", "b.nii.gz", None),
    ]
    assert Cohort.find(rows[0])[0].label == "anna"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"flair": "a.nii.gz"}, "subject 1 of the list: no 'subject'"),
        ({"subject": "anna"}, "no image for anna"),
        ({"subject": "anna", "flair": "gone.nii.gz"}, r"gone.nii.gz: no such file.*subject 1 of the list, key flair"),
        ({"subject": "anna", "flair": "a.dcm"}, "no image file"),
    ],
)
def test_a_mapping_that_cannot_be_read_is_one_line(row: dict[str, object], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        Cohort.find([row])


def test_the_folder_may_be_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "anna", "flair.nii.gz")
    monkeypatch.chdir(tmp_path / "anna")
    assert [subject.label for subject in Cohort.find(".")] == ["anna"]
    assert [subject.label for subject in Cohort.find(os.curdir + "/flair.nii.gz")] == ["anna"]
