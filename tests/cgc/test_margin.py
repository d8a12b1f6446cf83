"""The margin of a prior: which voxels are trained on, and what its place says."""

from __future__ import annotations

import torch

from cgckit.cgc.margin import prior_log_odds, signed_distance, trusted

SPACING = (1.0, 1.0, 1.0)


def slab() -> torch.Tensor:
    """Lesion in the first 10 of 30 planes."""
    prior = torch.zeros(30, 4, 4)
    prior[:10] = 0.5
    return prior


def test_distance_is_in_mm_positive_inside_and_negative_outside() -> None:
    distance = signed_distance(slab(), (2.0, 1.0, 1.0))[:, 0, 0]
    assert distance[[0, 9, 10, 29]].tolist() == [20, 2, -2, -40]


def test_distance_to_a_lesion_that_is_nowhere_or_everywhere() -> None:
    assert (signed_distance(torch.zeros(3, 3, 3), SPACING) < -1000).all()
    assert (signed_distance(torch.ones(3, 3, 3), SPACING) > 1000).all()


def test_voxels_near_the_edge_are_not_trusted_on_either_side() -> None:
    brain = torch.ones(30, 4, 4, dtype=torch.bool)
    brain[25:] = False
    kept = trusted(slab(), brain, SPACING, inner=2.0, outer=5.0)[:, 0, 0]
    assert kept.nonzero().flatten().tolist() == [*range(8), *range(15, 25)]


def test_without_margins_the_whole_brain_is_trusted() -> None:
    brain = torch.rand(30, 4, 4) > 0.5
    assert torch.equal(trusted(slab(), brain, SPACING, inner=0.0, outer=0.0), brain)


def test_a_lesion_thinner_than_the_inner_margin_keeps_its_core() -> None:
    prior = torch.zeros(40, 9, 9)
    prior[2:12] = 1.0
    prior[30:33, 3:6, 3:6] = 1.0
    prior[36, 4, 4] = 1.0
    kept = trusted(prior, torch.ones(40, 9, 9, dtype=torch.bool), SPACING, inner=3.0, outer=1.0)
    assert kept[30:33, 3:6, 3:6].nonzero().tolist() == [[1, 1, 1]]
    assert kept[36, 4, 4]
    assert not kept[2].any(), "a component that is deep enough keeps no more than its interior"


def test_where_the_prior_is_undecided_nothing_is_trusted() -> None:
    prior = torch.tensor([0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0]).reshape(7, 1, 1)
    kept = trusted(prior, torch.ones(7, 1, 1).bool(), SPACING, inner=0.0, outer=0.0, doubt=0.15)
    assert kept.flatten().tolist() == [True, True, False, False, False, True, True]


def test_log_odds_are_the_prior_s_own_and_grow_with_the_distance_to_its_edge() -> None:
    log_odds = prior_log_odds(slab(), SPACING, reach=12.0)[:, 0, 0]
    outside = torch.tensor(0.02).logit()
    expected = {0: 5.0, 6: 2.0, 9: 0.5, 10: outside - 0.5, 15: outside - 3.0, 21: outside - 6.0, 29: outside - 6.0}
    for plane, value in expected.items():
        torch.testing.assert_close(log_odds[plane], torch.as_tensor(value))


def test_a_certain_prior_can_be_outvoted() -> None:
    assert prior_log_odds(torch.ones(3, 3, 3), SPACING, reach=12.0).isfinite().all()
