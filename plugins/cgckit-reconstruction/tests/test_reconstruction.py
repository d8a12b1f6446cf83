"""Each prior keeps cgckit's contract and finds a known lesion; its characteristic term is what it takes it to be."""

import functools

import numpy as np
import pytest
import torch
from cgckit_reconstruction import (
    AmconsPrior,
    AnoVaeGanPrior,
    AutoencoderPrior,
    BayesianVaePrior,
    ContextVaePrior,
    FAnoGanPrior,
    GmvaePrior,
)
from cgckit_reconstruction.amcons import entropy
from cgckit_reconstruction.residual import clean, without_specks
from cgckit_reconstruction.slices import Field, SliceStore

from cgckit import Case, UsageError
from cgckit.testing import check_prior, simulated_cases

SMALL = {"size": 16, "latent": 8, "batch": 8, "learning_rate": 3e-3, "median": 3}
FEW = {
    GmvaePrior: {"restorations": 20, "rate": 0.6},
    FAnoGanPrior: {"critic_steps": 2},
    BayesianVaePrior: {"samples": 4},
    AmconsPrior: {"size": 32},
}
METHODS = [AutoencoderPrior, ContextVaePrior, GmvaePrior, FAnoGanPrior, BayesianVaePrior, AnoVaeGanPrior, AmconsPrior]


def small(method, **options):
    """A prior that is small enough for a test."""
    return method(**{**SMALL, "steps": 80, **FEW.get(method, {}), **options})


@functools.cache
def cohort() -> tuple[tuple[Case, np.ndarray], ...]:
    """Four noisy balls with a dark middle, each with a bright sphere of 4 (noise: 0.4) at a place of its own."""
    draw = np.random.default_rng(0)
    axes = np.meshgrid(np.arange(30) - 14.5, np.arange(30) - 14.5, np.arange(14) - 6.5, indexing="ij")
    x, y, z = axes
    brain = (x / 14) ** 2 + (y / 14) ** 2 + (z / 7) ** 2 < 1
    found = []
    for number in range(4):
        image = 0.4 * draw.standard_normal(brain.shape)
        image[(x / 4) ** 2 + (y / 5) ** 2 + (z / 4) ** 2 < 1] -= 2
        angle = np.pi * number / 2 + 0.5
        lesion = (x - 8 * np.cos(angle)) ** 2 + (y - 8 * np.sin(angle)) ** 2 + z**2 < 3.2**2
        image[lesion] += 4
        values = torch.from_numpy((image * brain).astype(np.float32))[None]
        case = Case(f"toy{number}", values, torch.from_numpy(brain), ("flair",), (4.0, 4.0, 4.0))
        found.append((case, lesion & brain))
    return tuple(found)


@functools.cache
def fitted(method, **options):
    return small(method, **options).fit([case for case, _ in cohort()])


@pytest.mark.parametrize("method", METHODS)
def test_keeps_the_contract(method):
    check_prior(lambda: small(method, steps=2))


@pytest.mark.parametrize("method", METHODS)
def test_finds_the_lesion_with_its_own_threshold(method):
    for case, lesion in cohort():
        found = fitted(method).predict(case).probability.numpy() >= 0.5
        assert 2 * (found & lesion).sum() / (found.sum() + lesion.sum()) >= 0.5


def filling_error(prior) -> float:
    """Error where the dark middle of all subjects was cut out of the middle slice, mean over them."""
    errors = []
    for case, _ in cohort():
        field = Field.of(case.brain)
        image = field.slices(case.image[0], prior.size)[6:8]
        cut = image.clone()
        middle = (..., slice(6, 10), slice(6, 10))
        cut[middle] = 0
        with torch.no_grad():
            errors.append((prior._network(cut) - image)[middle].abs().mean())
    return float(torch.stack(errors).mean())


def test_context_vae_fills_in_what_was_cut_out_and_a_plain_vae_does_not():
    assert filling_error(fitted(ContextVaePrior)) < 0.75 * filling_error(fitted(ContextVaePrior, context=0.0))


def compactness(prior) -> float:
    """How much more is taken from each pixel of a bright square than from a bright pixel that stands alone."""
    case, _ = cohort()[0]
    image = Field.of(case.brain).slices(case.image[0], prior.size)[:1] * 0
    image[0, 0, 6:10, 4:8] = image[0, 0, 8, 12] = 3
    found = prior.anomaly(prior._network, image, torch.ones_like(image))[0, 0]
    return float(found[6:10, 4:8].mean() / found[8, 12].abs().clamp_min(1e-3))


def test_gmvae_restores_compact_places_and_leaves_single_pixels_alone():
    assert compactness(fitted(GmvaePrior, tv=0.5)) > 2 > compactness(fitted(GmvaePrior, restorations=0))


def mixture_cost(components: int) -> float:
    """Mean of the bound's terms of the code, for codes in two heaps far apart, with the mixture fitted to them."""
    from cgckit_reconstruction.gmvae import MixtureVae
    from cgckit_reconstruction.networks import Gaussian

    torch.manual_seed(0)
    network = MixtureVae(16, 2, components, style=1)
    heap = torch.tensor([[3.0, 3.0], [-3.0, -3.0]])
    code = Gaussian(heap.repeat(8, 1), torch.full((16, 2), -2.0))
    style = torch.zeros(16, 1)
    optimizer = torch.optim.Adam(network.mixture.parameters(), 0.05)
    for _ in range(200):
        prior = network.prior(style)
        cost = network.code_cost(code, code.mean, prior).mean()
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    return float(cost.detach())


def test_gmvae_holds_two_kinds_of_slices_that_one_gaussian_does_not():
    # Two heaps with deviation e^-1 at distance 6 cost log 2 each in a mixture; one Gaussian has to span them.
    assert mixture_cost(9) < 0.5 * mixture_cost(1)


def generator_error(prior) -> float:
    """How far the mean of what a generator makes lies from the mean of the slices, in the brain."""
    torch.manual_seed(0)
    slices, brain = SliceStore([case for case, _ in cohort()], "flair", prior.size).draw(256)
    with torch.no_grad():
        made = prior._network.generator(2 * torch.rand(256, prior.latent) - 1)
    inside = brain.mean(dim=0) > 0.5
    return float((made.mean(dim=0) - slices.mean(dim=0))[inside].abs().mean())


def test_f_anogan_makes_slices_with_a_critic_and_does_not_without():
    assert generator_error(fitted(FAnoGanPrior)) < 0.5 * generator_error(fitted(FAnoGanPrior, critic_steps=0))


def test_bayesian_vae_is_unsure_everywhere_and_of_nothing_without_dropout():
    case, _ = cohort()[0]
    unsure = fitted(BayesianVaePrior).uncertainty(case)
    assert unsure.shape == case.brain.shape
    assert not unsure[~case.brain.numpy()].any()
    assert unsure[case.brain.numpy()].min() > 0
    assert fitted(BayesianVaePrior, dropout=0.0, steps=2).uncertainty(case).max() < 1e-5


def roughness(prior) -> float:
    """Mean difference of neighbouring pixels in reconstructions of the middle slices, as a share of the slices' own."""
    made, real = [], []
    for case, _ in cohort():
        image = Field.of(case.brain).slices(case.image[0], prior.size)[5:9, :, 4:12, 4:12]
        with torch.no_grad():
            found = prior._network(Field.of(case.brain).slices(case.image[0], prior.size))[5:9, :, 4:12, 4:12]
        made.append(found.diff(dim=2).abs().mean() + found.diff(dim=3).abs().mean())
        real.append(image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean())
    return float(torch.stack(made).sum() / torch.stack(real).sum())


def test_anovaegan_reconstructs_more_sharply_than_a_plain_vae():
    assert roughness(fitted(AnoVaeGanPrior)) > 1.2 * roughness(fitted(AnoVaeGanPrior, adversarial=0.0))


def unevenness(prior) -> float:
    """How far the entropy of attention is from the largest, as a share of it."""
    torch.manual_seed(0)
    slices, brain = SliceStore([case for case, _ in cohort()], "flair", prior.size).draw(32)
    with torch.no_grad():
        return float(1 - entropy(prior._network.attend(slices)[0], brain).mean())


def test_amcons_spreads_attention_evenly_where_its_entropy_counts():
    assert unevenness(fitted(AmconsPrior, entropy_weight=1.0)) < 0.5 * unevenness(
        fitted(AmconsPrior, entropy_weight=0.0)
    )


def test_reconstruction_improves_with_training():
    def error(prior) -> float:
        case, _ = cohort()[0]
        return float(np.abs(prior._volume(case, prior.anomaly)).sum())

    assert error(fitted(AutoencoderPrior)) < 0.8 * error(fitted(AutoencoderPrior, steps=1))


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    small(AutoencoderPrior, steps=1).fit(simulated_cases())
    assert torch.equal(torch.rand(3), expected)


def test_a_seed_of_its_own_gives_another_model():
    first, second = (small(AutoencoderPrior, steps=1, seed=seed).fit(simulated_cases()).state() for seed in (0, 1))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_refuses_a_case_without_the_modality():
    case = simulated_cases()[0]
    other = Case("other", case.image[1:], case.brain, ("t1",), case.spacing)
    with pytest.raises(UsageError, match="other has no flair"):
        small(AutoencoderPrior, steps=1).fit(simulated_cases()).predict(other)


@pytest.mark.parametrize(("option", "value"), [("size", 48), ("steps", 0), ("quantile", 1.5), ("latent", 0)])
def test_refuses_options_out_of_range(option, value):
    with pytest.raises(UsageError, match=option):
        AutoencoderPrior(**{option: value})


def test_slices_and_back_are_the_volume_where_the_size_is_the_fields():
    case = simulated_cases()[1]
    field = Field.of(case.brain)
    back = field.volume(field.slices(case.image[0], field.edge), case.brain.shape)
    assert torch.allclose(back[case.brain], case.image[0][case.brain], atol=1e-5)


def test_slices_with_the_most_evidence_are_left_out():
    cases = [case for case, _ in cohort()]
    everything = SliceStore(cases, "flair", 16)
    rest = SliceStore(cases, "flair", 16, lambda case: (case.image[0] > 2).float(), 0.7)
    assert len(rest) == len(everything) - int(0.7 * len(everything))
    images, brains = rest.draw(64)
    assert float(images[brains > 0].max()) < 2.5 < float(everything.draw(64)[0].max())


def test_exclude_takes_the_name_of_a_prior():
    everything, rest = (small(AutoencoderPrior, steps=5, exclude=name).fit(simulated_cases()) for name in ("", "gmm"))
    assert any(not torch.equal(value, everything.state()[name]) for name, value in rest.state().items())


def test_each_step_of_the_post_processing_can_be_switched_off():
    brain = np.ones((9, 9, 9), bool)
    residual = np.zeros(brain.shape, np.float32)
    residual[4, 4, 4], residual[0, 4, 4], residual[2, 2, 2] = 3, 2, -1
    options = {"positive": False, "erosion": 0.0, "median": 1}
    spacing = (1.0, 1.0, 1.0)
    assert np.array_equal(clean(residual, brain, spacing, **options), np.abs(residual))
    assert clean(residual, brain, spacing, **{**options, "positive": True})[2, 2, 2] == 0
    assert clean(residual, brain, spacing, **{**options, "erosion": 1.0})[0, 4, 4] == 0
    assert not clean(residual, brain, spacing, **{**options, "median": 3}).any()
    assert without_specks(residual, 1.5, 1).any()
    assert not (without_specks(residual, 1.5, 2) >= 1.5).any()
