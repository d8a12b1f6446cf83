"""The health check sees what is wrong with a prior from the image alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from cgckit.images.case import Case
from cgckit.pipeline.health import assess

SHAPE = (40, 44, 38)
SPACING = 3.0


@pytest.fixture(scope="module")
def distance() -> torch.Tensor:
    """Distance from the centre of the brain as a share of its radius."""
    axes = [np.linspace(-1.1, 1.1, size) for size in SHAPE]
    return torch.from_numpy(np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij"))))


@pytest.fixture
def case(distance: torch.Tensor) -> Case:
    brain = distance < 1
    image = torch.randn((2, *SHAPE), generator=torch.Generator().manual_seed(0)) * brain
    return Case("case", image, brain, ("t1", "flair"), (SPACING,) * 3)


def block(start: int, size: int) -> torch.Tensor:
    mask = torch.zeros(SHAPE)
    part = slice(start, start + size)
    mask[part, part, part] = 1
    return mask


def test_figures_of_a_bright_block(case):
    lesion = block(15, 8)
    case.image[1][lesion.bool()] += 6
    health = assess(case, lesion)
    assert health.volume_ml == pytest.approx(8**3 * SPACING**3 / 1000)
    assert health.fraction == pytest.approx(8**3 / int(case.brain.sum()))
    assert (health.components, health.largest_ml) == (1, health.volume_ml)
    assert health.modality == "flair"
    # Unit noise: six above the shell's median, up to sampling error of two medians and a MAD.
    assert health.contrast == pytest.approx(6, rel=0.2)
    assert health.edge_share == 0
    assert health.degenerate is None
    assert health.remarks == ()


def test_contrast_is_negative_for_a_dark_lesion(case):
    lesion = block(15, 8)
    case.image[0][lesion.bool()] -= 4
    health = assess(case, lesion)
    assert health.modality == "t1"
    assert health.contrast < -3


def test_contrast_is_to_the_surroundings_and_not_to_the_brain(case, distance):
    lesion = block(15, 8)
    case.image[1] += 5 * (distance < 0.7)  # the lesion is as bright as everything around it
    assert abs(assess(case, lesion).contrast) < 1
    assert any("hardly differs" in remark for remark in assess(case, lesion).remarks)


def test_contrast_leaves_tissue_farther_away_aside(case):
    lesion = block(15, 8)
    case.image[1][lesion.bool()] += 6
    distance = torch.from_numpy(ndimage.distance_transform_edt(lesion == 0, sampling=SPACING))
    case.image[1] += 20 * (case.brain & (distance > 10))
    health = assess(case, lesion)
    assert health.modality == "flair"
    assert health.contrast == pytest.approx(6, rel=0.2)


def test_probability_below_one_half_is_no_lesion(case):
    health = assess(case, 0.49 * case.brain.float())
    assert "empty" in health.degenerate
    assert not health.weighable
    assert health.contrast is None


@pytest.mark.parametrize("voxels", [0, 1])
def test_a_tiny_prior_is_empty(case, voxels):
    lesion = torch.zeros(SHAPE)
    lesion[20, 22, 19] = voxels
    assert "empty" in assess(case, lesion).degenerate


def test_most_of_the_brain_is_degenerate(case, distance):
    health = assess(case, (distance < 0.95).float())
    assert "of the brain lesion" in health.degenerate
    assert not health.weighable


def test_the_whole_brain_has_no_shell_to_compare_with(case):
    health = assess(case, case.brain.float())
    assert health.fraction == 1
    assert health.contrast is None
    assert health.degenerate is not None


def test_a_rim_all_around_is_degenerate_and_a_spot_on_it_is_not(case, distance):
    depth = torch.from_numpy(ndimage.distance_transform_edt(case.brain.numpy(), sampling=SPACING))
    rim = case.brain & (depth <= 4)
    assert "rim of the brain" in assess(case, rim.float()).degenerate
    assert not assess(case, rim.float()).weighable
    spot = rim.clone()
    spot[:, :, :28] = False
    health = assess(case, spot.float())
    assert health.degenerate is None
    assert health.edge_share > 0.9
    assert any("hugs" in remark for remark in health.remarks)


def test_a_hole_in_the_brain_mask_is_no_edge(case, distance):
    hole = distance < 0.2
    hollow = Case(case.subject, case.image, case.brain & ~hole, case.modalities, case.spacing)
    around_hole = ((distance >= 0.2) & (distance < 0.35)).float()
    assert assess(hollow, around_hole).edge_share == 0


def test_voxels_outside_the_brain_do_not_count(case):
    lesion = block(15, 8)
    with_outside = lesion.clone()
    with_outside[~case.brain] = 1
    assert assess(case, with_outside) == assess(case, lesion)


def test_scattered_voxels_are_remarked_on(case):
    noise = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))
    health = assess(case, (noise > 0.98).float() * case.brain)
    assert health.components > 50
    assert any("scattered" in remark for remark in health.remarks)


def test_parts_that_meet_at_a_corner_are_one(case):
    lesion = torch.maximum(block(12, 4), block(16, 4))
    health = assess(case, lesion)
    assert (health.components, health.largest_ml) == (1, health.volume_ml)


def test_small_and_large_priors_are_remarked_on(case, distance):
    assert any("small" in remark for remark in assess(case, block(18, 3)).remarks)
    assert any("large" in remark for remark in assess(case, (distance < 0.7).float()).remarks)


def test_a_channel_without_spread_gives_no_contrast(case):
    flat = Case(case.subject, torch.zeros_like(case.image), case.brain, case.modalities, case.spacing)
    assert assess(flat, block(15, 8)).contrast is None


def sheets(thickness: int, apart: int) -> tuple[Case, torch.Tensor]:
    """A brain of a million voxels of 1 mm with parallel sheets in its middle."""
    brain = torch.zeros((104,) * 3, dtype=torch.bool)
    brain[2:-2, 2:-2, 2:-2] = True
    lesion = torch.zeros(brain.shape)
    lesion[20:-20, 20:-20, 20:-20] = 1
    lesion[torch.arange(104) % apart >= thickness] = 0
    return Case("case", torch.randn((1, *brain.shape)) * brain, brain, ("flair",), (1.0,) * 3), lesion


def test_sheets_through_much_of_the_brain_are_degenerate_and_a_lump_is_not():
    case, folded = sheets(3, 6)
    health = assess(case, folded)
    assert health.fraction > 0.1
    assert "sheet through 1" in health.degenerate
    assert health.weighable, "a part of it may be lesion"
    lump = assess(*sheets(1, 1))
    assert lump.degenerate is None
    assert lump.weighable


def test_sheets_of_less_than_a_tenth_of_the_brain_may_be_lesions():
    case, folded = sheets(2, 8)
    health = assess(case, folded)
    assert 0.04 < health.fraction < 0.1
    assert health.degenerate is None
