"""The prior keeps cgckit's contract, learns, and marks what the others do not have."""

import dataclasses
import functools

import pytest
import torch
from cgckit_autoencoder import AutoencoderPrior
from cgckit_autoencoder.network import Autoencoder, fit_into

from cgckit import Case, UsageError
from cgckit.testing import check_prior, simulated_cases

QUICK = functools.partial(AutoencoderPrior, steps=2, spacing=12.0)


def test_keeps_the_contract():
    check_prior(QUICK)


def test_reconstruction_improves_with_training():
    cases = simulated_cases()

    def error(prior: AutoencoderPrior) -> float:
        prior.fit(cases)
        residuals = [(case.image[0] - torch.from_numpy(prior._reconstruct(case, 0)))[case.brain] for case in cases]
        return float(torch.cat(residuals).abs().mean())

    assert error(AutoencoderPrior(steps=15, spacing=12.0)) < error(QUICK())


def test_marks_what_only_one_subject_has():
    cases = [dataclasses.replace(case, image=case.image.clone()) for case in simulated_cases()]
    odd = cases[2]
    spot = (slice(10, 14), slice(14, 18), slice(20, 24))
    odd.image[(0, *spot)] = 8.0
    prior = AutoencoderPrior(steps=10, spacing=12.0).fit(cases)
    found = prior.predict(odd).probability
    assert found[spot].mean() > 0.5
    assert found[odd.brain].mean() < 0.25


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    QUICK().fit(simulated_cases())
    assert torch.equal(torch.rand(3), expected)


def test_a_seed_of_its_own_gives_another_model():
    cases = simulated_cases()
    first, second = (QUICK(seed=seed).fit(cases).state() for seed in (0, 1))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_refuses_a_case_of_other_modalities():
    cases = simulated_cases()
    prior = QUICK().fit(cases)
    flair = cases[0].image[:1].clone()
    single = Case("single", flair, cases[0].brain, ("flair",), cases[0].spacing)
    with pytest.raises(UsageError, match="single has 1 modalities"):
        prior.predict(single)


@pytest.mark.parametrize("size", [5, 6, 9, 12])
def test_boxing_and_back_returns_the_middle(size):
    volume = torch.arange(7 * 8 * 9.0).reshape(1, 7, 8, 9)
    back = fit_into(fit_into(volume, (16, 16, 16)), (7, 8, 9))
    assert torch.equal(back, volume)
    assert fit_into(volume, (size, size, size)).shape == (1, size, size, size)


def test_network_keeps_the_shape():
    with torch.no_grad():
        assert Autoencoder(2, 4)(torch.zeros(1, 2, 16, 24, 16)).shape == (1, 2, 16, 24, 16)


@pytest.mark.parametrize("option", ["steps", "learning_rate", "spacing", "latent", "cut"])
def test_refuses_options_out_of_range(option):
    with pytest.raises(UsageError, match=option):
        AutoencoderPrior(**{option: 0})
