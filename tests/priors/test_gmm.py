"""The Gaussian mixture prior: EM, the label-free choice of components, and what the map may never do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from cgckit.errors import UsageError
from cgckit.images.case import Case
from cgckit.priors.gmm import GaussianMixturePrior, _cuts

SHAPE = (48, 56, 44)


def head(shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    """An ellipsoid brain, [H, W, L] bool."""
    axes = torch.meshgrid(*(torch.linspace(-1.05, 1.05, n) for n in shape), indexing="ij")
    return sum(axis**2 for axis in axes) < 1


def ball_at(share: tuple[float, float, float], radius: float, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    return sum((axis - s * n) ** 2 for axis, s, n in zip(axes, share, shape, strict=True)) < radius**2


def simulate(lesion: torch.Tensor, brightness: float = 6.0, spacing: float = 2.0, name: str = "flair") -> Case:
    """White matter inside grey matter around a fluid core, mirror-symmetric but for the lesion and the noise."""
    generator = torch.Generator().manual_seed(7)
    shape = lesion.shape
    brain = head(tuple(shape))
    axes = torch.meshgrid(*(torch.linspace(-1.05, 1.05, n) for n in shape), indexing="ij")
    radius = sum(axis**2 for axis in axes).sqrt()
    image = torch.where(radius < 0.85, torch.tensor(-0.8), torch.tensor(0.9))
    image = torch.where(radius < 0.25, torch.tensor(-4.0), image)
    image = torch.where(lesion, torch.tensor(brightness), image)
    image = (image + 0.5 * torch.randn(tuple(shape), generator=generator)) * brain
    return Case("sim", image[None].float(), brain, (name,), (spacing, spacing, spacing))


def dice(probability: torch.Tensor, lesion: torch.Tensor) -> float:
    found = probability > 0.5
    return float(2 * (found & lesion).sum() / (found.sum() + lesion.sum()))


LESION = ball_at((0.68, 0.5, 0.55), 7.0)


@pytest.mark.parametrize("components", [4, 5, 6, 8, 10])
def test_the_lesion_is_found_whatever_the_number_of_components(components: int) -> None:
    prior = GaussianMixturePrior(min_components=components, max_components=components)
    assert dice(prior.predict(simulate(LESION)).probability, LESION) > 0.85


def test_the_rule_works_where_the_brightest_of_k_fails() -> None:
    """The textbook method on this brain depends on K: for some number of components it takes grey matter in."""
    case = simulate(LESION, brightness=3.0)
    values = case.image[0][case.brain].numpy()[:, None]
    textbook, ours = [], []
    for k in (3, 4, 6, 8):
        mixture = GaussianMixture(k, random_state=0).fit(values)
        found = torch.zeros(SHAPE)
        brightest = int(np.argmax(mixture.means_))
        found[case.brain] = torch.from_numpy(mixture.predict_proba(values)[:, brightest]).float()
        textbook.append(dice(found, LESION))
        ours.append(dice(GaussianMixturePrior(min_components=k, max_components=k).predict(case).probability, LESION))
    assert min(textbook) < 0.5
    assert min(ours) > 0.8


def test_em_recovers_a_simulated_mixture() -> None:
    rng = np.random.default_rng(3)
    label = rng.choice(3, size=20_000, p=[0.3, 0.5, 0.2])
    centres = np.array([-2.0, 0.0, 5.0])
    values = (centres[label] + rng.normal(0, 0.5, label.size)).astype(np.float32)
    mixture = GaussianMixturePrior(min_components=3, max_components=3)._fit(values)[0][0]
    order = np.argsort(mixture.means_[:, 0])
    # Three standard errors of a mean of the smallest class; clipping at -3 moves the darkest mean by less.
    np.testing.assert_allclose(mixture.means_[order, 0], centres, atol=3 * 0.5 / np.sqrt(0.2 * label.size))
    np.testing.assert_allclose(mixture.weights_[order], [0.3, 0.5, 0.2], atol=0.02)


def test_a_lesion_too_small_for_a_quantile_is_set_apart_by_a_cut() -> None:
    """A thousandth of the brain is lesion, more than three standard deviations above the rest."""
    rng = np.random.default_rng(0)
    rest, lesion = rng.normal(0, 1.5, 100_000), rng.normal(8, 0.5, 100)
    evidence = np.concatenate([rest, lesion]).astype(np.float32)
    cuts = _cuts(*GaussianMixturePrior()._fit(evidence), evidence)
    assert any(4.5 < candidate.level < lesion.min() for candidate, _ in cuts)


def test_every_focus_of_a_multifocal_disease_is_kept() -> None:
    foci = [ball_at(at, 4.0) for at in ((0.3, 0.4, 0.5), (0.7, 0.4, 0.5), (0.35, 0.65, 0.6), (0.66, 0.65, 0.5))]
    probability = GaussianMixturePrior().predict(simulate(foci[0] | foci[1] | foci[2] | foci[3])).probability
    assert all((probability[focus] > 0.5).float().mean() > 0.5 for focus in foci)


def test_a_brain_without_lesion_gets_a_small_map() -> None:
    case = simulate(torch.zeros(SHAPE, dtype=torch.bool))
    probability = GaussianMixturePrior().predict(case).probability
    assert (probability > 0.5).sum() < 0.05 * case.brain.sum()


# On the scale of CT, 2.5 are 65 HU: blood. A lesion of 6 would be calcification, which is none.
@pytest.mark.parametrize(("name", "brightness"), [("image", 6.0), ("flair", 6.0), ("ct", 2.5)])
def test_a_single_channel_of_any_name_will_do(name: str, brightness: float) -> None:
    assert dice(GaussianMixturePrior().predict(simulate(LESION, brightness, name=name)).probability, LESION) > 0.85


def test_asymmetry_finds_a_lesion_no_brighter_than_cortex() -> None:
    case = simulate(LESION, brightness=1.3)
    with_mirror = GaussianMixturePrior().predict(case).probability
    without = GaussianMixturePrior(asymmetry=0.0).predict(case).probability
    assert dice(with_mirror, LESION) > 0.9 > dice(without, LESION)


def test_flair_is_used_wherever_it_stands() -> None:
    case = simulate(LESION)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)) * case.brain
    last = replace(case, image=torch.stack([noise, case.image[0]]), modalities=("t1", "flair"))
    first = replace(case, image=torch.stack([case.image[0], noise]), modalities=("flair", "t1"))
    torch.testing.assert_close(
        GaussianMixturePrior().predict(last).probability, GaussianMixturePrior().predict(first).probability
    )
    assert dice(GaussianMixturePrior().predict(last).probability, LESION) > 0.85


def test_the_scale_of_the_image_does_not_matter() -> None:
    case = simulate(LESION)
    scaled = replace(case, image=(case.image * 40 + 300) * case.brain)
    assert dice(GaussianMixturePrior().predict(scaled).probability, LESION) > 0.85


def test_the_map_is_a_probability_inside_the_brain_only() -> None:
    case = simulate(LESION)
    before = case.image.clone()
    prior = GaussianMixturePrior()
    probability = prior.predict(case).probability
    assert probability.dtype == torch.float32
    assert probability.min() >= 0
    assert probability.max() <= 1
    assert (probability[~case.brain] == 0).all()
    assert torch.equal(case.image, before)
    assert prior.predict(case).note
    assert torch.equal(GaussianMixturePrior().predict(case).probability, probability)


def test_tiny_constant_and_empty_brains_give_an_empty_map() -> None:
    shape = (8, 8, 8)
    flat = Case("flat", torch.zeros(1, *shape), torch.ones(shape, dtype=torch.bool), ("flair",), (1.0, 1.0, 1.0))
    nothing = replace(flat, brain=torch.zeros(shape, dtype=torch.bool))
    for case in (flat, nothing):
        prior = GaussianMixturePrior()
        assert not prior.predict(case).probability.any()
        assert "empty" in prior.predict(case).note


@pytest.mark.parametrize(
    "options",
    [
        {"min_components": 1},
        {"min_components": 6, "max_components": 5},
        {"smoothing": -1.0},
        {"asymmetry": float("nan")},
        {"min_component": 1.5},
        {"min_edge": -0.5},
        {"floor": float("inf")},
    ],
)
def test_options_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(reversed(options))):
        GaussianMixturePrior(**options)  # type: ignore[arg-type]
