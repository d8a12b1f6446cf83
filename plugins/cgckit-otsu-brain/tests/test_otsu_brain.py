"""The extractor keeps the contract, and finds what it says."""

from __future__ import annotations

import numpy as np
import pytest
from cgckit_otsu_brain import OtsuBrain, otsu_threshold

from cgckit import BadInputError, UsageError
from cgckit.images.volume import Volume
from cgckit.testing import check_brain, simulated_heads


def ball(centre: float, radius: float) -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.arange(40.0),) * 3, indexing="ij"))
    return np.sqrt(((grid - centre) ** 2).sum(0)) < radius


def volumes(image: np.ndarray) -> dict[str, Volume]:
    return {"t1": Volume.of(image.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]), "t1")}


def test_keeps_the_contract():
    check_brain(OtsuBrain)


def test_finds_simulated_brains_without_their_scalp():
    for head in simulated_heads():
        found = OtsuBrain().extract(head)
        image = next(iter(head.values())).array
        axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / (n / 2 - 1) for n in image.shape), indexing="ij")
        radius = np.sqrt(sum(axis**2 for axis in axes))
        assert not found[radius > 0.96].any()
        assert found[radius < 0.65].mean() > 0.98


def test_a_bridge_is_cut_and_a_hole_filled():
    brain = ball(16, 10)
    image = 100.0 * (brain & ~ball(16, 3))
    image[24:40, 15:17, 15:17] = 100.0  # a bridge of 4 mm to a bright block
    image[34:40, 10:22, 10:22] = 100.0
    found = OtsuBrain().extract(volumes(image))
    assert found[ball(16, 9)].all()
    assert not found[32:].any()


def test_the_threshold_lies_between_two_classes():
    values = np.concatenate([np.full(900, 1.0), np.full(100, 9.0)]).astype(np.float32)
    assert 1 <= otsu_threshold(values) < 9


def test_nothing_left_is_the_inputs_fault():
    image = np.zeros((10, 10, 10))
    image[5, 5, 5] = 1
    with pytest.raises(BadInputError, match="no brain is left"):
        OtsuBrain(clip=1.0).extract(volumes(image))


@pytest.mark.parametrize("options", [{"radius": -1}, {"clip": 2}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        OtsuBrain(**options)
