"""The contract of a metric: `check_metric`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray, Shape
from cgckit.evaluation.metric import Metric, declaration_faults
from cgckit.evaluation.pair import Pair
from cgckit.testing.rules import Rules, Verdict, judge, random_state, require, require_all, require_options

Make = Callable[[], Metric]


def check_metric(make: Make, pairs: Sequence[Pair] | None = None) -> None:
    """Check that a metric keeps the contract that `cgckit.evaluate` relies on.

    Args:
        make: makes a fresh one: the class itself, or a function that sets options.
        pairs: to try it on, masks that overlap and are not equal; by default `simulated_pairs()`.

    Raises:
        ContractError: naming the first rule that is broken.
    """
    require_all(metric_rules(make, pairs))


def metric_rules(make: Make, pairs: Sequence[Pair] | None = None) -> Iterator[Verdict]:
    """What becomes of each rule of the contract."""
    return judge(_RULES, _Trial(make, simulated_pairs() if pairs is None else pairs))


def simulated_pairs(seed: int = 0) -> tuple[Pair, ...]:
    """Three predictions that overlap with their references: many lesions, one lesion, and a few voxels.

    Their voxels are of 1 x 1 x 1, 0.5 x 1 x 4 and 2 x 2 x 2 mm.
    """
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((28, 24, 20)), 2)
    many = noise > np.quantile(noise, 0.9), noise > np.quantile(noise, 0.8)
    one = _ball((24, 26, 12), (11, 12, 5), 4), _ball((24, 26, 12), (13, 12, 6), 5)
    few = _ball((8, 6, 6), (3, 3, 3), 1), _ball((8, 6, 6), (4, 3, 3), 1)
    return (
        Pair.of(np.roll(many[0], 2, axis=0), many[1], (1.0, 1.0, 1.0)),
        Pair.of(*one, (0.5, 1.0, 4.0)),
        Pair.of(*few, (2.0, 2.0, 2.0)),
    )


def _ball(shape: Shape, centre: Shape, radius: float) -> BoolArray:
    distance: BoolArray = sum((axis - at) ** 2 for axis, at in zip(np.indices(shape), centre, strict=True)) <= radius**2
    return distance


class _Trial:
    """A metric on trial, asked once for several rules to look at what it said."""

    def __init__(self, make: Make, pairs: Sequence[Pair]) -> None:
        self.make, self.originals = make, pairs
        self.pairs = self.copies()

    def copies(self) -> list[Pair]:
        return [Pair(pair.prediction.copy(), pair.reference.copy(), pair.spacing) for pair in self.originals]

    @cached_property
    def metric(self) -> Metric:
        return self.make()

    @cached_property
    def values(self) -> list[float]:
        """What it says of each pair."""
        with random_state(seed=1):
            return [self.metric.value(pair) for pair in self.pairs]

    @cached_property
    def perfect(self) -> list[float]:
        """What it says of references that are predicted to the voxel."""
        return [self.metric.value(Pair(pair.reference, pair.reference, pair.spacing)) for pair in self.copies()]

    def worse(self, one: float, other: float) -> bool:
        """Whether one value is worse than another."""
        better = {"higher": one >= other, "lower": one <= other, "neither": True}[self.metric.direction]
        return not (better or math.isclose(one, other, rel_tol=1e-9))


def _check_options(trial: _Trial) -> None:
    """It is a dataclass derived from cgckit.Metric; each option has a default of its type and range"""
    require_options(trial.metric, Metric)


def _check_declarations(trial: _Trial) -> None:
    """It declares title, note and unit as text, a direction, how many decimals are shown, and values for empty masks"""
    faults = declaration_faults(trial.metric)
    require(not faults, "; ".join(faults))


def _check_finite(trial: _Trial) -> None:
    """Of masks that overlap it gives a finite number"""
    for number, value in enumerate(trial.values, 1):
        require(math.isfinite(value), f"{value} for pair {number}")


def _check_perfect(trial: _Trial) -> None:
    """A perfect prediction is best in its direction"""
    for number, (best, value) in enumerate(zip(trial.perfect, trial.values, strict=True), 1):
        require(not trial.worse(best, value), f"{best:g} for a perfect prediction, {value:g} for pair {number}")


def _check_empty(trial: _Trial) -> None:
    """It takes empty masks; a single one is no better than two of them, or than a perfect prediction"""
    pair = trial.copies()[0]
    empty = np.zeros_like(pair.reference)
    both = trial.metric.value(Pair(empty, empty, pair.spacing))
    for name, masks in (("prediction", (empty, pair.reference)), ("reference", (pair.prediction, empty))):
        one = trial.metric.value(Pair(*masks, pair.spacing))
        for best, meaning in ((trial.perfect[0], "a perfect prediction"), (both, "two empty masks")):
            if not (math.isnan(one) or math.isnan(best)):
                require(not trial.worse(best, one), f"{one:g} for an empty {name}, {best:g} for {meaning}")


def _check_symmetry(trial: _Trial) -> None:
    """If it declares to be symmetric, it is: prediction and reference may be exchanged"""
    if trial.metric.symmetric:
        for number, (pair, value) in enumerate(zip(trial.copies(), trial.values, strict=True), 1):
            other = trial.metric.value(Pair(pair.reference, pair.prediction, pair.spacing))
            require(math.isclose(other, value, rel_tol=1e-9), f"{value} for pair {number}, exchanged {other}")


def _check_input(trial: _Trial) -> None:
    """It leaves the masks, their distances and their parts as they are"""
    _ = trial.values
    for number, (before, after) in enumerate(zip(trial.originals, trial.pairs, strict=True), 1):
        for name in ("prediction", "reference"):
            require(np.array_equal(getattr(before, name), getattr(after, name)), f"{name} {number} was changed")
        for name in ("predicted_parts", "reference_parts"):
            same = np.array_equal(getattr(before, name).labels, getattr(after, name).labels)
            require(same, f"{name} of pair {number} were changed")
        for first, second in zip(before.surface_distances, after.surface_distances, strict=True):
            require(np.array_equal(first, second), f"surface_distances of pair {number} were changed")


def _check_determinism(trial: _Trial) -> None:
    """Asked again, in another order, whatever the global random state, it gives the same numbers"""
    metric = trial.make()
    with random_state(seed=2):
        anew = [metric.value(pair) for pair in reversed(trial.copies())][::-1]
    for number, (first, second) in enumerate(zip(trial.values, anew, strict=True), 1):
        require(first == second, f"{first}, then {second} for pair {number}: seed its random numbers")


_RULES: Rules[_Trial] = {
    "options": _check_options,
    "declarations": _check_declarations,
    "finite": _check_finite,
    "perfect": _check_perfect,
    "empty": _check_empty,
    "symmetry": _check_symmetry,
    "input": _check_input,
    "determinism": _check_determinism,
}
