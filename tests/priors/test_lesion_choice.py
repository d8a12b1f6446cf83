"""The choice of lesion classes without labels, and the cleaning that goes before and after it."""

from __future__ import annotations

import numpy as np
import pytest

from cgckit.priors.cleaning import ball, clean, cleaned_probability
from cgckit.priors.lesion_choice import Candidate, choose_lesion, contrast, every_2mm

MM = (1.0, 1.0, 1.0)
SHAPE = (40, 40, 40)


def cube(low: int, high: int) -> np.ndarray:
    region = np.zeros(SHAPE, bool)
    region[low:high, low:high, low:high] = True
    return region


BRAIN = cube(2, 38)
CORE, LESION, HALO = cube(16, 22), cube(10, 28), cube(6, 31)


def candidates() -> list[Candidate]:
    return [Candidate(6, 1, 12.0, CORE), Candidate(6, 2, 6.0, LESION), Candidate(6, 3, 2.5, HALO)]


def image() -> np.ndarray:
    """Evidence of a lesion with a brighter core, in grey matter that is brighter than the rest."""
    return np.select([CORE, LESION, HALO, BRAIN], [12.0, 6.5, 1.0, -0.5], 0.0).astype(np.float32)


def choose(**options: float) -> tuple[Candidate, float] | None:
    settings = {"floor": 2.0, "min_component": 0.1} | options
    return choose_lesion(image(), BRAIN, MM, candidates(), **settings)


def test_neither_half_a_lesion_nor_lesion_with_grey_matter_is_chosen() -> None:
    found = choose()
    assert found is not None
    assert found[0].count == 2
    assert found[1] == 6.5 + 0.5


def test_the_order_of_the_candidates_does_not_matter() -> None:
    reverse = choose_lesion(image(), BRAIN, MM, candidates()[::-1], floor=2.0, min_component=0.1)
    assert reverse is not None
    assert reverse[0].count == 2


def test_classes_below_the_floor_are_never_lesion() -> None:
    found = choose(floor=7.0)
    assert found is not None
    assert found[0].count == 1
    assert choose(floor=13.0) is None


def test_most_of_the_brain_is_no_lesion() -> None:
    whole = [Candidate(4, 3, 5.0, cube(3, 37))]
    assert choose_lesion(image(), BRAIN, MM, whole, floor=2.0, min_component=0.1) is None


def test_fluid_beside_a_region_does_not_flatter_it() -> None:
    wet = image()
    wet[(wet == -0.5) & (np.arange(SHAPE[0]) > 30)] = -30
    assert contrast(wet, LESION, BRAIN, MM) == contrast(image(), LESION, BRAIN, MM)


@pytest.mark.parametrize(
    ("spacing", "steps"), [(MM, (2, 2, 2)), ((2.0, 2.0, 2.0), (1, 1, 1)), ((0.5, 0.5, 5.0), (4, 4, 1))]
)
def test_thinning_comes_near_2_mm(spacing: tuple[float, float, float], steps: tuple[int, int, int]) -> None:
    thin = every_2mm(spacing)
    assert tuple(part.step for part in thin.index) == steps
    assert thin.spacing == tuple(edge * step for edge, step in zip(spacing, steps, strict=True))


def test_the_ball_is_round_in_mm() -> None:
    assert ball(1.0, MM).sum() == 7
    assert ball(1.0, (2.0, 2.0, 2.0)).sum() == 1
    assert ball(3.0, (1.0, 1.0, 3.0)).shape == (7, 7, 3)


def test_cleaning_drops_specks_and_fills_holes() -> None:
    speckled = LESION & ~cube(18, 20)
    speckled[4, 4, 4] = True
    assert np.array_equal(clean(speckled, BRAIN, MM, 0.1), clean(LESION, BRAIN, MM, 0.1))
    assert not clean(speckled, BRAIN, MM, 0.1)[4, 4, 4]


def test_a_small_focus_stays_unless_its_share_is_too_small() -> None:
    focus = np.zeros(SHAPE, bool)
    focus[31:37, 31:37, 31:37] = True
    assert clean(LESION | focus, BRAIN, MM, 0.02)[34, 34, 34]
    assert not clean(LESION | focus, BRAIN, MM, 0.5)[34, 34, 34]


def test_one_half_of_the_cleaned_probability_is_the_cleaned_region() -> None:
    rng = np.random.default_rng(0)
    membership = np.where(LESION, 0.9, 0.3 * rng.random(SHAPE)).astype(np.float32)
    membership[5, 5, 5] = 1.0
    probability = cleaned_probability(membership, BRAIN, MM, 0.1)
    assert np.array_equal(probability > 0.5, clean(LESION, BRAIN, MM, 0.1))
    assert probability[5, 5, 5] == 0
    assert 0 < probability[8, 18, 18] < 0.5, "the edge stays soft"
    assert not probability[~BRAIN].any()
