"""The metric keeps cgckit's contract, and is what its formula says."""

import numpy as np
import pytest
from cgckit_surface_dice import SurfaceDice

from cgckit import Pair, UsageError
from cgckit.testing import check_metric


def plane(at: int) -> np.ndarray:
    mask = np.zeros((12, 6, 6), dtype=bool)
    mask[at, 1:5, 1:5] = True
    return mask


@pytest.mark.parametrize("tolerance", [0.0, 2.0, 50.0])
def test_keeps_the_contract(tolerance):
    check_metric(lambda: SurfaceDice(tolerance))


def test_tolerance_is_in_millimetres():
    pair = Pair.of(plane(2), plane(5), (0.5, 1.0, 1.0))
    assert SurfaceDice(1.49).value(pair) == 0
    assert SurfaceDice(1.5).value(pair) == 1


def test_surfaces_are_pooled():
    both = plane(2) | plane(8)
    assert SurfaceDice(1.0).value(Pair.of(plane(2), both, (1, 1, 1))) == pytest.approx((16 + 16) / (16 + 32))


def test_without_tolerance_surfaces_must_agree_to_the_voxel():
    assert SurfaceDice(0.0).value(Pair.of(plane(2), plane(3), (1, 1, 1))) == 0
    assert SurfaceDice(0.0).value(Pair.of(plane(2), plane(2), (1, 1, 1))) == 1


def test_refuses_a_negative_tolerance():
    with pytest.raises(UsageError, match="tolerance"):
        SurfaceDice(-1.0)
