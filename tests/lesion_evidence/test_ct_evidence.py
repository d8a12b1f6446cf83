"""What the priors see of CT: density, and not everything that is dense."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cgckit.images.case import Case
from cgckit.images.hounsfield import from_hounsfield
from cgckit.lesion_evidence.ct import density
from cgckit.priors.gmm import GaussianMixturePrior

SPACING = (2.0, 2.0, 2.0)
SHAPE = (60, 70, 56)
TISSUE = 32.0


def ball(centre: tuple[int, int, int], radius_mm: float) -> np.ndarray:
    axes = np.meshgrid(*(np.arange(size) - c for size, c in zip(SHAPE, centre, strict=True)), indexing="ij")
    return sum((2.0 * axis) ** 2 for axis in axes) <= radius_mm**2


BRAIN = ball((30, 35, 28), 50.0)
BLOOD = ball((42, 35, 30), 12.0)
CALCIFIED = ball((18, 25, 28), 4.0)
FALX = np.zeros(SHAPE, dtype=bool)
FALX[30, :, 28:] = True
FALX &= BRAIN


def hounsfield(noise: float = 0.0) -> np.ndarray:
    units = TISSUE + noise * np.random.default_rng(0).standard_normal(SHAPE)
    units += 30 * BLOOD + 28 * FALX
    units[CALCIFIED] = 140
    return units


def scaled(units: np.ndarray) -> np.ndarray:
    return np.where(BRAIN, from_hounsfield(units), 0).astype(np.float32)


def test_density_is_in_units_of_the_tissues_spread() -> None:
    found = density(scaled(hounsfield()), BRAIN, SPACING)
    core = ball((42, 35, 30), 7.0)
    assert found[core] == pytest.approx(30 / 4)
    assert np.median(found[BRAIN]) == 0
    assert not found[~BRAIN].any()


def test_the_window_ends_at_80_units() -> None:
    found = density(scaled(TISSUE + 60.0 * BLOOD - 60.0 * CALCIFIED), BRAIN, SPACING)
    assert found.max() == pytest.approx((80 - TISSUE) / 4)
    assert found.min() == pytest.approx((0 - TISSUE) / 4)


def test_calcification_and_its_halo_count_as_tissue() -> None:
    units = hounsfield()
    units[ball((18, 25, 28), 5.0) & ~CALCIFIED] = 70  # blurred
    found = density(scaled(units), BRAIN, SPACING)
    assert found[ball((18, 25, 28), 8.0)].max() <= 1


def test_thin_sheets_are_lowered_and_the_border_of_blood_is_not() -> None:
    found = density(scaled(hounsfield()), BRAIN, SPACING)
    assert found[FALX].max() <= 1
    assert found[BLOOD] == pytest.approx(30 / 4)


def test_the_mixture_finds_blood_and_no_decoy() -> None:
    image = torch.from_numpy(scaled(hounsfield(noise=3)))[None]
    case = Case("p1", image, torch.from_numpy(BRAIN), ("ct",), SPACING)
    found = GaussianMixturePrior().predict(case).probability.numpy() > 0.5
    assert 2 * (found & BLOOD).sum() / (found.sum() + BLOOD.sum()) > 0.9
    assert not (found & (CALCIFIED | FALX) & ~BLOOD).any()
