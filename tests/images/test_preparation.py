"""From files to a case on the working grid, and to coarser grids."""

from __future__ import annotations

from unittest import mock

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from nibabel.orientations import aff2axcodes
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cgckit.errors import BadInputError, UsageError
from cgckit.images import preparation, working_grid
from cgckit.images.brain import CoarseSearch
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.preparation import resample_case, transfer

RADIUS = 30.0  # of the simulated brain, mm
WAVELENGTH = 40.0  # of the smooth pattern in it, mm


def oblique(spacing, flip=(1, 1, 1), degrees=(12, -8, 20)):
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    return turn @ np.diag(np.multiply(spacing, flip))


# Direction columns in mm a voxel, and the shape that covers the brain.
GRIDS = {
    "ras": (np.diag([1.0, 1, 1]), (80, 76, 72)),
    "las": (np.diag([-1.0, 1, 1]), (80, 76, 72)),
    "permuted": (np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0.0]]), (76, 72, 80)),
    "oblique": (oblique((1, 1, 1)), (88, 88, 88)),
    "oblique, left-handed, anisotropic": (oblique((0.8, -1.2, 2.5)), (110, 76, 38)),
    "0.5 x 0.5 x 5 mm": (np.diag([0.5, 0.5, 5.0]), (140, 140, 18)),
}


def prepare(subject, modalities, spacing=1.0):
    """`preparation.prepare`, on a working grid of so many mm."""
    with mock.patch.object(working_grid, "IMAGE_SPACING", spacing):
        return preparation.prepare(subject, modalities, CoarseSearch())


def grid_affine(name):
    """The affine that puts the world's origin into the middle of the grid, a fraction of a voxel off."""
    directions, shape = GRIDS[name]
    affine = np.eye(4)
    affine[:3, :3] = directions
    affine[:3, 3] = -directions @ ((np.array(shape) - 1) / 2 + (0.3, -0.2, 0.1))
    return affine, shape


def world(affine, shape):
    return apply_affine(affine, np.stack(np.indices(shape), axis=-1))


def pattern(points):
    """A smooth function of the world, about 100."""
    return 100 + 20 * np.sin(2 * np.pi * points / WAVELENGTH).sum(axis=-1)


def in_brain(points):
    return np.linalg.norm(points, axis=-1) < RADIUS


def save(path, array, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def subject_of(**files):
    mask = files.pop("brain_mask", None)
    return Subject("p1", "p_1", files, mask)


def brain_subject(folder, name):
    affine, shape = grid_affine(name)
    points = world(affine, shape)
    array = np.where(in_brain(points), pattern(points), 0).astype(np.float32)
    return subject_of(flair=save(folder / "flair.nii.gz", array, affine)), array, affine


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_the_working_grid_is_canonical_isotropic_and_holds_the_brain(tmp_path, name, spacing):
    subject, _, affine = brain_subject(tmp_path, name)
    case = prepare(subject, ["flair"], spacing)
    assert aff2axcodes(case.grid.affine) == ("R", "A", "S")
    np.testing.assert_allclose(case.spacing, spacing, rtol=0.01)
    assert case.image.shape == (1, *case.grid.shape)
    assert (case.image.dtype, case.brain.dtype) == (torch.float32, torch.bool)
    np.testing.assert_allclose(case.native.affine, affine, atol=1e-4)
    # The axes are those of the file, so an oblique grid stays oblique.
    angles = np.abs((affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).T @ case.grid.affine[:3, :3]) / spacing
    np.testing.assert_allclose(np.sort(angles, axis=None), [0] * 6 + [1] * 3, atol=1e-2)
    points = world(case.grid.affine, case.grid.shape)
    voxel = np.linalg.norm(affine[:3, :3] @ np.ones(3)) + spacing * np.sqrt(3)
    radii = np.linalg.norm(points, axis=-1)
    assert case.brain.numpy()[radii < RADIUS - voxel].all()
    assert not case.brain.numpy()[radii > RADIUS + voxel].any()
    assert not case.image[0][~case.brain].any()


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_a_smooth_map_comes_back_to_where_it_was(tmp_path, name, spacing):
    subject, array, affine = brain_subject(tmp_path, name)
    case = prepare(subject, ["flair"], spacing)
    brain = array > 0
    values = array[brain]
    median = np.median(values)
    scale = 1.4826 * np.median(np.abs(values - median))
    back = case.to_native(case.image[0])
    assert back.shape == array.shape
    # Linear interpolation and box averages over h are each off by at most h^2 / 8 of the second derivative. Median
    # and MAD are those of other samples of the same function, so of values off by no more than that, either.
    steps = np.maximum(np.linalg.norm(affine[:3, :3], axis=0), spacing)
    curvature = 20 * (2 * np.pi / WAVELENGTH) ** 2
    bound = 2 * (steps**2).sum() / 8 * curvature
    depth = ndimage.distance_transform_edt(brain, sampling=np.linalg.norm(affine[:3, :3], axis=0))
    interior = depth > 2 * steps.max()
    assert interior.sum() > 1000
    # Scaled by the clean function's own spread; a shift of one voxel would be off by 20 * 2 pi / 40 a mm.
    restored = back[interior] * scale + median
    np.testing.assert_array_less(np.abs(restored - array[interior]), bound * (1 + np.abs(back[interior])))
    np.testing.assert_allclose(restored.mean(), array[interior].mean(), atol=bound)


@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_there_is_a_margin_around_the_brain(tmp_path, spacing):
    subject, _, _ = brain_subject(tmp_path, "ras")
    brain = prepare(subject, ["flair"], spacing).brain.numpy()
    margin = int(4 / spacing)
    for axis in range(3):
        covered = np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))
        assert covered[0] >= margin
        assert brain.shape[axis] - 1 - covered[-1] >= margin


def test_at_the_same_spacing_voxels_are_copied_not_interpolated(tmp_path):
    subject, array, _ = brain_subject(tmp_path, "permuted")
    case = prepare(subject, ["flair"], 1.0)
    median = np.median(array[array > 0])
    scale = 1.4826 * np.median(np.abs(array[array > 0] - median))
    expected = ((array[array > 0] - median) / scale).clip(-5, 10)
    np.testing.assert_allclose(np.sort(case.image[0][case.brain].numpy()), np.sort(expected), rtol=1e-5, atol=1e-6)


def test_channels_have_median_zero_and_unit_mad_whatever_the_outliers(tmp_path):
    _, array, affine = brain_subject(tmp_path, "ras")
    wild = array.copy()
    wild[40:43, 38:41, 36:39] = 32767
    subject = subject_of(
        flair=save(tmp_path / "flair.nii.gz", wild, affine), t1=save(tmp_path / "t1.nii.gz", array, affine)
    )
    case = prepare(subject, ["t1", "flair"])
    for channel in case.image.numpy():
        values = channel[case.brain.numpy()]
        assert abs(np.median(values)) < 1e-4
        assert np.median(np.abs(values)) == pytest.approx(1 / 1.4826, rel=1e-3)
    assert case.channel("flair").max() == 10
    quiet = np.abs(array - wild) == 0
    assert quiet.sum() == array.size - 27
    difference = np.sort((case.channel("flair") - case.channel("t1")).abs().flatten().numpy())
    assert difference[:-27].max() < 0.01


def test_a_missing_modality_is_a_zero_channel(tmp_path):
    subject, _, _ = brain_subject(tmp_path, "ras")
    case = prepare(subject, ["t1", "flair"])
    assert case.modalities == ("t1", "flair")
    assert not case.channel("t1").any()
    assert case.channel("flair").any()


def test_a_given_brain_mask_is_used(tmp_path):
    subject, array, affine = brain_subject(tmp_path, "ras")
    mask = np.zeros(array.shape, np.uint8)
    mask[30:50, 30:50, 30:50] = 1
    given = subject_of(**subject.files, brain_mask=save(tmp_path / "mask.nii.gz", mask, affine))
    case = prepare(given, ["flair"])
    assert case.brain.sum() == 20**3
    np.testing.assert_array_equal(case.to_native(case.brain), mask.astype(bool))


def test_images_on_different_grids_are_refused_by_both_names(tmp_path):
    _, array, affine = brain_subject(tmp_path, "ras")
    moved = affine.copy()
    moved[2, 3] += 1
    subject = subject_of(
        flair=save(tmp_path / "flair.nii.gz", array, affine), t1=save(tmp_path / "t1.nii.gz", array, moved)
    )
    with pytest.raises(BadInputError, match=r"t1\.nii\.gz.*flair\.nii\.gz.*different grids") as caught:
        prepare(subject, ["flair", "t1"])
    assert "\n" not in str(caught.value)


def test_an_image_that_is_constant_inside_the_brain_is_refused(tmp_path):
    _, array, affine = brain_subject(tmp_path, "ras")
    flat = save(tmp_path / "flair.nii.gz", np.where(array > 0, 7, 0).astype(np.int16), affine)
    with pytest.raises(BadInputError, match=r"flair\.nii\.gz: every voxel inside the brain is 7"):
        prepare(subject_of(flair=flat), ["flair"])


def test_coarse_quantisation_falls_back_to_the_standard_deviation(tmp_path):
    _, array, affine = brain_subject(tmp_path, "ras")
    steps = np.where(array > 150, 2, 1) * (array > 0)
    case = prepare(subject_of(flair=save(tmp_path / "flair.nii.gz", steps.astype(np.uint8), affine)), ["flair"])
    values = case.image[0][case.brain].numpy()
    deviation = np.where(array > 150, 2, 1)[array > 0].std()
    np.testing.assert_allclose(np.unique(values), [0, min(10, 1 / deviation)], rtol=1e-5)


def test_none_of_the_modalities_is_refused(tmp_path):
    subject, _, _ = brain_subject(tmp_path, "ras")
    with pytest.raises(BadInputError, match="p_1 has none of: t2"):
        prepare(subject, ["t2"])


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan")])
def test_a_spacing_that_is_not_positive_is_refused(tmp_path, spacing):
    subject, _, _ = brain_subject(tmp_path, "ras")
    with pytest.raises(UsageError, match="spacing"):
        resample_case(prepare(subject, ["flair"]), spacing)


def test_preparation_is_deterministic(tmp_path):
    subject, _, _ = brain_subject(tmp_path, "oblique, left-handed, anisotropic")
    first, second = (prepare(subject, ["flair"]) for _ in range(2))
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.brain, second.brain)


def block_case(value=None):
    """A case made in memory: a cube of brain, 20 voxels of 1 mm wide, from voxel 5 on."""
    brain = torch.zeros(30, 30, 30, dtype=torch.bool)
    brain[5:25, 5:25, 5:25] = True
    image = torch.randn(2, 30, 30, 30, generator=torch.Generator().manual_seed(0)) if value is None else value
    return Case("p1", image * brain, brain, ("flair", "t1"), (1.0, 1.0, 1.0))


def test_a_coarser_case_averages_inside_the_brain_only():
    coarse = resample_case(block_case(torch.full((2, 30, 30, 30), 3.0)), 2.0)
    assert coarse.brain.any()
    torch.testing.assert_close(coarse.image[:, coarse.brain], torch.full((2, int(coarse.brain.sum())), 3.0))
    assert not coarse.image[:, ~coarse.brain].any()


def test_a_coarser_case_holds_the_means_of_blocks():
    case = block_case()
    case.brain[:] = True
    coarse = resample_case(case, 2.0)
    blocks = case.image.reshape(2, 15, 2, 15, 2, 15, 2).mean(dim=(2, 4, 6))
    torch.testing.assert_close(coarse.image, blocks)
    assert coarse.spacing == (2.0, 2.0, 2.0)
    assert coarse.native is case.native


def test_the_same_spacing_gives_the_same_case():
    case = block_case()
    assert resample_case(case, 1.0) is case


def test_a_coarser_case_still_knows_its_place_in_the_world(tmp_path):
    subject, array, _ = brain_subject(tmp_path, "oblique")
    coarse = resample_case(prepare(subject, ["flair"]), 3.0)
    back = coarse.to_native(coarse.brain)
    brain = array > 0
    edge = ndimage.distance_transform_edt(brain) + ndimage.distance_transform_edt(~brain)
    assert edge[back != brain].max() <= 3 * np.sqrt(3)


def test_maps_are_moved_between_the_grids_of_a_subject(tmp_path):
    subject, _, _ = brain_subject(tmp_path, "oblique")
    case = prepare(subject, ["flair"])
    coarse = resample_case(case, 2.0)
    slope = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    linear, expected = (
        (torch.from_numpy(world(one.grid.affine, one.grid.shape)) @ slope).float() for one in (case, coarse)
    )
    interior = (slice(2, -2),) * 3
    torch.testing.assert_close(transfer(linear, case, coarse)[interior], expected[interior], atol=1e-4, rtol=1e-4)


def test_a_brain_that_vanishes_on_a_coarse_grid_is_refused():
    case = block_case()
    case.brain[:] = False
    case.brain[15, 15, 15] = True
    with pytest.raises(BadInputError, match="p1: the brain is smaller"):
        resample_case(case, 10.0)


def test_find_and_prepare_work_on_a_written_cohort(write_cohort):
    cohort = Cohort.find([write_cohort(2)])
    for subject in cohort:
        case = prepare(subject, cohort.modalities, 4.0)
        assert case.subject == subject.label
        assert case.image.shape[0] == 2


@pytest.mark.parametrize(("gain", "stays"), [(1.0, True), (3.0, False)])
def test_ct_keeps_hounsfield_units_unless_it_was_rescaled_for_display(tmp_path, gain, stays):
    array = np.zeros((20, 22, 18))
    array[3:-3, 3:-3, 3:-3] = gain * np.random.default_rng(0).normal(33, 4, (14, 16, 12))
    array[8:10, 8:10, 8:10] = gain * 400
    case = prepare(subject_of(ct=save(tmp_path / "ct.nii.gz", array, np.diag([1.0, 1, 1, 1]))), ["ct"])
    values = case.image[0].numpy()[case.brain.numpy()]
    assert np.median(values) == pytest.approx(-0.7 if stays else 0.0, abs=0.05)
    assert values.max() == 10  # as in the other modalities
