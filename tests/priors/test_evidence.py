"""Lesion evidence: robust scale, smoothing that stays in the brain, and the mirror comparison."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cgckit.images.case import Case
from cgckit.priors.evidence import asymmetry, lesion_evidence, mirror_shift, smooth, standardise

SPACING = (1.0, 1.0, 1.0)


def test_standardised_brain_has_median_0_and_mad_1() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(50, 7, (12, 13, 14)).astype(np.float32)
    brain = rng.random(image.shape) > 0.4
    inside = standardise(image, brain)[brain]
    assert np.median(inside) == pytest.approx(0, abs=1e-5)
    assert np.median(np.abs(inside)) == pytest.approx(1, rel=1e-5)


def test_smoothing_does_not_darken_the_edge_of_the_brain() -> None:
    brain = np.zeros((16, 16, 16), bool)
    brain[4:12, 4:12, 4:12] = True
    image = np.where(brain, 5, 0).astype(np.float32)
    np.testing.assert_allclose(smooth(image, brain, SPACING, 2.0), image, rtol=1e-5)


def test_smoothing_is_measured_in_mm() -> None:
    brain = np.ones((21, 21, 21), bool)
    impulse = np.zeros(brain.shape, np.float32)
    impulse[10, 10, 10] = 1
    blurred = smooth(impulse, brain, (1.0, 1.0, 3.0), 2.0)
    assert blurred[13, 10, 10] == pytest.approx(blurred[10, 10, 11], rel=0.05)


@pytest.mark.parametrize("offset", [-2, 0, 2])
def test_the_mirror_finds_the_middle_of_a_brain_off_centre(offset: int) -> None:
    brain = np.zeros((40, 12, 12), bool)
    brain[10 + offset : 30 + offset, 2:10, 2:10] = True
    assert mirror_shift(brain) == 2 * offset


def test_asymmetry_is_positive_on_the_lesion_and_negative_opposite() -> None:
    brain = np.zeros((40, 20, 20), bool)
    brain[6:36, 2:18, 2:18] = True
    image = np.zeros(brain.shape, np.float32)
    image[8:14, 6:14, 6:14] = 10
    result = asymmetry(image, brain, SPACING)
    assert result[11, 10, 10] == 3
    assert result[41 - 11, 10, 10] == -1
    assert not result[~brain].any()


def test_a_mirror_symmetric_lesion_is_no_asymmetry() -> None:
    brain = np.ones((20, 12, 12), bool)
    image = np.zeros(brain.shape, np.float32)
    image[[4, 15], 4:8, 4:8] = 10
    assert not asymmetry(image, brain, SPACING).any()


def test_t2_adds_its_asymmetry_and_t1_does_not() -> None:
    rng = np.random.default_rng(0)
    flair = torch.from_numpy(rng.normal(size=(20, 12, 12)).astype(np.float32))
    other = torch.zeros_like(flair)
    other[2:6, 4:8, 4:8] = 50.0
    other += torch.from_numpy(rng.normal(size=flair.shape).astype(np.float32))
    brain = torch.ones(flair.shape, dtype=torch.bool)

    def evidence(name: str) -> np.ndarray:
        case = Case("x", torch.stack([flair, other]), brain, ("flair", name), SPACING)
        return lesion_evidence(case, smoothing=0, asymmetry_weight=1.0)

    assert evidence("t2")[4, 6, 6] > evidence("t1")[4, 6, 6] + 2
