"""Finding subjects in files, folders and tables."""

from __future__ import annotations

import shutil

import pytest

from cgckit.errors import BadInputError, UsageError
from cgckit.images.cohort import Cohort


def make(root, *names):
    """Make files whose content is their name: `find` must not read them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def found(cohort):
    """The cohort as {source: {modality: file name}}."""
    return {subject.source: {m: path.name for m, path in subject.files.items()} for subject in cohort}


def test_a_folder_with_plain_names_in_a_folder_for_each_subject(tmp_path):
    make(tmp_path, *(f"P_{n}/{name}.nii.gz" for n in (2, 1) for name in ("t2", "t1ce", "seg", "flair", "t1")))
    cohort = Cohort.find([tmp_path])
    assert cohort.modalities == ("flair", "t1", "t1ce", "t2")
    assert [subject.label for subject in cohort] == ["P1", "P2"]
    assert [subject.source for subject in cohort] == ["P_1", "P_2"]
    assert all(list(subject.files) == ["flair", "t1", "t1ce", "t2"] for subject in cohort)
    assert cohort[1].files["t1ce"] == tmp_path / "P_2" / "t1ce.nii.gz"


def test_one_folder_may_be_given_by_itself(tmp_path):
    make(tmp_path, "P_1/flair.nii.gz")
    assert found(Cohort.find(str(tmp_path))) == found(Cohort.find(tmp_path)) == {"P_1": {"flair": "flair.nii.gz"}}


@pytest.mark.parametrize(
    ("stem", "endings"),
    [
        ("Brats17_2013_2_1", "_flair _t1 _t1ce _t2 _seg"),
        ("BraTS20_Training_001", "_flair _t1 _t1ce _t2 _seg"),
        ("BraTS2021_00006", "_flair _t1 _t1ce _t2 _seg"),
        ("BraTS-GLI-00000-000", "-t2f -t1n -t1c -t2w -seg"),
    ],
)
def test_brats_names_of_every_year(tmp_path, stem, endings):
    make(tmp_path, *(f"HGG/{stem}/{stem}{ending}.nii.gz" for ending in endings.split()))
    cohort = Cohort.find([tmp_path])
    assert list(found(cohort)) == [stem]
    assert cohort.modalities == ("flair", "t1", "t1ce", "t2")
    assert [path.name for path in cohort[0].files.values()] == [
        f"{stem}{ending}.nii.gz" for ending in endings.split()[:4]
    ]


def test_a_folder_that_is_itself_a_subject(tmp_path):
    make(tmp_path / "patient19", "flair.nii.gz", "t1.nii.gz", "consensus_gt.nii.gz", "t2_lesion_mask.nii.gz")
    assert found(Cohort.find([tmp_path / "patient19"])) == {"patient19": {"flair": "flair.nii.gz", "t1": "t1.nii.gz"}}


def test_a_flat_folder_of_several_subjects_is_grouped_by_stem(tmp_path):
    make(tmp_path, *(f"{p}_{m}.nii.gz" for p in ("anna", "ben") for m in ("flair", "t1", "seg")))
    assert found(Cohort.find([tmp_path])) == {
        p: {"flair": f"{p}_flair.nii.gz", "t1": f"{p}_t1.nii.gz"} for p in ("anna", "ben")
    }


def test_a_bids_dataset_with_a_contrast_agent_and_derivatives(tmp_path):
    for n in ("01", "02"):
        make(
            tmp_path / f"sub-{n}" / "anat",
            *(f"sub-{n}_{ending}.nii.gz" for ending in ("FLAIR", "T1w", "ce-gadolinium_T1w", "T2w", "label-L_mask")),
        )
    make(tmp_path / "derivatives" / "sub-01" / "anat", "sub-01_FLAIR.nii.gz")
    cohort = Cohort.find([tmp_path])
    assert [subject.label for subject in cohort] == ["01", "02"]
    assert cohort.modalities == ("flair", "t1", "t1ce", "t2")
    assert cohort[0].files["t1ce"].name == "sub-01_ce-gadolinium_T1w.nii.gz"


def test_sessions_of_bids_stay_sessions_of_one_person(tmp_path):
    make(tmp_path, *(f"sub-01/ses-{s}/anat/sub-01_ses-{s}_FLAIR.nii.gz" for s in ("a", "b")))
    cohort = Cohort.find([tmp_path])
    assert [(subject.label, subject.source) for subject in cohort] == [
        ("01_ses-a", "sub-01_ses-a"),
        ("01_ses-b", "sub-01_ses-b"),
    ]
    assert [(subject.person, subject.session, subject.person_source) for subject in cohort] == [
        ("01", "a", "sub-01"),
        ("01", "b", "sub-01"),
    ]


def test_a_brain_mask_in_the_folder_is_used_and_is_no_image(tmp_path):
    make(tmp_path / "P1", "flair.nii.gz", "brain_mask.nii.gz")
    make(tmp_path / "P2", "flair.nii.gz")
    cohort = Cohort.find([tmp_path])
    assert [subject.brain_mask for subject in cohort] == [tmp_path / "P1" / "brain_mask.nii.gz", None]


def test_brain_masks_of_a_flat_folder_go_to_their_own_subjects(tmp_path):
    make(tmp_path, *(f"{p}_{kind}.nii.gz" for p in ("anna", "ben") for kind in ("flair", "brain_mask")))
    cohort = Cohort.find([tmp_path])
    assert [subject.brain_mask.name for subject in cohort] == ["anna_brain_mask.nii.gz", "ben_brain_mask.nii.gz"]


def test_a_brain_mask_goes_to_the_longest_name_that_it_begins_with(tmp_path):
    make(tmp_path, "p1_flair.nii.gz", "p10_flair.nii.gz", "p10_brain_mask.nii.gz")
    for inputs in ([tmp_path], sorted(tmp_path.iterdir())):
        masks = {subject.source: subject.brain_mask for subject in Cohort.find(inputs)}
        assert masks == {"p1": None, "p10": tmp_path / "p10_brain_mask.nii.gz"}


def test_a_brain_mask_of_nobody_in_particular_is_not_used(tmp_path, caplog):
    make(tmp_path, "p1_flair.nii.gz", "p2_flair.nii.gz", "brain_mask.nii.gz")
    assert [subject.brain_mask for subject in Cohort.find([tmp_path])] == [None, None]
    assert "brain_mask.nii.gz" in caplog.text


def test_two_brain_masks_of_one_subject_are_refused(tmp_path):
    make(tmp_path, "P1/flair.nii.gz", "P1/brain_mask.nii.gz", "P1/brainmask_old.nii.gz")
    with pytest.raises(BadInputError, match=r"brainmask_old\.nii\.gz: a second brain mask of P1"):
        Cohort.find([tmp_path])


def test_plain_names_in_bids_folders_are_named_after_subject_and_session(tmp_path):
    make(tmp_path, "sub-01/ses-a/anat/flair.nii.gz", "sub-02/anat/flair.nii.gz")
    assert [subject.source for subject in Cohort.find([tmp_path])] == ["sub-01_ses-a", "sub-02"]


def test_bids_files_given_one_by_one_are_grouped_by_subject(tmp_path):
    names = ("FLAIR", "ce-gadolinium_T1w", "label-L_mask")
    make(tmp_path, *(f"sub-{n}/anat/sub-{n}_{name}.nii.gz" for n in (1, 2) for name in names))
    cohort = Cohort.find(sorted(tmp_path.rglob("*.nii.gz")))
    assert list(found(cohort)) == ["sub-1", "sub-2"]
    assert cohort.modalities == ("flair", "t1ce")


def test_files_are_grouped_by_stem_and_segmentations_left_aside(tmp_path):
    make(tmp_path, *(f"{p}_{m}.nii.gz" for p in ("anna", "ben") for m in ("flair", "t1", "seg")))
    cohort = Cohort.find(sorted(tmp_path.iterdir()))
    assert list(found(cohort)) == ["anna", "ben"]
    assert cohort.modalities == ("flair", "t1")


def test_files_without_a_stem_are_grouped_by_folder(tmp_path):
    make(tmp_path, *(f"{p}/{m}.nii.gz" for p in ("anna", "ben") for m in ("flair", "t1")))
    assert list(found(Cohort.find(sorted(tmp_path.glob("*/*"))))) == ["anna", "ben"]


def test_equal_stems_in_several_folders_are_told_apart_by_folder(tmp_path):
    make(tmp_path, *(f"{p}/scan_{m}.nii.gz" for p in ("anna", "ben") for m in ("flair", "t1")))
    assert list(found(Cohort.find(sorted(tmp_path.glob("*/*"))))) == ["anna", "ben"]


def test_a_file_of_no_known_modality_is_one_channel(tmp_path):
    make(tmp_path, "head.nii.gz")
    cohort = Cohort.find([tmp_path / "head.nii.gz"])
    assert (cohort.modalities, found(cohort)) == (("image",), {"head": {"image": "head.nii.gz"}})


def test_known_and_unknown_names_do_not_mix(tmp_path):
    make(tmp_path, "p1_flair.nii.gz", "p1_other.nii.gz")
    with pytest.raises(BadInputError, match=r"p1_other\.nii\.gz.*no modality"):
        Cohort.find(sorted(tmp_path.iterdir()))


def test_a_mask_alone_is_refused(tmp_path):
    make(tmp_path, "p1_seg.nii.gz")
    with pytest.raises(BadInputError, match=r"p1_seg\.nii\.gz.*segmentation"):
        Cohort.find([tmp_path / "p1_seg.nii.gz"])


def test_a_table_with_relative_paths_and_brain_masks(tmp_path):
    make(tmp_path, "data/a1.nii.gz", "data/a2.nii.gz", "data/b1.nii.gz", "data/b2.nii.gz", "data/m.nii.gz")
    table = tmp_path / "cohort.tsv"
    table.write_text(
        "subject\tT1\tFLAIR\tbrain_mask\tage\n"
        "anna\tdata/a1.nii.gz\tdata/a2.nii.gz\tdata/m.nii.gz\t51\n"
        f"ben\t{tmp_path}/data/b1.nii.gz\tdata/b2.nii.gz\tn/a\t48\n"
    )
    cohort = Cohort.find([table])
    assert cohort.modalities == ("flair", "t1")
    assert found(cohort)["anna"] == {"flair": "a2.nii.gz", "t1": "a1.nii.gz"}
    assert [subject.brain_mask for subject in cohort] == [tmp_path / "data/m.nii.gz", None]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name\tflair\nanna\ta.nii.gz\n", "no column 'subject'"),
        ("subject\tflair\nanna\tnobody.nii.gz\n", "nobody.nii.gz: no such file"),
        ("subject\tflair\nanna\n", "line 2: 1 cells under 2 columns"),
        ("subject\tflair\nanna\ta.dcm\n", "'a.dcm'"),
        ("subject\tflair\n", "no subject"),
        ("subject\tflair\n\ta.nii.gz\n", "line 2: the subject has no name"),
        ("subject\tflair\nanna\tn/a\n", "no image for anna"),
        ("subject\tflair\tt2f\nanna\ta.nii.gz\ta.nii.gz\n", "second flair"),
        ("", "no column 'subject'"),
    ],
)
def test_a_bad_table_is_refused_by_name(tmp_path, content, words):
    make(tmp_path, "a.nii.gz")
    (tmp_path / "cohort.tsv").write_text(content)
    with pytest.raises(BadInputError) as caught:
        Cohort.find([tmp_path / "cohort.tsv"])
    assert words in str(caught.value)
    assert "cohort.tsv" in str(caught.value) or "a.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_modalities_restrict_and_order(tmp_path):
    make(tmp_path, *(f"{p}/{m}.nii.gz" for p in ("P1", "P2") for m in ("flair", "t1", "t2")))
    cohort = Cohort.find([tmp_path], modalities=["T2", "flair"])
    assert cohort.modalities == ("t2", "flair")
    assert all(list(subject.files) == ["t2", "flair"] for subject in cohort)


def test_a_modality_that_nobody_has_is_refused(tmp_path):
    make(tmp_path, "P1/flair.nii.gz")
    with pytest.raises(BadInputError, match=r"no subject has modality swi; found: flair"):
        Cohort.find([tmp_path], modalities=["swi"])


def test_a_modality_asked_for_twice_is_refused(tmp_path):
    make(tmp_path, "P1/flair.nii.gz")
    with pytest.raises(UsageError, match="once"):
        Cohort.find([tmp_path], modalities=["flair", "t2f"])


def test_a_subject_that_lacks_what_others_have_is_named(tmp_path):
    make(tmp_path, "P1/flair.nii.gz", "P1/t1.nii.gz", "P2/flair.nii.gz")
    with pytest.raises(BadInputError, match="P2 has no t1"):
        Cohort.find([tmp_path])
    cohort = Cohort.find([tmp_path], allow_missing=True)
    assert cohort.modalities == ("flair", "t1")
    assert list(cohort[1].files) == ["flair"]
    assert len(Cohort.find([tmp_path], modalities=["flair"])) == 2


def test_a_subject_with_none_of_the_modalities_is_refused_even_so(tmp_path):
    make(tmp_path, "P1/flair.nii.gz", "P2/t1.nii.gz")
    with pytest.raises(BadInputError, match="P2 has no flair"):
        Cohort.find([tmp_path], modalities=["flair"], allow_missing=True)


@pytest.mark.parametrize(
    ("one", "other"), [("P_1", "P-1"), ("anna", "Anna_"), ("11_0", "1_10"), ("Önal", "Onal"), ("患者一", "患者二")]
)
def test_names_that_would_be_called_alike_get_labels_of_their_own(tmp_path, one, other):
    make(tmp_path, f"{one}/flair.nii.gz", f"{other}/flair.nii.gz")
    cohort = Cohort.find([tmp_path])
    labels = {subject.source: subject.label for subject in cohort}
    assert set(labels) == {one, other}
    assert len({label.lower() for label in labels.values()}) == 2
    assert all(label.isascii() and label.isalnum() for label in labels.values())
    # Whoever of them comes alone in another call, or with others, is called the same.
    make(tmp_path, "zoe/flair.nii.gz")
    assert labels.items() <= {subject.source: subject.label for subject in Cohort.find([tmp_path])}.items()


def test_accents_are_lost_in_labels_but_letters_are_not(tmp_path):
    make(tmp_path, *(f"{name}/flair.nii.gz" for name in ("Önal_1", "Ünal_1", "Łódź")))
    assert sorted(subject.label for subject in Cohort.find([tmp_path])) == ["Lodz", "Onal1", "Unal1"]


def test_the_same_folder_given_twice_is_a_duplicate(tmp_path):
    make(tmp_path, "P1/flair.nii.gz")
    with pytest.raises(BadInputError, match="duplicate subject"):
        Cohort.find([tmp_path, tmp_path / "P1"])


def test_two_files_for_one_modality_that_nothing_tells_apart_are_refused(tmp_path):
    make(tmp_path, "P1/P1_FLAIR_old.nii.gz", "P1/P1_FLAIR_new.nii.gz")
    with pytest.raises(BadInputError, match=r"P1_FLAIR_new.*one of two flair images of P1.*P1_FLAIR_old"):
        Cohort.find([tmp_path])


@pytest.mark.parametrize("name", ["nothing", "letter.txt", "empty"])
def test_what_holds_no_image_is_refused_by_name(tmp_path, name):
    make(tmp_path, "letter.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=name):
        Cohort.find([tmp_path / name])


def test_no_input_is_refused():
    with pytest.raises(BadInputError, match="no input"):
        Cohort.find([])


def test_a_name_without_letters_is_called_by_a_hash(tmp_path):
    make(tmp_path, "--/flair.nii.gz")
    (subject,) = Cohort.find([tmp_path])
    assert subject.source == "--"
    assert subject.label.isalnum()


def test_the_fingerprint_follows_content_and_role_not_place(tmp_path):
    make(tmp_path / "here", "P1/flair.nii.gz", "P1/t1.nii.gz")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    here, there = (Cohort.find([tmp_path / place])[0] for place in ("here", "there"))
    assert here.fingerprint() == there.fingerprint()
    (tmp_path / "there/P1/t1.nii.gz").write_text("changed")
    assert Cohort.find([tmp_path / "there"])[0].fingerprint() != here.fingerprint()
    shutil.rmtree(tmp_path / "there/P1")
    make(tmp_path / "there", "P1/x")
    shutil.copy(tmp_path / "here/P1/t1.nii.gz", tmp_path / "there/P1/flair.nii.gz")
    shutil.copy(tmp_path / "here/P1/flair.nii.gz", tmp_path / "there/P1/t1.nii.gz")
    assert Cohort.find([tmp_path / "there"])[0].fingerprint() != here.fingerprint()
    shutil.rmtree(tmp_path / "here")
    assert len(here.fingerprint()) == 64  # remembered: the files are gone


def test_one_file_under_two_roles_has_two_fingerprints(tmp_path):
    make(tmp_path, "P1/flair.nii.gz")
    shutil.copytree(tmp_path / "P1", tmp_path / "P2")
    (tmp_path / "P2/flair.nii.gz").rename(tmp_path / "P2/t1.nii.gz")
    assert Cohort.find([tmp_path / "P1"])[0].fingerprint() != Cohort.find([tmp_path / "P2"])[0].fingerprint()


def test_the_brain_mask_is_part_of_the_fingerprint(tmp_path):
    make(tmp_path, "P1/flair.nii.gz")
    before = Cohort.find([tmp_path])[0].fingerprint()
    make(tmp_path, "P1/brain_mask.nii.gz")
    assert Cohort.find([tmp_path])[0].fingerprint() != before
