"""Simulated heads in Hounsfield units, and finding the inside of their skulls."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cgckit.images.brain import CoarseSearch
from cgckit.images.volume import Volume
from cgckit.phantom.anatomy import Anatomy, simulate_anatomy
from cgckit.phantom.bleeding import Bleeding, BleedingPlan, plan_bleeding, simulate_bleeding
from cgckit.phantom.head import Head, plan_head, simulate_head
from cgckit.phantom.tomography import Scan, plan_tomography, scan


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return simulate_anatomy(np.random.default_rng(7))


@pytest.fixture(scope="module")
def head(anatomy: Anatomy) -> Head:
    rng = np.random.default_rng(0)
    return simulate_head(rng, anatomy, plan_head(rng))


@pytest.fixture(scope="module")
def plan() -> BleedingPlan:
    """Blood of every kind on the right."""
    drawn = plan_bleeding(np.random.default_rng(1), 0, 4)
    kinds = ("parenchymal", "ventricular", "subdural")
    return dataclasses.replace(
        drawn, kinds=kinds, side=1, centre=(0.9, 0.0, 0.43), volume_ml=60.0, filling=0.4, density=65.0, mixing=0.2
    )


@pytest.fixture(scope="module")
def bleeding(anatomy: Anatomy, head: Head, plan: BleedingPlan) -> Bleeding:
    return simulate_bleeding(np.random.default_rng(2), anatomy, head, plan)


@pytest.fixture(scope="module")
def found(anatomy: Anatomy, head: Head, bleeding: Bleeding) -> Scan:
    """A scan of coarse pixels and thick slices, for speed."""
    drawn = plan_tomography(np.random.default_rng(3), 0, 0)
    drawn = dataclasses.replace(drawn, matrix=128, pixel=1.9, thickness=4.0, padding=-3024, size=0.95)
    return scan(np.random.default_rng(4), anatomy, head, bleeding, drawn)


def test_the_skull_encloses_the_brain(anatomy: Anatomy, head: Head) -> None:
    brain = head.embed(anatomy.brain, False)
    assert (head.room[brain] > -2).mean() > 0.999
    # From inside, every way upwards leads through bone before it reaches the air.
    above = head.outside[:, :, 120:]
    inside = head.room[:, :, 120:] > 0
    labels, _ = ndimage.label(~((above > 300) & ~inside))
    assert not set(np.unique(labels[inside])) & set(np.unique(labels[:, :, -1]))


def test_blood_lies_where_it_was_planned(anatomy: Anatomy, head: Head, bleeding: Bleeding) -> None:
    blood = bleeding.extent > 0.5
    assert 40 < blood.sum() / 1000 < 80
    assert not blood[head.room < -0.5].any()
    x = head.coordinates()[0]
    crescent = blood & (head.room < 4)
    assert crescent.sum() > 3000
    assert np.broadcast_to(x, blood.shape)[crescent].min() > 0
    ventricles = head.embed(anatomy.ventricle_distance < 0.5, False)
    assert 0.05 < blood[ventricles].mean() < 0.4


def test_old_blood_is_nearly_as_dark_as_tissue(bleeding: Bleeding, plan: BleedingPlan) -> None:
    density = bleeding.density[bleeding.extent > 0.9]
    low, high = np.percentile(density, [5, 80])
    assert high - low > 0.5 * plan.drop
    assert plan.density - 15 < high < plan.density + 10


def test_densities_are_those_of_a_head(head: Head, found: Scan) -> None:
    image = found.image.astype(float)
    assert found.image.dtype == np.int16
    assert image[0, 0, 0] == -3024
    assert image[5, 64, 10] == pytest.approx(-1000, abs=60)
    brain = ndimage.binary_erosion(found.brain, iterations=3) & ~ndimage.binary_dilation(found.lesion, iterations=3)
    assert 25 < np.median(image[brain]) < 40
    assert 45 < np.median(image[ndimage.binary_erosion(found.lesion)]) < 70
    shell = ndimage.binary_dilation(found.brain, iterations=3) & ~ndimage.binary_dilation(found.brain)
    assert np.median(image[shell]) > 300


def test_something_else_is_as_dense_as_blood(found: Scan) -> None:
    inner = ndimage.binary_erosion(found.brain, iterations=3)
    smooth = ndimage.gaussian_filter(found.image.astype(np.float32), 0.6)
    decoys = inner & (smooth > 45) & ~ndimage.binary_dilation(found.lesion, iterations=2)
    assert decoys.sum() * np.prod(found.grid.spacing) > 2000  # 2 ml


def test_the_grid_is_a_scanners_and_so_is_the_picture(found: Scan) -> None:
    assert found.grid.spacing == pytest.approx((1.9, 1.9, 4.0))
    assert found.grid.affine[0, 0] < 0  # the picture shows the right on its left
    mass = ndimage.center_of_mass(found.lesion)
    assert (found.grid.affine @ [*mass, 1])[0] > 10  # blood was planned on the right


def test_the_inside_of_the_skull_is_found_with_all_blood(found: Scan) -> None:
    mask = CoarseSearch().extract(
        {"ct": Volume(found.image.astype(np.float32), found.grid, nib.Nifti1Header(), Path("a.nii"))}
    )
    overlap = 2 * (mask & found.brain).sum() / (mask.sum() + found.brain.sum())
    assert overlap > 0.95
    # Blood in voxels that are partly bone is as bright as bone, for any method.
    blood = found.lesion & (found.image < 110)
    assert (mask & blood).sum() > 0.97 * blood.sum()
    assert (found.image[mask] > 300).mean() < 0.005
