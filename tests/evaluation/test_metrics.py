"""Scores of a mask against a reference."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy import ndimage

from cgckit.evaluation.pair import Pair
from cgckit.evaluation.scoring import BUILT_IN, choose_metrics
from cgckit.evaluation.scoring import score as score_by

SPACING = (0.5, 1.0, 4.0)


def score(predicted: np.ndarray, expected: np.ndarray, spacing: tuple[float, ...]) -> SimpleNamespace:
    """The built-in metrics by name."""
    return SimpleNamespace(**score_by(predicted, expected, spacing, choose_metrics(BUILT_IN)))


def box(*extents: tuple[int, int], shape: tuple[int, int, int] = (24, 24, 24)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*extent) for extent in extents)] = True
    return mask


def blobs(seed: int, shape: tuple[int, int, int] = (28, 24, 20)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2)
    return noise > np.quantile(noise, 0.85)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING])
def test_distances_are_those_of_monai(seed: int, spacing: tuple[float, float, float]) -> None:
    predicted, expected = blobs(seed), blobs(seed + 100)
    found = score(predicted, expected, spacing)
    one_hot = [torch.from_numpy(mask)[None, None] for mask in (predicted, expected)]
    settings = {"include_background": True, "spacing": spacing}
    assd = compute_average_surface_distance(*one_hot, symmetric=True, **settings).item()
    hd95 = compute_hausdorff_distance(*one_hot, percentile=95, **settings).item()
    assert found.assd == pytest.approx(assd, rel=1e-5)  # MONAI works in float32
    assert found.hd95 == pytest.approx(hd95, rel=1e-5)


def test_overlap_and_volumes_follow_their_definitions() -> None:
    predicted, expected = box((0, 4), (0, 4), (0, 4)), box((2, 6), (0, 4), (0, 8))
    found = score(predicted, expected, SPACING)
    common, sizes = 2 * 4 * 4, (64, 128)
    assert found.dice == pytest.approx(2 * common / sum(sizes))
    assert found.sensitivity == pytest.approx(common / 128)
    assert found.precision == pytest.approx(common / 64)
    assert found.volume_ml == pytest.approx(64 * 2 / 1000)
    assert found.reference_ml == pytest.approx(128 * 2 / 1000)


def test_distance_is_in_millimetres_along_each_axis() -> None:
    plane = box((5, 6), (2, 20), (2, 20))
    for axis, edge in enumerate(SPACING):
        turned = np.moveaxis(plane, 0, axis)
        found = score(turned, np.roll(turned, 3, axis=axis), SPACING)
        assert found.assd == pytest.approx(3 * edge)
        assert found.hd95 == pytest.approx(3 * edge)


def test_assd_pools_both_surfaces_instead_of_averaging_two_means() -> None:
    small, large = box((4, 5), (4, 5), (4, 5)), box((4, 5), (4, 5), (4, 14))
    there, back = Pair.of(small, large, (1, 1, 1)).surface_distances
    assert list(there) == [0]
    assert sorted(back) == list(range(10))
    assert score(small, large, (1, 1, 1)).assd == pytest.approx(45 / 11)


def test_equal_masks_agree_and_order_only_swaps_sensitivity_and_precision() -> None:
    first, second = blobs(1), blobs(2)
    same = score(first, first, SPACING)
    assert (same.dice, same.sensitivity, same.precision, same.assd, same.hd95, same.lesion_f1) == (1, 1, 1, 0, 0, 1)
    forth, back = score(first, second, SPACING), score(second, first, SPACING)
    assert forth.sensitivity == back.precision
    assert (forth.dice, forth.assd, forth.hd95, forth.lesion_f1) == pytest.approx(
        (back.dice, back.assd, back.hd95, back.lesion_f1)
    )


def test_lesions_count_by_any_overlap_and_touch_by_corners() -> None:
    expected = box((0, 2), (0, 2), (0, 2)) | box((10, 12), (0, 2), (0, 2)) | box((20, 22), (0, 2), (0, 2))
    predicted = box((1, 3), (1, 3), (1, 3)) | box((3, 4), (3, 4), (3, 4)) | box((10, 12), (8, 10), (0, 2))
    # The first two boxes of the prediction touch by a corner: one component that is right, and one that is not.
    found, right = 1 / 3, 1 / 2
    assert score(predicted, expected, (1, 1, 1)).lesion_f1 == pytest.approx(2 * found * right / (found + right))


def test_lesion_f1_is_zero_where_nothing_overlaps() -> None:
    assert score(box((0, 2), (0, 2), (0, 2)), box((9, 12), (9, 12), (9, 12)), (1, 1, 1)).lesion_f1 == 0


def test_one_empty_mask_scores_nothing_at_infinite_distance() -> None:
    empty, full = np.zeros((9, 9, 9), dtype=bool), box((2, 4), (2, 4), (2, 4), shape=(9, 9, 9))
    for pair in ((empty, full), (full, empty)):
        found = score(*pair, (1, 1, 1))
        assert (found.dice, found.sensitivity, found.precision, found.lesion_f1) == (0, 0, 0, 0)
        assert (found.assd, found.hd95) == (math.inf, math.inf)
    assert score(full, empty, (1, 1, 1)).volume_ml == pytest.approx(0.008)


def test_two_empty_masks_agree() -> None:
    empty = np.zeros((9, 9, 9), dtype=bool)
    assert list(vars(score(empty, empty, (1, 1, 1))).values()) == [1, 1, 1, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("shapes", "spacing"),
    [(((4, 4, 4), (4, 4, 5)), (1, 1, 1)), (((4, 4), (4, 4)), (1, 1, 1)), (((4, 4, 4), (4, 4, 4)), (1, 1))],
)
def test_masks_that_cannot_be_compared_are_refused(shapes: tuple, spacing: tuple) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        score(*(np.ones(shape, dtype=bool) for shape in shapes), spacing)
