"""Cases and cohorts that are made in memory: as if they had been read from files, and refused in the same words."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from cgckit.errors import BadInputError
from cgckit.images.brain import BrainExtractor, CoarseSearch
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort
from cgckit.images.preparation import prepare

SHAPE = (24, 28, 20)
# An oblique, left-handed, anisotropic grid.
AFFINE = np.array([[-1.9, 0.1, 0.2, 20], [0.15, 2.0, -0.1, -30], [0.2, 0.1, 2.9, -25], [0, 0, 0, 1]])


def image(seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    """A stripped brain of noisy tissue in an empty background."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    tissue = np.random.default_rng(seed).normal(100, 15, SHAPE)
    return np.where(sum(axis**2 for axis in axes) < 0.8, tissue, 0).astype(dtype)


def equal(one: Case, other: Case) -> bool:
    return torch.equal(one.image, other.image) and torch.equal(one.brain, other.brain)


@pytest.mark.parametrize("given", ["arrays", "images", "big-endian and Fortran", "4-D"])
def test_what_is_in_memory_is_what_its_files_would_be(tmp_path: Path, given: str) -> None:
    arrays = {"flair": image(0), "t1": image(1)}
    for name, array in arrays.items():
        (tmp_path / "a").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "a" / f"a_{name}.nii.gz")
    cohort = Cohort.find([tmp_path / "a"])
    expected = prepare(cohort[0], cohort.modalities, CoarseSearch())
    if given == "arrays":
        found = Case.from_arrays(arrays, affine=AFFINE, subject="a")
    elif given == "images":
        found = Case.from_arrays({name: nib.load(tmp_path / "a" / f"a_{name}.nii.gz") for name in arrays}, subject="a")
    elif given == "4-D":
        found = Case.from_arrays({name: array[..., None] for name, array in arrays.items()}, affine=AFFINE, subject="a")
    else:
        odd = {name: np.asfortranarray(array).astype(">f4") for name, array in arrays.items()}
        found = Case.from_arrays(odd, affine=AFFINE, subject="a")
    assert equal(found, expected)
    np.testing.assert_allclose(found.native.affine, expected.native.affine, atol=1e-5)
    assert (found.subject, found.modalities, found.spacing) == ("a", ("flair", "t1"), expected.spacing)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int64, np.float64, np.float16])
def test_any_real_numbers_will_do(dtype: type) -> None:
    found = Case.from_arrays({"flair": image(0, dtype)}, affine=AFFINE)
    expected = Case.from_arrays({"flair": image(0, dtype).astype(np.float32)}, affine=AFFINE)
    assert equal(found, expected)


def test_a_brain_may_be_given_or_a_way_to_find_it() -> None:
    class Half(BrainExtractor):
        def extract(self, volumes):  # type: ignore[no-untyped-def]
            found = volumes["flair"].array > 0
            found[: SHAPE[0] // 2] = False
            return found

    half = image() > 0
    half[: SHAPE[0] // 2] = False
    cases = [
        Case.from_arrays({"flair": image()}, affine=AFFINE, brain=brain)
        for brain in (half, half.astype(np.int32) * 7, nib.Nifti1Image(half.astype(np.uint8), AFFINE), Half())
    ]
    assert all(equal(case, cases[0]) for case in cases)
    assert 0 < cases[0].brain.sum() < Case.from_arrays({"flair": image()}, affine=AFFINE).brain.sum()


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ({}, {}, "subject a has no image"),
        ({"flair": image()}, {"affine": None}, "flair of a: give affine="),
        ({"flair": image()}, {"affine": np.eye(3)}, r"flair of a: affine is a matrix of \[3, 3\]"),
        ({"flair": image()}, {"affine": "x"}, "flair of a: affine='x' is no"),
        (image(), {}, "images of a: give them by modality"),
        ({"flair": image()}, {"affine": np.zeros((4, 4))}, "singular"),
        ({"flair": image()[0]}, {}, "2-D image"),
        ({"flair": np.stack([image()] * 3, -1)}, {}, "several volumes"),
        ({"flair": image() * np.nan}, {}, "NaN or infinite"),
        ({"flair": np.full(SHAPE, 3.0)}, {}, "every voxel is 3"),
        ({"flair": image().astype(complex)}, {}, "complex"),
        ({"flair": image(), "t1": image()[1:]}, {}, "different grids"),
        ({"t1": image(), "T1w": image()}, {}, "name a modality twice"),
        ({"flair": image()}, {"brain": image()[1:] > 0}, "brain of a: not on the grid"),
        ({"flair": image()}, {"brain": np.zeros(SHAPE)}, "brain of a: it is empty"),
        ({"flair": image()}, {"subject": "a" * 101}, "more than 100 letters"),
        ({"flair": image()}, {"subject": 3}, "subject 3: its name must be text"),
        ({"flair": np.random.default_rng(0).normal(size=SHAPE)}, {}, "brain= in Python"),
    ],
)
def test_what_cannot_be_a_case_is_refused_in_one_line(images: dict, options: dict, words: str) -> None:
    with pytest.raises(BadInputError, match=words) as caught:
        Case.from_arrays(images, **{"affine": AFFINE, "subject": "a", **options})
    assert "\n" not in str(caught.value)


def test_a_cohort_in_memory_is_ordered_named_and_restricted_as_one_of_files() -> None:
    cases = [
        Case.from_arrays({"t1": image(1), "flair": image(0)}, affine=AFFINE, subject=name) for name in ("b_2", "a")
    ]
    cohort = Cohort.from_cases(cases)
    assert [(subject.label, subject.source) for subject in cohort] == [("a", "a"), ("b2", "b_2")]
    assert cohort.modalities == ("flair", "t1")
    assert torch.equal(prepare(cohort[0], cohort.modalities, CoarseSearch()).image, cases[1].image.flip(0))
    assert len({subject.fingerprint() for subject in cohort}) == 1, "the name is no part of the image"
    one = cohort.select(["t1"])
    assert prepare(one[0], one.modalities, CoarseSearch()).modalities == ("t1",)
    with pytest.raises(BadInputError, match="no subject has modality t2"):
        cohort.select(["t2"])


@pytest.mark.parametrize("cases", [image(), [image()], 3, ["scan.nii.gz"]])
def test_a_cohort_in_memory_is_made_of_cases(cases: object) -> None:
    with pytest.raises(BadInputError, match=r"is no case: make one of images with Case.from_arrays"):
        Cohort.from_cases(cases)  # type: ignore[arg-type]


def test_a_fingerprint_follows_the_voxels() -> None:
    prints = {
        Cohort.from_cases([Case.from_arrays({"flair": image(seed)}, affine=AFFINE)])[0].fingerprint() for seed in (0, 1)
    }
    assert len(prints) == 2


@pytest.mark.parametrize("names", [("a", "A"), ("a b", "ab"), ("患", "者")])
def test_cases_that_would_be_called_alike_get_labels_of_their_own(names: tuple[str, ...]) -> None:
    cases = [Case.from_arrays({"flair": image()}, affine=AFFINE, subject=name) for name in names]
    cohort = Cohort.from_cases(cases)
    assert len({subject.label.lower() for subject in cohort}) == 2
    assert {subject.source for subject in cohort} == set(names)
    assert all(subject.case is not None and subject.case.subject == subject.label for subject in cohort)


def test_sessions_in_memory_are_those_of_one_person() -> None:
    names = ("sub-01_ses-a", "sub-01_ses-b")
    cases = [Case.from_arrays({"flair": image()}, affine=AFFINE, subject=name) for name in names]
    cohort = Cohort.from_cases(cases)
    assert [(subject.person, subject.session) for subject in cohort] == [("01", "a"), ("01", "b")]


@pytest.mark.parametrize(("names", "words"), [((), "no input"), (("a", "a"), "duplicate subject: 'a' is there twice")])
def test_what_cannot_be_a_cohort_is_refused(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        Cohort.from_cases([Case.from_arrays({"flair": image()}, affine=AFFINE, subject=name) for name in names])


def test_every_case_of_a_cohort_has_its_modalities() -> None:
    cases = [
        Case.from_arrays({"flair": image()}, affine=AFFINE, subject="a"),
        Case.from_arrays({"t1": image()}, affine=AFFINE, subject="b"),
    ]
    with pytest.raises(BadInputError, match="a has no t1"):
        Cohort.from_cases(cases)
