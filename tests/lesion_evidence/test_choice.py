"""The choice of lesion classes without labels, by the border; and which connected parts stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from cgckit.lesion_evidence.blocks import Blocks
from cgckit.lesion_evidence.choice import Candidate, choose_lesion
from cgckit.lesion_evidence.regions import Landscape, Selection, ball, lesion_map

MM = (1.0, 1.0, 1.0)
SHAPE = (40, 40, 40)


def cube(low: int, high: int) -> np.ndarray:
    region = np.zeros(SHAPE, bool)
    region[low:high, low:high, low:high] = True
    return region


BRAIN = cube(2, 38)
CORE, LESION, HALO = cube(16, 22), cube(10, 28), cube(8, 30)
# The volume and the level speak for the halo, and only the border for the lesion.
LEVELS = {1: 7.2, 2: 4.0, 3: 2.5}


def image() -> np.ndarray:
    """Evidence of a lesion with a brighter core, in grey matter that is brighter than the rest."""
    steps = np.select([CORE, LESION, HALO, BRAIN], [8.0, 6.5, 1.0, -0.5], 0.0).astype(np.float32)
    return ndimage.gaussian_filter(steps, 1.0)


def candidates() -> list[Candidate]:
    return [Candidate(6, count, LEVELS[count], part) for count, part in enumerate((CORE, LESION, HALO), start=1)]


def choose(sets: list[Candidate], floor: float = 1.3, **options: Any) -> tuple[Candidate, Selection] | None:
    settings: dict[str, Any] = {"min_component": 0.1, "min_edge": 0.5} | options
    return choose_lesion(Landscape.of(image(), BRAIN, MM), sets, floor=floor, **settings)


@pytest.mark.parametrize("order", [1, -1])
def test_neither_half_a_lesion_nor_lesion_with_grey_matter_is_chosen(order: int) -> None:
    found = choose(candidates()[::order])
    assert found is not None
    assert found[0].count == 2
    assert np.array_equal(found[1].region, LESION)
    assert found[1].volume_ml == pytest.approx(LESION.sum() / 1000)


def test_sets_that_begin_below_the_floor_are_never_lesion() -> None:
    found = choose(candidates(), floor=5.0)
    assert found is not None
    assert found[0].count == 1
    assert choose(candidates(), floor=13.0) is None


def test_in_a_fine_row_of_levels_one_that_stands_alone_is_chance() -> None:
    levels = [3.0, 3.2, 3.4, 3.6, 3.8]
    row = [Candidate(6, 1, level, HALO) for level in levels]
    row[2] = Candidate(6, 2, levels[2], LESION)
    for steady, expected in ((False, LESION), (True, HALO)):
        found = choose(row, steady=steady)
        assert found is not None
        assert np.array_equal(found[1].region, expected)


def test_most_of_the_brain_is_no_lesion() -> None:
    assert choose([Candidate(4, 3, 1.5, cube(3, 37))]) is None


def two_parts(softness: float) -> tuple[Landscape, np.ndarray, np.ndarray]:
    """A lesion and a larger bright part whose border is `softness` mm wide."""
    shape = (60, 40, 40)
    axes = np.ogrid[:60, :40, :40]
    near = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(axes, (14, 20, 20), strict=True)))
    far = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(axes, (42, 20, 20), strict=True)))
    evidence = 6 / (1 + np.exp(near - 7)) + 6 / (1 + np.exp((far - 9) / softness))
    landscape = Landscape.of(evidence.astype(np.float32), np.ones(shape, bool), MM)
    return landscape, (near < 7) & (evidence > 3), (far < 15) & (evidence > 3)


def test_a_part_that_fades_out_is_dropped_and_one_with_a_border_is_not() -> None:
    faint, lesion, other = two_parts(softness=5.0)
    found = faint.select(lesion | other, 3.0, min_component=0.1, min_edge=0.6)
    assert found is not None
    assert np.array_equal(found.region, lesion)
    sharp, lesion, other = two_parts(softness=1.0)
    found = sharp.select(lesion | other, 3.0, min_component=0.1, min_edge=0.6)
    assert found is not None
    assert np.array_equal(found.region, lesion | other)


def test_holes_are_filled_and_specks_and_slight_parts_dropped() -> None:
    focus = np.zeros(SHAPE, bool)
    focus[31:36, 31:36, 31:36] = True
    steps = np.where(LESION | focus, np.float32(6), np.float32(0))
    steps[4, 4, 4] = 6
    landscape = Landscape.of(steps, BRAIN, MM)
    hollow = (steps > 3) & ~cube(18, 20)

    def region(min_component: float) -> np.ndarray:
        found = landscape.select(hollow, 3.0, min_component, 0.0)
        assert found is not None
        return found.region

    assert np.array_equal(region(0.01), LESION | focus)
    assert np.array_equal(region(0.1), LESION)


@pytest.mark.parametrize(
    ("seen", "min_component", "stays"),
    [
        pytest.param(1.0, 0.05, True, id="a small lesion that the witness sees"),
        pytest.param(0.4, 0.05, False, id="one of which it sees less than half"),
        pytest.param(1.0, 0.1, False, id="one too small all the same"),
        pytest.param(0.4, 0.01, True, id="one large enough"),
        pytest.param(0.0, 0.01, False, id="one large enough that it does not see"),
    ],
)
def test_a_witness_speaks_for_a_part(seen: float, min_component: float, stays: bool) -> None:
    """The part has .021 of the larger one's mass; of the larger one, which stays, the witness sees nothing."""
    focus = np.zeros(SHAPE, bool)
    focus[31:36, 31:36, 31:36] = True
    witness = focus & (np.arange(SHAPE[0])[:, None, None] < 31 + 5 * seen)
    steps = np.where(LESION | focus, np.float32(6), np.float32(0))
    found = Landscape.of(steps, BRAIN, MM, witness).select(steps > 3, 3.0, min_component, 0.0)
    assert found is not None
    assert np.array_equal(found.region, LESION | focus if stays else LESION)


def test_a_region_without_a_part_to_keep_is_none() -> None:
    landscape = Landscape.of(image(), BRAIN, MM)
    speck = np.zeros(SHAPE, bool)
    speck[20, 20, 20] = True
    assert landscape.select(speck, 3.0, 0.1, 0.5) is None
    assert landscape.select(np.zeros(SHAPE, bool), 3.0, 0.1, 0.5) is None


def test_the_slope_is_per_mm() -> None:
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (8, 8, 8))
    assert Landscape.of(ramp, np.ones(ramp.shape, bool), (2.0, 1.0, 1.0)).slope[4, 4, 4] == pytest.approx(0.5)


def test_the_ball_is_round_in_mm() -> None:
    assert ball(1.0, MM).sum() == 7
    assert ball(1.0, (2.0, 2.0, 2.0)).sum() == 1
    assert ball(3.0, (1.0, 1.0, 3.0)).shape == (7, 7, 3)


def test_one_half_of_the_map_is_the_parts_that_were_chosen() -> None:
    rng = np.random.default_rng(0)
    focus = np.zeros(SHAPE, bool)
    focus[31:36, 31:36, 31:36] = True
    membership = np.where(LESION | focus, 0.9, 0.3 * rng.random(SHAPE)).astype(np.float32)
    membership[cube(18, 20)] = 0.0
    blocks = Blocks.cut(BRAIN, MM, 2.0)
    probability = lesion_map(membership, blocks, MM, blocks.mean(LESION.astype(np.float32)) > 0.5)
    assert np.array_equal(probability > 0.5, LESION)
    assert probability[33, 33, 33] == 0
    assert 0 < probability[8, 18, 18] < 0.5, "the edge stays soft"
    assert not probability[~BRAIN].any()


def test_a_bridge_of_the_fine_grid_does_not_bring_in_what_was_not_chosen() -> None:
    membership = np.where(LESION | cube(31, 37), np.float32(0.9), np.float32(0))
    bridge = np.s_[27:32, 27:32, 27:32]
    membership[bridge] = 0.9
    blocks = Blocks.cut(BRAIN, MM, 2.0)
    found = lesion_map(membership, blocks, MM, blocks.mean(LESION.astype(np.float32)) > 0.5) > 0.5
    assert not found[cube(31, 37)].any()
    assert np.array_equal(found & LESION, LESION)


def test_what_is_bright_at_the_surface_alone_is_dropped_and_a_lesion_that_reaches_it_is_not() -> None:
    """Fat under the brain, brighter than the lesion."""
    fat, lesion = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    fat[4:16, 4:16, 2:6], lesion[2:18, 20:34, 20:34] = True, True
    evidence = ndimage.gaussian_filter(np.select([fat, lesion], [9.0, 6.0]).astype(np.float32), 0.7) * BRAIN
    landscape = Landscape.of(evidence, BRAIN, MM)
    for depth, expected in ((0.0, True), (5.0, False)):
        found = landscape.select(evidence > 3, 3.0, min_component=0.1, min_edge=0.0, min_depth=depth)
        assert found is not None
        assert found.region[lesion & (evidence > 3)].all()
        assert found.region[fat].any() == expected


def test_a_sheet_at_the_surface_is_cut_from_the_lesion_that_it_touches() -> None:
    """Fat under the whole brain, from one side of it to the other, and a lesion that reaches down to it."""
    sheet, lesion = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    sheet[2:38, 2:38, 2:6], lesion[10:20, 10:20, 2:24] = True, True
    evidence = ndimage.gaussian_filter(np.select([sheet, lesion], [9.0, 6.0]).astype(np.float32), 0.7) * BRAIN
    found = Landscape.of(evidence, BRAIN, MM).select(evidence > 3, 3.0, min_component=0.1, min_edge=0.0, min_depth=5.0)
    assert found is not None
    assert found.region[lesion & (evidence > 3)].all()
    assert not found.region[sheet & ~ndimage.binary_dilation(lesion, ball(2, MM))].any()


def test_nothing_is_cut_from_a_brain_without_depth() -> None:
    flat = np.zeros(SHAPE, bool)
    flat[2:38, 2:38, 2:8] = True
    landscape = Landscape.of(np.where(flat & LESION, np.float32(6), np.float32(0)), flat, MM)
    assert landscape.select(flat & cube(2, 30), 3.0, 0.1, 0.0, min_depth=5.0) is None


def test_a_hole_in_the_brain_is_no_surface() -> None:
    brain = BRAIN & ~cube(18, 22)
    assert Landscape.of(np.zeros(SHAPE, np.float32), brain, MM).depth[16, 20, 20] == 15
