"""Finding the brain in stripped images and in whole heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cgckit.errors import BadInputError, PluginError
from cgckit.images.brain import BrainExtractor, CoarseSearch, extract_brain, read_brain_mask
from cgckit.images.brain.search import find_brain_in_head
from cgckit.images.grid import Grid
from cgckit.images.volume import Volume
from cgckit.testing import simulated_heads

SHAPE = (72, 82, 68)
SPACING = 3.0
GRID = Grid(SHAPE, np.diag([SPACING, SPACING, SPACING, 1.0]))
# Intensities of grey matter, white matter, fluid, skull and scalp; air is 0.
MRI = {"t1": (60, 85, 20, 8, 110), "flair": (75, 60, 10, 5, 80), "t2": (60, 40, 110, 5, 60)}
CT = (37, 28, 8, 1000, 50)


def ellipsoid(grow=0.0):
    """Half-axes of 62, 78 and 58 mm (1.17 litres), each longer by `grow` mm."""
    axes = np.meshgrid(*[(np.arange(size) - (size - 1) / 2) * SPACING for size in SHAPE], indexing="ij")
    radii = np.array([62, 78, 58]) + grow
    return sum((axis / radius) ** 2 for axis, radius in zip(axes, radii, strict=True)) <= 1


def head(tissues, air=0.0, noise=3.0):
    """A brain of white matter in grey matter with a ventricle, in fluid, skull and scalp, with a nerve through both."""
    grey, white, fluid, skull, scalp = tissues
    array = np.full(SHAPE, air)
    array[ellipsoid(grow=20)] = scalp
    array[ellipsoid(grow=11)] = skull
    array[ellipsoid(grow=3)] = fluid
    array[ellipsoid()] = grey
    array[ellipsoid(grow=-9)] = white
    array[ellipsoid(grow=-50)] = fluid
    array[34:36, 60:, 30:32][ellipsoid(grow=11)[34:36, 60:, 30:32]] = white
    return array + np.random.default_rng(0).normal(0, noise, SHAPE)


def volume(array, name="scan"):
    return Volume(np.asarray(array, dtype=np.float32), GRID, nib.Nifti1Header(), Path(f"{name}.nii.gz"))


def stripped(seed=0):
    return np.where(ellipsoid(), np.random.default_rng(seed).uniform(50, 100, SHAPE), 0)


def assert_within(mask, millimetres):
    """The mask's edge is at most so far from the brain's, everywhere."""
    outside = ndimage.distance_transform_edt(~ellipsoid(), sampling=SPACING)
    inside = ndimage.distance_transform_edt(ellipsoid(), sampling=SPACING)
    assert outside[mask].max() <= millimetres
    assert inside[~mask].max() <= millimetres


@pytest.mark.parametrize("background", [0.0, -1.3])
def test_a_stripped_image_is_brain_wherever_it_is_not_background(background):
    array = stripped()
    array[array == 0] = background
    np.testing.assert_array_equal(CoarseSearch().extract({"flair": volume(array)}), ellipsoid())


def test_ringing_below_zero_stays_in_the_mask():
    array = stripped() - 60.0 * ellipsoid()
    assert (array < 0).sum() > 1000
    np.testing.assert_array_equal(CoarseSearch().extract({"flair": volume(array)}), ellipsoid())


def test_holes_are_filled_and_specks_dropped():
    array = stripped()
    array[ellipsoid(grow=-40)] = 0
    array[2:4, 2:4, 2:4] = 80
    np.testing.assert_array_equal(CoarseSearch().extract({"flair": volume(array)}), ellipsoid())


def test_the_mask_is_the_union_over_modalities():
    first, second = stripped(0), stripped(1)
    first[:20] = 0
    second[-20:] = 0
    np.testing.assert_array_equal(CoarseSearch().extract({"flair": volume(first), "t1": volume(second)}), ellipsoid())


def test_a_stripped_image_decides_over_one_of_the_whole_head():
    mask = CoarseSearch().extract({"t1": volume(np.abs(head(MRI["t1"]))), "flair": volume(stripped())})
    np.testing.assert_array_equal(mask, ellipsoid())


@pytest.mark.parametrize("contrast", MRI)
def test_a_whole_head_gives_its_brain_without_skull_and_scalp(contrast):
    mask = CoarseSearch().extract({contrast: volume(np.abs(head(MRI[contrast])))})
    # Fluid reaches 3 mm beyond the brain, and the nearest voxels of a 3 mm grid another voxel's diagonal.
    assert_within(mask, 3 + SPACING * np.sqrt(3))


def test_an_uneven_coil_sensitivity_does_not_cost_brain():
    gain = np.linspace(0.3, 1.7, SHAPE[1])[None, :, None]
    mask = CoarseSearch().extract({"flair": volume(np.abs(head(MRI["flair"]) * gain))})
    assert_within(mask, 3 + SPACING * np.sqrt(3))


def test_a_whole_head_on_a_blank_background_is_not_taken_for_a_brain():
    array = np.where(ellipsoid(grow=20), head(MRI["flair"]).clip(1), 0)
    assert_within(CoarseSearch().extract({"flair": volume(array)}), 3 + SPACING * np.sqrt(3))


def test_a_head_in_hounsfield_units_gives_its_brain():
    mask = CoarseSearch().extract({"ct": volume(head(CT, air=-1000))})
    assert_within(mask, 3 + SPACING * np.sqrt(3))


def test_noise_has_no_brain():
    with pytest.raises(BadInputError, match=r"scan\.nii\.gz: no brain found"):
        CoarseSearch().extract({"t1": volume(np.random.default_rng(0).normal(100, 10, SHAPE))})


@pytest.fixture
def mask_file(tmp_path):
    def save(array, affine=GRID.affine):
        path = tmp_path / "mask.nii.gz"
        nib.save(nib.Nifti1Image(array.astype(np.uint8), affine), path)
        return path

    return save


def test_a_given_mask_is_read(mask_file):
    np.testing.assert_array_equal(read_brain_mask(mask_file(ellipsoid()), GRID), ellipsoid())


def test_an_empty_mask_is_refused(mask_file):
    with pytest.raises(BadInputError, match=r"mask\.nii\.gz: the brain mask is empty"):
        read_brain_mask(mask_file(np.zeros(SHAPE)), GRID)


def test_a_mask_on_another_grid_is_refused(mask_file):
    shifted = GRID.affine.copy()
    shifted[0, 3] += 5
    with pytest.raises(BadInputError, match=r"mask\.nii\.gz.*grid"):
        read_brain_mask(mask_file(ellipsoid(), shifted), GRID)


def test_scalp_does_not_join_through_a_hole_in_the_skull():
    array = head(CT, air=-1000)
    hole = array[34:37, 30:33, 50:]
    hole[hole > 500] = 40  # 9 mm wide
    mask = CoarseSearch().extract({"ct": volume(array)})
    assert mask[ellipsoid()].mean() > 0.99
    assert not (mask & ~ellipsoid(grow=11 + SPACING)).any()


def test_calcification_is_part_of_the_brain_and_bone_is_not():
    array = head(CT, air=-1000)
    array[30:32, 50:52, 30:32] = 250
    mask = CoarseSearch().extract({"ct": volume(array)})
    assert mask[30:32, 50:52, 30:32].all()
    assert not (mask & (array > 500)).any()


def test_a_stripped_image_decides_over_ct_of_the_whole_head():
    mask = CoarseSearch().extract({"ct": volume(head(CT, air=-1000)), "flair": volume(stripped())})
    np.testing.assert_array_equal(mask, ellipsoid())


@dataclass
class Odd(BrainExtractor):
    """Gives back what it is told."""

    answer: str = "raise"

    def extract(self, volumes):
        shape = next(iter(volumes.values())).array.shape
        if self.answer == "raise":
            raise IndexError("no such voxel\nat all")
        if self.answer == "leave":
            raise SystemExit(0)
        if self.answer == "say":
            raise BadInputError("there is no brain in a.nii")
        return {
            "numbers": np.ones(shape),
            "crop": np.ones(shape, bool)[1:],
            "empty": np.zeros(shape, bool),
            "nothing": None,
        }[self.answer]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ("raise", PluginError, "Odd failed: IndexError: no such voxel$"),
        ("leave", PluginError, "Odd failed: SystemExit: 0"),
        ("say", BadInputError, r"there is no brain in a\.nii"),
        ("numbers", PluginError, "gave float64"),
        ("crop", PluginError, "not bool"),
        ("empty", PluginError, "empty mask"),
        ("nothing", PluginError, "gave object"),
    ],
)
def test_what_an_extractor_must_not_give_is_named_in_one_line(answer, error, words):
    volumes = {"t1": Volume.of(np.random.default_rng(0).normal(size=(6, 6, 6)), np.eye(4), "t1")}
    with pytest.raises(error, match=words) as caught:
        extract_brain(Odd(answer), volumes)
    assert "\n" not in str(caught.value)


def test_a_head_of_coarse_voxels_is_searched_too():
    head = simulated_heads()[-1]["t1"]  # 4 mm; the brain is the inner 75 %
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / (n / 2 - 1) for n in head.array.shape), indexing="ij")
    expected = sum(axis**2 for axis in axes) < 0.75**2
    found = find_brain_in_head(head)
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.9
