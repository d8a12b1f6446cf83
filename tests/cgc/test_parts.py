"""Parts of a refined map: specks and what the judge refuses leave the mask, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cgckit.cgc.parts import parts_gone, without_false_parts


def without_specks(probability: torch.Tensor, spacing: tuple[float, float, float], volume: float) -> torch.Tensor:
    """A judge without opinion refuses nothing."""
    nothing = torch.zeros_like(probability)
    return without_false_parts(probability, nothing, spacing, min_volume=volume, least=0.0).probability


def without_refused(probability: torch.Tensor, log_odds: torch.Tensor, least: float) -> torch.Tensor:
    """No part is a speck."""
    return without_false_parts(probability, log_odds, (1.0, 1.0, 1.0), min_volume=0.0, least=least).probability


def test_parts_below_the_volume_leave_the_mask_by_as_little_as_can_be() -> None:
    probability = torch.full((16, 16, 16), 0.2)
    probability[2:6, 2:6, 2:6] = 0.9  # 512 mm^3 at 2 mm
    probability[10:12, 10:12, 10:12] = 0.8  # 64 mm^3
    for least, kept in ((0.0, 72), (64.0, 72), (65.0, 64), (513.0, 0)):
        left = without_specks(probability, (2.0, 2.0, 2.0), least)
        assert int((left >= 0.5).sum()) == kept
        assert torch.equal(left[left >= 0.5], probability[left >= 0.5])
        assert (left[10:12, 10:12, 10:12] > 0.49).all()


def test_parts_that_the_judge_refuses_leave_the_mask() -> None:
    probability = torch.full((20, 8, 8), 0.2)
    log_odds = torch.full((20, 8, 8), -1.0)
    for start, agreed in ((1, 4), (7, 2), (13, 1)):
        probability[start : start + 4, 2:6, 2:6] = 0.9
        log_odds[start : start + agreed, 2:6, 2:6] = 0.0  # all, half and a quarter of the part
    for least, kept in ((0.0, [1, 7, 13]), (0.25, [1, 7, 13]), (0.5, [1, 7]), (0.6, [1]), (1.0, [1])):
        left = without_refused(probability, log_odds, least)
        assert [start for start in (1, 7, 13) if (left[start : start + 4, 2:6, 2:6] >= 0.5).all()] == kept
        assert int((left >= 0.5).sum()) == 64 * len(kept)
        assert left[left < 0.5].unique().tolist() == pytest.approx([0.2] if len(kept) == 3 else [0.2, 0.499])


def test_if_all_parts_are_refused_the_least_doubtful_stays() -> None:
    probability = torch.full((16, 8, 8), 0.2)
    probability[1:4, 2:6, 2:6] = probability[8:14, 2:6, 2:6] = 0.9
    log_odds = torch.full((16, 8, 8), -3.0)
    log_odds[8:14, 2:6, 2:6] = -4.0
    log_odds[13, 2:6, 2:6] = 1.0  # a sixth of the larger part, which is more than of the other
    assert (without_refused(probability, log_odds, 0.5) >= 0.5).nonzero()[:, 0].unique().tolist() == [1, 2, 3]
    alike = torch.full_like(log_odds, -3.0)
    assert torch.equal(without_refused(probability, alike, 0.5), probability)


def test_a_fragment_does_not_stay_in_place_of_a_lesion() -> None:
    probability = torch.zeros(16, 8, 8)
    probability[1:11, 1:7, 1:7] = probability[13, 1:7, 1:7] = 0.9  # 360 and 36 voxels
    log_odds = torch.full((16, 8, 8), -2.0)
    log_odds[13] = -0.5
    assert (without_refused(probability, log_odds, 0.5) >= 0.5).nonzero()[:, 0].unique().tolist() == [13]
    probability[13, 1, 1] = 0.0
    kept = without_refused(probability, log_odds, 0.5) >= 0.5
    assert kept.nonzero()[:, 0].unique().tolist() == list(range(1, 11))
    log_odds[13] = 0.5
    kept = without_refused(probability, log_odds, 0.5) >= 0.5
    assert kept.nonzero()[:, 0].unique().tolist() == [*range(1, 11), 13], "it is no reason to drop the lesion either"


def test_a_speck_leaves_whatever_the_judge_says_of_it() -> None:
    probability = torch.zeros(16, 8, 8)
    probability[1:5, 1:7, 1:7] = probability[7, 1:6, 1:4] = probability[9:11, 1:3, 1] = 0.9  # 144, 15 and 4 voxels
    log_odds = torch.full((16, 8, 8), -2.0)
    log_odds[7], log_odds[9:] = -1.0, 3.0
    for volume, kept in ((0.0, [7, 9, 10]), (5.0, [7]), (16.0, [1, 2, 3, 4]), (145.0, [])):
        left = without_false_parts(probability, log_odds, (1.0, 1.0, 1.0), min_volume=volume, least=0.5).probability
        assert (left >= 0.5).nonzero()[:, 0].unique().tolist() == kept


def test_voxels_that_meet_at_a_corner_alone_are_judged_apart() -> None:
    probability = torch.zeros(8, 8, 8)
    probability[1:4, 1:4, 1:4] = probability[4, 4, 4] = 0.9
    log_odds = torch.full((8, 8, 8), -1.0)
    log_odds[1:4, 1:4, 1:4] = 1.0
    assert int((without_refused(probability, log_odds, 0.5) >= 0.5).sum()) == 27


def test_an_empty_map_stays_as_it_is() -> None:
    empty = torch.zeros(4, 4, 4)
    assert torch.equal(without_specks(empty, (1.0, 1.0, 1.0), 50.0), empty)
    assert torch.equal(without_refused(empty, empty, 0.5), empty)


def test_the_part_that_holds_most_of_the_prior_stays_whatever_the_judge_says() -> None:
    probability = torch.zeros(20, 8, 8)
    prior = torch.zeros(20, 8, 8)
    log_odds = torch.full((20, 8, 8), -1.0)
    probability[1:5, 2:6, 2:6] = probability[7:11, 2:6, 2:6] = probability[13:19, 2:6, 2:6] = 0.9
    log_odds[1:5] = 1.0  # the judge agrees with the first
    prior[7:11, 2:6, 2:6] = 0.9
    prior[13:19, 2:6, 2:6] = 0.5
    options = {"min_volume": 0.0, "least": 0.5}
    left = without_false_parts(probability, log_odds, (1.0, 1.0, 1.0), **options, prior=prior).probability
    assert [bool((left[start] >= 0.5).any()) for start in (1, 7, 13)] == [True, True, False]
    none = torch.zeros_like(prior)
    unheld = without_false_parts(probability, log_odds, (1.0, 1.0, 1.0), **options, prior=none).probability
    assert [bool((unheld[start] >= 0.5).any()) for start in (1, 7, 13)] == [True, False, False]


def test_a_part_goes_only_if_the_witness_refuses_it_too_and_is_doubted_otherwise() -> None:
    probability = torch.zeros(20, 8, 8)
    log_odds = torch.full((20, 8, 8), -1.0)
    witness = torch.zeros(20, 8, 8, dtype=torch.bool)
    for start in (1, 7, 13):
        probability[start : start + 4, 2:6, 2:6] = 0.9
    log_odds[1:5] = 1.0
    witness[7:9] = True  # half of the second part
    witness[13, 2:6, 2:6] = True  # a quarter of the third
    judged = without_false_parts(probability, log_odds, (1.0, 1.0, 2.0), min_volume=0.0, least=0.5, witness=witness)
    assert [bool((judged.probability[start] >= 0.5).any()) for start in (1, 7, 13)] == [True, True, False]
    assert judged.doubted_ml == [pytest.approx(0.128)]
    agreed = without_false_parts(probability, -log_odds.abs() * -1, (1.0, 1.0, 1.0), min_volume=0.0, least=0.5)
    assert agreed.doubted_ml == []


def test_parts_of_which_nothing_is_left_are_listed_with_their_size() -> None:
    before = np.zeros((12, 6, 6), bool)
    before[1:3, 1:3, 1:3] = before[5, 1:3, 1:3] = before[8:11, 1:4, 1:4] = True
    after = np.zeros_like(before)
    after[10, 3, 3] = True  # a voxel of the largest part
    after[3:5] = True
    assert parts_gone(before, after) == [8, 4]
    assert parts_gone(before, before) == parts_gone(after & ~after, before) == []
