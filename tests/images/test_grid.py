"""Moving arrays between grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from nibabel.orientations import aff2axcodes
from scipy.spatial.transform import Rotation

from cgckit.errors import UsageError
from cgckit.images.case import Case
from cgckit.images.grid import Grid, resample


def diagonal(shape, spacing, origin=(0.0, 0.0, 0.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


def rotated(shape, spacing, degrees, flip=(1, 1, 1)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(np.multiply(spacing, flip))
    affine[:3, 3] = (-7.0, 11.0, 3.5)
    return Grid(shape, affine)


def world(grid):
    """World coordinates of every voxel, [H, W, L, 3]."""
    return apply_affine(grid.affine, np.stack(np.indices(grid.shape), axis=-1))


def test_a_coarser_grid_gets_the_mean_of_the_voxels_it_covers():
    fine = np.random.default_rng(0).normal(size=(8, 6, 4)).astype(np.float32)
    source = diagonal((8, 6, 4), (1, 1, 1))
    target = source.isotropic(2.0)
    blocks = fine.reshape(4, 2, 3, 2, 2, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(resample(fine, source, target), blocks, rtol=1e-5, atol=1e-6)


def test_coarsening_does_not_alias_a_pattern_finer_than_the_new_voxels():
    checkers = (np.indices((30, 30, 30)).sum(axis=0) % 2).astype(np.float32)
    source = diagonal((30, 30, 30), (1, 1, 1))
    coarse = resample(checkers, source, source.isotropic(3.0))
    # A box over 27 voxels holds 13 or 14 bright ones.
    assert np.abs(coarse - 0.5).max() <= 0.5 / 27 + 1e-5


def test_a_finer_grid_reproduces_a_linear_function():
    source = diagonal((6, 7, 8), (2, 3, 5), origin=(4, -2, 1))
    target = source.isotropic(1.0)
    slope = np.array([0.3, -1.2, 0.7])
    result = resample(world(source) @ slope, source, target)
    indices = apply_affine(np.linalg.inv(source.affine), world(target))
    interior = ((indices >= 0) & (indices <= np.array(source.shape) - 1)).all(axis=-1)
    np.testing.assert_allclose(result[interior], (world(target) @ slope)[interior], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("degrees", [(0, 0, 0), (20, -15, 40)], ids=["aligned", "oblique"])
def test_flipped_and_permuted_axes_are_reordered_without_interpolation(degrees):
    base = rotated((4, 5, 6), (1, 1.5, 2), degrees, flip=(-1, 1, -1))
    array = np.random.default_rng(1).normal(size=base.shape).astype(np.float32)
    turned = Grid((6, 4, 5), base.affine[:, [2, 0, 1, 3]])
    np.testing.assert_array_equal(resample(array, base, turned), array.transpose(2, 0, 1))
    canonical = base.canonical()
    assert aff2axcodes(canonical.affine) == ("R", "A", "S")
    back = resample(resample(array, base, canonical), canonical, base)
    np.testing.assert_array_equal(back, array)


def test_rounding_of_stored_affines_does_not_blur():
    source = rotated((20, 30, 25), (1, 1, 1), (20, -15, 40))
    stored = Grid(source.shape, source.affine.astype(np.float32).astype(np.float64))
    array = np.random.default_rng(1).normal(size=source.shape).astype(np.float32)
    np.testing.assert_array_equal(resample(array, source, stored), array)


def test_canonical_keeps_every_voxel_where_it_is_in_the_world():
    grid = rotated((4, 5, 6), (1, 1.5, 2), (70, 10, -100), flip=(1, -1, 1))
    array = np.arange(120, dtype=np.float32).reshape(grid.shape)
    canonical = grid.canonical()
    moved = resample(array, grid, canonical)
    order = np.argsort(moved.ravel())
    np.testing.assert_array_equal(moved.ravel()[order], array.ravel())
    np.testing.assert_allclose(world(canonical).reshape(-1, 3)[order], world(grid).reshape(-1, 3), atol=1e-9)


def test_grids_at_an_angle_to_each_other_reproduce_a_linear_function():
    source = diagonal((20, 20, 20), (1, 1, 1), origin=(-10, -10, -10))
    affine = rotated((6, 6, 6), (1, 1, 1), (25, 10, -30)).affine.copy()
    affine[:3, 3] = 0
    target = Grid((6, 6, 6), affine)
    slope = np.array([1.0, -0.5, 2.0])
    result = resample(world(source) @ slope, source, target)
    np.testing.assert_allclose(result, world(target) @ slope, atol=1e-4)


def test_coarsening_at_an_angle_does_not_alias_either():
    checkers = (np.indices((40, 40, 40)).sum(axis=0) % 2).astype(np.float32)
    source = diagonal((40, 40, 40), (1, 1, 1), origin=(-19.5, -19.5, -19.5))
    affine = rotated((5, 5, 5), (3, 3, 3), (25, 10, -30)).affine.copy()
    affine[:3, 3] = -affine[:3, :3] @ (2, 2, 2)
    target = Grid((5, 5, 5), affine)
    # A Gaussian of variance 8/12 leaves exp(-pi^2 / 3) of such a pattern along each axis.
    left = 0.5 * np.exp(-(np.pi**2) / 3) ** 3
    assert np.abs(resample(checkers, source, target) - 0.5).max() < 10 * left


def test_outside_the_field_of_view_is_the_fill_value():
    source = diagonal((3, 3, 3), (1, 1, 1))
    target = diagonal((5, 5, 5), (1, 1, 1), origin=(-1, -1, -1))
    result = resample(np.ones((3, 3, 3)), source, target, cval=-7.0)
    assert (result[1:4, 1:4, 1:4] == 1).all()
    assert (result == -7).sum() == 125 - 27


@pytest.mark.parametrize("order", [0, 1])
def test_the_result_is_a_new_array_and_the_input_stays(order):
    array = np.ones((3, 3, 3), np.float32)
    source = diagonal((3, 3, 3), (1, 1, 1))
    for target in (source, diagonal((1, 1, 1), (1, 1, 1), origin=(9, 9, 9))):
        result = resample(array, source, target, order=order, cval=5.0)
        assert not np.shares_memory(result, array)
    assert (array == 1).all()


def test_nearest_keeps_the_dtype_and_invents_no_value():
    labels = np.random.default_rng(2).integers(0, 5, size=(6, 6, 6)).astype(np.int16)
    source = diagonal((6, 6, 6), (2, 2, 2))
    result = resample(labels, source, source.isotropic(1.3), order=0)
    assert result.dtype == np.int16
    assert set(np.unique(result)) <= set(np.unique(labels))


def test_isotropic_is_centred_and_covers_the_field_of_view():
    grid = rotated((37, 50, 11), (0.9, 1.0, 5.0), (10, 5, 15))
    target = grid.isotropic(2.0)
    np.testing.assert_allclose(target.spacing, 2.0)
    centres = [apply_affine(one.affine, (np.array(one.shape) - 1) / 2) for one in (grid, target)]
    np.testing.assert_allclose(centres[0], centres[1])
    assert (np.multiply(target.shape, target.spacing) >= np.multiply(grid.shape, grid.spacing) - 1e-2).all()


def test_a_spacing_within_one_percent_is_kept():
    grid = diagonal((5, 6, 7), (1.004, 1.0, 0.9961))
    assert grid.isotropic(1.0).matches(grid)


@pytest.mark.parametrize("order", [2, 3])
def test_other_orders_are_refused(order):
    grid = diagonal((2, 2, 2), (1, 1, 1))
    with pytest.raises(UsageError, match="order"):
        resample(np.zeros((2, 2, 2)), grid, grid, order=order)


def test_an_array_that_is_not_on_its_grid_is_refused():
    grid = diagonal((2, 2, 2), (1, 1, 1))
    with pytest.raises(UsageError, match="shape"):
        resample(np.zeros((2, 2, 3)), grid, grid)


def test_a_case_made_by_hand_lies_along_the_worlds_axes():
    case = Case("p1", torch.zeros(1, 2, 3, 4), torch.ones(2, 3, 4).bool(), ("flair",), (1.0, 2.0, 3.0))
    np.testing.assert_array_equal(case.grid.affine, np.diag([1.0, 2.0, 3.0, 1.0]))
    np.testing.assert_array_equal(case.to_native(np.arange(24.0).reshape(2, 3, 4)), np.arange(24.0).reshape(2, 3, 4))
