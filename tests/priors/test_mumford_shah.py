"""The Mumford-Shah prior and the convex labelling under it."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from cgckit.errors import UsageError
from cgckit.images.case import Case
from cgckit.lesion_evidence.choice import Candidate
from cgckit.lesion_evidence.partition import Partition
from cgckit.priors.mumford_shah import MumfordShahPrior, Phases, half_at_level, phase_means

SHAPE = (44, 50, 40)
UNIT = (1.0, 1.0, 1.0)


def variation(membership: Tensor, brain: Tensor, spacing: tuple[float, float, float]) -> Tensor:
    """Isotropic total variation of [K, H, W, L] over the brain, written voxel by voxel from its definition."""
    squared = torch.zeros_like(membership)
    for axis, edge in enumerate(spacing):
        following = membership.roll(-1, axis + 1)
        inside = brain & brain.roll(-1, axis)
        last = torch.arange(brain.shape[axis]) < brain.shape[axis] - 1
        inside &= last.view([-1 if a == axis else 1 for a in range(3)])
        squared += (((following - membership) / edge) * inside) ** 2
    return squared.sqrt().sum()


def energy(
    membership: Tensor, data: Tensor, brain: Tensor, spacing: tuple[float, float, float], length: float
) -> float:
    local = ((data * membership + torch.xlogy(membership, membership)) * brain).sum()
    return float(local + length * variation(membership * 1.0, brain, spacing))


def random_problem(spacing: tuple[float, float, float] = UNIT) -> tuple[Partition, Tensor]:
    generator = torch.Generator().manual_seed(0)
    brain = torch.rand(7, 8, 9, generator=generator) > 0.2
    data = 3 * torch.rand(3, 7, 8, 9, generator=generator)
    return Partition(brain, spacing, 0.8), data


def simulate(
    radius: float = 6.0, spacing: float = 2.0, name: str = "flair", brightness: float = 6.0
) -> tuple[Case, Tensor]:
    """A brain of white, grey and fluid with one lesion right of the middle."""
    generator = torch.Generator().manual_seed(3)
    axes = torch.meshgrid(*(torch.linspace(-1.05, 1.05, n) for n in SHAPE), indexing="ij")
    distance = sum(axis**2 for axis in axes).sqrt()
    voxels = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in SHAPE), indexing="ij")
    lesion = sum((v - c) ** 2 for v, c in zip(voxels, (30.0, 25.0, 22.0), strict=True)) < radius**2
    brain = distance < 1
    image = torch.where(distance < 0.85, torch.tensor(-0.8), torch.tensor(0.9))
    image = torch.where(distance < 0.25, torch.tensor(-4.0), image)
    image = torch.where(lesion, torch.tensor(brightness), image)
    image = (image + 0.6 * torch.randn(SHAPE, generator=generator)) * brain
    return Case("sim", image[None], brain, (name,), (spacing, spacing, spacing)), lesion


def dice(probability: Tensor, lesion: Tensor) -> float:
    found = probability > 0.5
    return float(2 * (found & lesion).sum() / (found.sum() + lesion.sum()))


# --- the labelling ---


@pytest.mark.parametrize("spacing", [UNIT, (1.0, 2.0, 4.0)])
def test_the_gap_is_primal_minus_dual_and_closes(spacing: tuple[float, float, float]) -> None:
    solver, data = random_problem(spacing)
    labelling = solver.solve(data, tolerance=1e-5, max_iterations=5000)
    assert labelling.gap <= 1e-5
    primal = energy(labelling.membership, data, solver.brain, spacing, solver.length)
    assert solver.dual is not None
    lowered = data.double().clone()
    for axis, edge in enumerate(spacing):
        n = data.shape[axis + 1]
        both = (solver.brain.narrow(axis, 0, n - 1) & solver.brain.narrow(axis, 1, n - 1)) / edge
        flow = solver.dual[:, axis].narrow(axis + 1, 0, n - 1) * both
        lowered.narrow(axis + 1, 0, n - 1).sub_(flow)
        lowered.narrow(axis + 1, 1, n - 1).add_(flow)
    dual = float(-(torch.logsumexp(-lowered, 0) * solver.brain).sum())
    assert (primal - dual) / int(solver.brain.sum()) == pytest.approx(labelling.gap, abs=1e-5)


def test_no_other_partition_has_less_energy() -> None:
    solver, data = random_problem()
    best = solver.solve(data, tolerance=1e-6, max_iterations=5000).membership
    least = energy(best, data, solver.brain, UNIT, solver.length)
    generator = torch.Generator().manual_seed(1)
    for scale in (0.01, 0.1, 1.0):
        logits = best.log() + scale * torch.randn(best.shape, generator=generator)
        assert energy(logits.softmax(0), data, solver.brain, UNIT, solver.length) > least


def test_the_gap_shrinks_with_more_iterations() -> None:
    gaps = []
    for iterations in (0, 20, 200):
        solver, data = random_problem()
        gaps.append(solver.solve(data, tolerance=0.0, max_iterations=iterations).gap)
    assert gaps[0] > gaps[1] > gaps[2] >= 0


def test_memberships_sum_to_one() -> None:
    solver, data = random_problem()
    total = solver.solve(data, tolerance=1e-3, max_iterations=50).membership.sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_without_neighbours_the_partition_is_the_softmax_of_the_cost() -> None:
    brain = torch.zeros(5, 5, 5, dtype=torch.bool)
    brain[::2, ::2, ::2] = True
    data = torch.rand(3, 5, 5, 5, generator=torch.Generator().manual_seed(0))
    labelling = Partition(brain, UNIT, 10.0).solve(data, tolerance=1e-6, max_iterations=100)
    torch.testing.assert_close(labelling.membership[:, brain], torch.softmax(-data, 0)[:, brain])


def test_what_lies_beyond_the_edge_of_the_brain_does_not_count() -> None:
    solver, data = random_problem()
    other = torch.where(solver.brain, data, 100 * torch.rand(data.shape, generator=torch.Generator().manual_seed(5)))
    inside = solver.brain
    first = solver.solve(data, tolerance=1e-6, max_iterations=500).membership
    second = Partition(inside, UNIT, 0.8).solve(other, tolerance=1e-6, max_iterations=500).membership
    torch.testing.assert_close(first[:, inside], second[:, inside])


def test_neighbours_across_a_thick_slice_count_less() -> None:
    """One odd voxel is smoothed away by near neighbours; by far ones it is not."""

    def odd(spacing: tuple[float, float, float]) -> float:
        data = torch.zeros(2, 1, 1, 9)
        data[0] = 2.0
        data[:, 0, 0, 4] = torch.tensor([0.0, 2.0])
        solver = Partition(torch.ones(1, 1, 9, dtype=torch.bool), spacing, 1.0)
        return float(solver.solve(data, tolerance=1e-6, max_iterations=2000).membership[0, 0, 0, 4])

    alone = float(torch.sigmoid(torch.tensor(2.0)))
    assert odd((1.0, 1.0, 1.0)) < odd((1.0, 1.0, 5.0)) < alone
    assert odd((5.0, 5.0, 1.0)) == pytest.approx(odd((1.0, 1.0, 1.0)), abs=1e-3), "only the slice axis has neighbours"


# --- the alternation ---


def test_the_means_of_simulated_tissues_are_recovered() -> None:
    brain = torch.ones(12, 24, 24, dtype=torch.bool)
    truth = torch.tensor([-1.0, 0.5, 4.0])
    slabs = torch.tensor([0] * 5 + [1] * 5 + [2] * 2)[:, None, None]
    image = truth[slabs] + 0.3 * torch.randn(brain.shape, generator=torch.Generator().manual_seed(0))
    phases = MumfordShahPrior(phases=3).partition(image, brain, UNIT)
    # The smoothed boundaries between slabs may pull a mean, but by less than the noise of one voxel.
    torch.testing.assert_close(phases.means, truth, rtol=0, atol=0.3)
    correct = phases.membership.argmax(0) == slabs
    assert correct.float().mean() > 0.99


def test_alternation_does_not_raise_the_energy() -> None:
    case, _ = simulate()
    prior, image = MumfordShahPrior(), case.image[0]
    energies = []
    for budget in (10, 40, 400):
        phases = replace(prior, max_iterations=budget).partition(image, case.brain, case.spacing)
        cost = (image.clamp(min=-3) - phases.means.view(-1, 1, 1, 1)) ** 2 / (2 * phases.width**2)
        energies.append(energy(phases.membership, cost, case.brain, case.spacing, prior.length))
    slack = prior.tolerance * int(case.brain.sum())
    assert energies[1] <= energies[0] + slack
    assert energies[2] <= energies[1] + slack


def test_voxels_far_from_every_phase_belong_to_the_nearest() -> None:
    case, _ = simulate()
    image = case.image[0].clone()
    image[30, 25, 22] = 12.0
    phases = MumfordShahPrior().partition(image, case.brain, case.spacing)
    assert phases.membership[-1, 30, 25, 22] > 0.99


def test_running_out_of_iterations_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    case, _ = simulate()
    with caplog.at_level(logging.WARNING):
        MumfordShahPrior(max_iterations=1).predict(case)
    assert "sim" in caplog.text
    assert "iterations" in caplog.text


def test_means_started_elsewhere_move_to_those_of_their_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    start = torch.tensor([-2.0, 1.5, 5.0])
    monkeypatch.setattr("cgckit.priors.mumford_shah.start_means", lambda *_: (start, 0.5))
    case, _ = simulate()
    image = case.image[0]
    phases = MumfordShahPrior(phases=3).partition(image, case.brain, case.spacing)
    inside = phases.membership[:, case.brain]
    means = inside @ image.clamp(min=-3)[case.brain] / inside.sum(1)
    torch.testing.assert_close(phases.means, means, rtol=0, atol=0.05)  # the stated tolerance on the means
    assert (phases.means - start).abs().max() > 0.5


def test_an_empty_phase_keeps_its_mean() -> None:
    membership = torch.zeros(2, 3, 3, 3)
    membership[0] = 1.0
    brain = torch.ones(3, 3, 3, dtype=torch.bool)
    means = phase_means(membership, torch.full((3, 3, 3), 2.0), brain, torch.tensor([0.0, 7.0]))
    assert means.tolist() == [2.0, 7.0]


def test_more_phases_than_values_and_empty_phases_stay_finite() -> None:
    image = torch.zeros(1, 12, 12, 12)
    image[0, 3:8, 3:8, 3:8] = 5.0
    case = Case("two", image, torch.ones(12, 12, 12, dtype=torch.bool), ("image",), (2.0, 2.0, 2.0))
    phases = MumfordShahPrior(phases=6).partition(image[0], case.brain, case.spacing)
    assert phases.means.isfinite().all()
    assert phases.membership.isfinite().all()
    assert MumfordShahPrior(phases=6).predict(case).probability.isfinite().all()


# --- the prior ---


@pytest.mark.parametrize("phases", [4, 5, 6])
def test_the_lesion_is_found_whatever_the_number_of_phases(phases: int) -> None:
    case, lesion = simulate()
    assert dice(MumfordShahPrior(phases=phases).predict(case).probability, lesion) > 0.85


def test_a_small_lesion_gets_a_phase_of_its_own() -> None:
    case, lesion = simulate(radius=3.5)
    assert lesion.sum() < 0.01 * case.brain.sum()
    assert dice(MumfordShahPrior().predict(case).probability, lesion) > 0.8


def test_a_lesion_that_ends_between_two_phases_is_found_whole() -> None:
    case, lesion = simulate(radius=8.0)
    core = ndimage.distance_transform_edt(lesion.numpy()) > 4
    case.image[0][lesion & ~torch.from_numpy(core)] -= 4.0
    assert dice(MumfordShahPrior().predict(case).probability, lesion) > 0.98


def test_one_half_is_where_the_piecewise_constant_image_has_the_chosen_level() -> None:
    share = torch.tensor([0.0, 0.1, 0.25, 0.5, 1.0]).reshape(5, 1, 1)
    phases = Phases(torch.tensor([0.0, 1.0, 5.0]), 1.0, torch.stack([0 * share, 1 - share, share]), 0.0, 1)
    lesion = Candidate(3, 1, 2.0, (share > 0.25).numpy())
    shifted = half_at_level(share, phases, lesion)
    assert shifted[2] == 0.5
    assert torch.equal(shifted > 0.5, phases.image > 2.0)
    assert shifted[[0, -1]].flatten().tolist() == [0, 1]


@pytest.mark.parametrize("floor", [-1.0, 0.0])
def test_a_floor_at_the_median_or_below_it_finds_the_lesion_too(floor: float) -> None:
    case, lesion = simulate()
    assert dice(MumfordShahPrior(floor=floor).predict(case).probability, lesion) > 0.85


def test_the_boundary_is_solved_on_the_fine_grid() -> None:
    case, lesion = simulate(spacing=1.0)
    assert dice(MumfordShahPrior().predict(case).probability, lesion) > 0.85


def test_a_brain_without_lesion_gets_a_small_map() -> None:
    case, _ = simulate(radius=0.0)
    assert (MumfordShahPrior().predict(case).probability > 0.5).sum() < 0.05 * case.brain.sum()


def test_the_map_is_a_soft_probability_inside_the_brain_only() -> None:
    case, _ = simulate(name="image", brightness=3.0)
    before = case.image.clone()
    prior = MumfordShahPrior()
    probability = prior.predict(case).probability
    assert probability.dtype == torch.float32
    assert probability.min() >= 0
    assert probability.max() <= 1
    assert ((probability > 0.02) & (probability < 0.98)).any(), "soft at the edge"
    assert (probability[~case.brain] == 0).all()
    assert torch.equal(case.image, before)
    assert prior.predict(case).note
    assert torch.equal(MumfordShahPrior().predict(case).probability, probability)


def test_tiny_constant_and_empty_brains_give_an_empty_map() -> None:
    shape = (8, 8, 8)
    flat = Case("flat", torch.zeros(1, *shape), torch.ones(shape, dtype=torch.bool), ("flair",), UNIT)
    nothing = replace(flat, brain=torch.zeros(shape, dtype=torch.bool))
    for case in (flat, nothing):
        prior = MumfordShahPrior()
        assert not prior.predict(case).probability.any()
        assert "empty" in prior.predict(case).note


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("phases", 2),
        ("length", 0.0),
        ("softness", -1.0),
        ("asymmetry", -0.1),
        ("min_component", 2.0),
        ("min_edge", -0.1),
        ("floor", float("nan")),
        ("tolerance", 0.0),
        ("max_iterations", 0),
    ],
)
def test_options_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(UsageError, match=option):
        MumfordShahPrior(**{option: value})  # type: ignore[arg-type]
