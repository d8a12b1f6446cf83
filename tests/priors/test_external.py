"""Masks and probability maps from files: found by subject, checked, and moved onto the working grid."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from cgckit.errors import BadInputError, UsageError
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.images.grid import Grid
from cgckit.priors.external import ExternalPrior
from cgckit.testing import check_prior, simulated_cases

NATIVE = Grid((20, 24, 18), np.array([[-2.0, 0, 0, 19], [0, 2, 0, -23], [0, 0, 2, -17], [0, 0, 0, 1]]))
LESION = (slice(6, 10), slice(8, 14), slice(5, 9))


@pytest.fixture
def case() -> Case:
    """A case whose working grid is the files' grid flipped to RAS; its label is the source without the underscore."""
    grid = NATIVE.canonical()
    brain = torch.zeros(grid.shape, dtype=torch.bool)
    brain[2:-2, 2:-2, 2:-2] = True
    image = torch.zeros(1, *grid.shape)
    return Case("Case01", image, brain, ("flair",), grid.spacing, grid, NATIVE, source="Case_01")


@pytest.fixture
def mask() -> np.ndarray:
    array = np.zeros(NATIVE.shape, dtype=np.float32)
    array[LESION] = 1
    return array


def save(path: Path, array: np.ndarray, affine: np.ndarray = NATIVE.affine) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def test_a_mask_lands_where_it_was_drawn(tmp_path, case, mask):
    save(tmp_path / "Case_01.nii.gz", mask.astype(np.uint8))
    prior = ExternalPrior(f"{tmp_path}/{{subject}}.nii.gz")
    found = prior.predict(case).probability
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(case.to_native(found.numpy() >= 0.5), mask > 0)
    assert "mask" in prior.predict(case).note


def test_a_probability_map_keeps_its_values(tmp_path, case, mask):
    save(tmp_path / "Case_01.nii.gz", 0.3 * mask)
    found = ExternalPrior(f"{tmp_path}/{{subject}}.nii.gz").predict(case).probability
    np.testing.assert_allclose(case.to_native(found.numpy()), 0.3 * mask, atol=1e-6)


def test_labels_above_zero_are_lesion(tmp_path, case, mask):
    labels = (2 * mask).astype(np.int16)
    labels[LESION[0].start] *= 2
    save(tmp_path / "Case_01.nii.gz", labels)
    prior = ExternalPrior(f"{tmp_path}/{{subject}}.nii.gz")
    assert set(np.unique(prior.predict(case).probability)) == {0.0, 1.0}
    assert "labels" in prior.predict(case).note


def test_an_empty_mask_is_read(tmp_path, case, mask):
    save(tmp_path / "Case_01.nii.gz", 0 * mask)
    assert not ExternalPrior(f"{tmp_path}/{{subject}}.nii.gz").predict(case).probability.any()


def test_nothing_is_left_outside_the_brain(tmp_path, case, mask):
    save(tmp_path / "Case_01.nii.gz", np.ones_like(mask))
    found = ExternalPrior(f"{tmp_path}/{{subject}}.nii.gz").predict(case).probability
    assert torch.equal(found > 0, case.brain)


@pytest.mark.parametrize("name", ["Case_01", "Case01"])
def test_files_are_found_by_source_name_or_by_label(tmp_path, case, mask, name):
    file = save(tmp_path / f"{name}.nii.gz", mask)
    assert ExternalPrior(f"{tmp_path}/{{subject}}.nii.gz").find_file(case.subject, case.source) == file


def test_the_source_name_comes_first(tmp_path, case, mask):
    save(tmp_path / "Case01.nii.gz", 0 * mask)
    file = save(tmp_path / "Case_01.nii.gz", mask)
    assert ExternalPrior(f"{tmp_path}/{{subject}}.nii.gz").find_file(case.subject, case.source) == file


def test_wildcards_and_several_placeholders(tmp_path, case, mask):
    file = save(tmp_path / "Case_01" / "anat" / "Case_01_v2_seg.nii.gz", mask)
    save(tmp_path / "Case_010" / "anat" / "Case_010_v2_seg.nii.gz", mask)
    assert (
        ExternalPrior(f"{tmp_path}/{{subject}}/*/{{subject}}_*_seg.nii.gz").find_file(case.subject, case.source) == file
    )
    assert ExternalPrior(f"{tmp_path}/**/{{subject}}_v?_seg.nii.gz").find_file(case.subject, case.source) == file


def test_wildcards_in_a_subjects_name_are_letters(tmp_path, case, mask):
    save(tmp_path / "a1.nii.gz", mask)
    odd = dataclasses.replace(case, subject="a1x", source="a[1]")
    with pytest.raises(BadInputError, match=r"no file for subject a\[1\] or a1x"):
        ExternalPrior(f"{tmp_path}/{{subject}}.nii.gz").find_file(odd.subject, odd.source)


def test_a_missing_file_names_subject_and_pattern(tmp_path, case):
    pattern = f"{tmp_path}/{{subject}}.nii.gz"
    prior, subject = ExternalPrior(pattern), Subject(case.subject, case.source, {})
    for call in (lambda: prior.predict(case).probability, lambda: prior.fingerprint(subject)):
        with pytest.raises(BadInputError) as caught:
            call()
        assert "Case_01" in str(caught.value)
        assert pattern in str(caught.value)


def test_several_files_are_ambiguous(tmp_path, case, mask):
    save(tmp_path / "Case_01_a.nii.gz", mask)
    save(tmp_path / "Case_01_b.nii.gz", mask)
    with pytest.raises(BadInputError, match="2 files match for subject Case_01"):
        ExternalPrior(f"{tmp_path}/{{subject}}_*.nii.gz").predict(case)


def test_another_grid_is_refused(tmp_path, case, mask):
    prior = ExternalPrior(f"{tmp_path}/{{subject}}.nii.gz")
    save(tmp_path / "Case_01.nii.gz", mask[1:])
    with pytest.raises(BadInputError, match=r"Case_01\.nii\.gz.*images of Case_01.*\(19, 24, 18\).*\(20, 24, 18\)"):
        prior.predict(case)
    save(tmp_path / "Case_01.nii.gz", mask, case.grid.affine)
    with pytest.raises(BadInputError, match="affines differ"):
        prior.predict(case)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda mask: mask - 0.5, "neither probabilities"),
        (lambda mask: 100 * mask + 0.5, "neither probabilities"),
        (lambda mask: -3 * mask, "neither probabilities"),
        (lambda mask: np.where(mask > 0, np.nan, 0), "NaN"),
    ],
)
def test_values_that_are_no_probability_are_refused(tmp_path, case, mask, change, reason):
    file = save(tmp_path / "Case_01.nii.gz", change(mask).astype(np.float32))
    with pytest.raises(BadInputError, match=reason) as caught:
        ExternalPrior(f"{tmp_path}/{{subject}}.nii.gz").predict(case)
    assert str(file) in str(caught.value)


def test_fingerprint_follows_the_content(tmp_path, case, mask):
    prior = ExternalPrior(f"{tmp_path}/{{subject}}.nii")
    prints = []
    for array in (mask, 0 * mask, mask):
        save(tmp_path / "Case_01.nii", array)
        prints.append(prior.fingerprint(Subject(case.subject, case.source, {})))
    assert prints[0] == prints[2]
    assert prints[0] != prints[1]


@pytest.mark.parametrize("pattern", ["", "fixed.nii.gz"])
def test_a_pattern_without_a_subject_is_refused(pattern):
    with pytest.raises(UsageError, match="subject"):
        ExternalPrior(pattern)


def test_keeps_the_contract(tmp_path):
    for case in simulated_cases():
        save(tmp_path / f"{case.subject}.nii.gz", case.brain.numpy().astype(np.uint8), case.native.affine)
    check_prior(lambda: ExternalPrior(f"{tmp_path}/{{subject}}.nii.gz"))
