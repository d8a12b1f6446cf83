"""The prior keeps cgckit's contract, finds what is bright and compact, and nothing else."""

import numpy as np
import pytest
import torch
from cgckit_flair_threshold import FlairThresholdPrior, equalise, keep_large, smooth_inside

from cgckit import Case, UsageError
from cgckit.testing import check_prior

SHAPE = (30, 32, 28)
LESION = (slice(8, 17), slice(10, 19), slice(9, 18))


def make_case(modalities=("flair",), lesion=6.0) -> Case:
    brain = torch.zeros(SHAPE, dtype=torch.bool)
    brain[2:-2, 2:-2, 2:-2] = True
    image = torch.randn((len(modalities), *SHAPE), generator=torch.Generator().manual_seed(0))
    image[(0, *LESION)] += lesion
    return Case("case", image * brain, brain, tuple(modalities), (2.0, 2.0, 2.0))


def test_keeps_the_contract():
    check_prior(FlairThresholdPrior)


def test_finds_a_bright_block_and_little_else():
    found = FlairThresholdPrior().predict(make_case()).probability >= 0.5
    lesion = torch.zeros(SHAPE, dtype=torch.bool)
    lesion[LESION] = True
    assert found[10:15, 12:17, 11:16].all()
    assert (found & lesion).sum() / found.sum() > 0.5


def test_probability_falls_off_across_the_border():
    found = FlairThresholdPrior().predict(make_case()).probability
    assert found[12, 14, 13] == 1
    assert ((found > 0) & (found < 1)).any()


def test_equalisation_does_not_care_about_scale_or_contrast():
    case = make_case()
    bent = Case(case.subject, torch.exp(case.image) * case.brain, case.brain, case.modalities, case.spacing)
    prior = FlairThresholdPrior()
    assert torch.equal(prior.predict(case).probability, prior.predict(bent).probability)


def test_equalised_values_are_ranks():
    image = np.array([[[3.0, 1.0, 2.0, 9.0]]], dtype=np.float32)
    brain = np.array([[[True, True, True, False]]])
    np.testing.assert_allclose(equalise(image, brain), [[[1.0, 1 / 3, 2 / 3, 0.0]]])


def test_smoothing_takes_nothing_in_from_outside_the_brain():
    brain = np.zeros((9, 9, 9), dtype=bool)
    brain[3:6, 3:6, 3:6] = True
    constant = np.where(brain, np.float32(0.7), np.float32(5))
    np.testing.assert_allclose(smooth_inside(constant, brain, [1.0] * 3)[brain], 0.7, rtol=1e-5)


def test_small_components_are_dropped():
    mask = np.zeros((20, 8, 8), dtype=bool)
    mask[1:6, 1:6, 1:6] = True
    mask[10, 1, 1] = True
    kept, count = keep_large(mask, 0.2)
    assert count == 1
    assert kept.sum() == 125


def test_takes_the_first_channel_of_a_case_without_flair():
    prior = FlairThresholdPrior()
    with_name = prior.predict(make_case(("flair", "t1"))).probability
    without = prior.predict(make_case(("ct", "t1")))
    assert torch.equal(with_name, without.probability)
    assert "ct" in without.note


@pytest.mark.parametrize("option", [{"quantile": 1.0}, {"smoothing": -1.0}, {"smallest": 2.0}])
def test_refuses_options_out_of_range(option):
    with pytest.raises(UsageError, match=next(iter(option))):
        FlairThresholdPrior(**option)
