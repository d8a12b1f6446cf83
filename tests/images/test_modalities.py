"""Reading modalities and masks from file names."""

from __future__ import annotations

import pytest

from cgckit.images.layouts.names import is_brain_mask, is_mask, read_name
from cgckit.images.modalities import canonical_modality, in_canonical_order


@pytest.mark.parametrize(
    ("name", "subject", "modality"),
    [
        ("flair.nii.gz", "", "flair"),
        ("T1.nii", "", "t1"),
        ("Brats17_CBICA_AAB_1_t1ce.nii.gz", "Brats17_CBICA_AAB_1", "t1ce"),
        ("BraTS20_Training_001_t2.nii.gz", "BraTS20_Training_001", "t2"),
        ("BraTS2021_00006_flair.nii.gz", "BraTS2021_00006", "flair"),
        ("BraTS-GLI-00000-000-t2f.nii.gz", "BraTS-GLI-00000-000", "flair"),
        ("BraTS-GLI-00000-000-t1n.nii.gz", "BraTS-GLI-00000-000", "t1"),
        ("BraTS-GLI-00000-000-t1c.nii.gz", "BraTS-GLI-00000-000", "t1ce"),
        ("BraTS-GLI-00000-000-t2w.nii.gz", "BraTS-GLI-00000-000", "t2"),
        ("VSD.Brain.XX.O.MR_T1c.36.nii", "VSD.Brain.XX.O", "t1ce"),
        ("UPENN-GBM-00001_11_T1GD.nii.gz", "UPENN-GBM-00001_11", "t1ce"),
        ("sub-01_FLAIR.nii.gz", "sub-01", "flair"),
        ("sub-01_ses-2_T1w.nii.gz", "sub-01_ses-2", "t1"),
        ("sub-01_ce-gadolinium_T1w.nii.gz", "sub-01", "t1ce"),
        ("sub-01_space-T1w_FLAIR.nii.gz", "sub-01", "flair"),
        ("p1_t2_flair.nii.gz", "p1", "flair"),
        ("p1_T1_ce.nii.gz", "p1", "t1ce"),
        ("p1_T1_post.nii.gz", "p1", "t1ce"),
        ("study_T2_patient5_flair.nii.gz", "study_T2_patient5", "flair"),
        ("training01_01_mprage_pp.nii", "training01_01", "t1"),
        ("CQ500CT12_ct.nii.gz", "CQ500CT12", "ct"),
        ("CQ500CT12.nii.gz", "CQ500CT12", "ct"),
        ("CQ500-CT-12.nii.gz", "CQ500-CT-12", "ct"),
        ("CQ500CT12_CT_PLAIN_THIN.nii.gz", "CQ500CT12", "ct"),
        ("p7_ncct.nii.gz", "p7", "ct"),
        ("S01_t2_space_dark-fluid_sag_p2_iso_5.nii.gz", "S01", "flair"),
        ("t2_tirm_tra_dark-fluid_3.nii.gz", "", "flair"),
        ("t1_tirm_tra_dark-fluid.nii.gz", "", "t1"),
        ("Sag_T1_FLAIR.nii.gz", "", "t1"),
        ("Ax_T1_FLAIR_post.nii.gz", "", "t1ce"),
        ("Ax_T2_FLAIR.nii.gz", "", "flair"),
        ("T2_SPACE_FLAIR.nii", "", "flair"),
        ("t1_mprage_sag_post.nii.gz", "", "t1ce"),
        ("T1_to_FLAIR.nii.gz", "", "t1"),
        ("T1toFLAIR.nii.gz", "", "t1"),
        ("reg_3DT1_to_FLAIR.nii.gz", "", "t1"),
        ("FLAIR_in_MNI.nii.gz", "", "flair"),
        ("rT1.nii", "", "t1"),
        ("3DT1GADO.nii.gz", "", "t1ce"),
        ("WMH_001_FLAIR.nii.gz", "WMH_001", "flair"),
        ("tumor01_T1.nii.gz", "tumor01", "t1"),
        ("MSSEG_01_T1.nii.gz", "MSSEG_01", "t1"),
        ("seg01_T2.nii.gz", "seg01", "t2"),
        ("lesion_01_FLAIR.nii.gz", "lesion_01", "flair"),
        ("FLAIR_tumor01.nii.gz", "", "flair"),
        ("FLAIR_WMH_001.nii.gz", "", "flair"),
        ("患者一_FLAIR.nii.gz", "患者一", "flair"),
        ("scan.nii.gz", "scan", None),
        ("t1000.nii.gz", "t1000", None),
    ],
)
def test_names_are_split_into_subject_and_modality(name, subject, modality):
    found = read_name(name)
    assert (found.kind, found.subject, found.modality, found.doubt) == ("image", subject, modality, "")


@pytest.mark.parametrize(
    "name",
    [
        "seg.nii.gz",
        "BraTS2021_00006_seg.nii.gz",
        "BraTS-GLI-00000-000-seg.nii.gz",
        "W39_1998.09.19_Segm.nii",
        "p1_flair_mask.nii.gz",
        "p1_lesion_mask_t1.nii.gz",
        "training01_01_mask1.nii",
        "brainmask_T1.nii.gz",
        "sub-01_desc-brain_mask.nii.gz",
        "sub-01_label-L_probseg.nii.gz",
        "sub-01_dseg.nii.gz",
        "label.nii.gz",
        "labels_t1.nii.gz",
        "wmh.nii.gz",
        "VSD.Brain_3more.XX.O.OT.6560.nii",
        "p1_flair_tumor.nii.gz",
        "UCSF_tumor_segmentation.nii.gz",
        "p1_T1_GT.nii.gz",
    ],
)
def test_segmentations_are_known_by_their_names(name):
    assert is_mask(name)


@pytest.mark.parametrize("name", ["flair.nii.gz", "otto_t1.nii.gz", "Segovia2_T1.nii.gz", "masked_FLAIR.nii.gz"])
def test_images_are_not_taken_for_segmentations(name):
    assert not is_mask(name)


@pytest.mark.parametrize(("name", "target"), [("T1_to_FLAIR", "flair"), ("T1_2_MNI", "template"), ("T1_FLAIR", None)])
def test_where_an_image_was_moved_to_is_read_from_its_name(name, target):
    assert read_name(f"{name}.nii.gz").target == target


@pytest.mark.parametrize("name", ["t2_tirm_tra.nii.gz", "P1_T1_T2.nii.gz", "S01_lesion_T1.nii.gz"])
def test_a_name_that_may_mean_two_things_says_so(name):
    assert read_name(name).doubt


@pytest.mark.parametrize("name", ["T1_localizer.nii.gz", "T1_pve_1.nii.gz", "T1_map.nii.gz"])
def test_what_is_derived_of_an_image_is_no_image(name):
    assert read_name(name).kind == "other"


def test_words_of_the_folders_name_say_nothing_of_the_image():
    found = read_name("MSSEG_mask_FLAIR.nii.gz", ("MSSEG_mask",))
    assert (found.kind, found.owner, found.modality) == ("image", "MSSEG_mask", "flair")
    assert read_name("P1_T1_FLAIR.nii.gz", ("P1", "P1_T1")).modality == "flair"


def test_brain_masks_are_known_by_their_names():
    assert is_brain_mask("S01_FLAIR_bet_mask.nii.gz")
    assert is_brain_mask("T1_brain_mask.nii.gz")
    assert is_brain_mask("sub-01_desc-brain_mask.nii.gz")
    assert is_brain_mask("brainmask.nii.gz")
    assert not is_brain_mask("brain_lesion_mask.nii.gz")


def test_names_that_users_give_are_made_canonical():
    assert [canonical_modality(name) for name in ("FLAIR", "T2f", "T1-Gd", "T2w", "Perfusion")] == [
        "flair",
        "flair",
        "t1ce",
        "t2",
        "perfusion",
    ]


def test_the_canonical_order_puts_flair_first_and_strangers_last():
    assert in_canonical_order(["zeta", "t2", "alpha", "swi", "t1ce", "flair", "t1", "t1"]) == (
        "flair",
        "t1",
        "t1ce",
        "t2",
        "swi",
        "alpha",
        "zeta",
    )
