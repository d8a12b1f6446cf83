"""The contract of a metric: the built-in ones keep it, and for each rule a deliberately bad one is caught."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from cgckit import Metric, Pair
from cgckit.evaluation import METRICS
from cgckit.evaluation.scoring import BUILT_IN
from cgckit.testing import ContractError, check_metric, simulated_pairs
from cgckit.testing.metrics import metric_rules


@dataclass
class Good(Metric):
    """Keeps the contract."""

    weight: float = 1.0

    def measure(self, pair: Pair) -> float:
        return pair.common_voxels / pair.reference_voxels


@dataclass
class Untyped(Good):
    """Its default is no number."""

    weight: float = "one"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        pass


class Undecorated(Good):
    """Its option would be ignored."""

    radius: float = 1.0


@dataclass
class Undirected(Good):
    """Says of no direction that it is better."""

    direction = "up"  # type: ignore[assignment]


@dataclass
class Infinite(Good):
    """Has no bound on masks that overlap."""

    def measure(self, pair: Pair) -> float:
        return math.inf


@dataclass
class WrongWay(Good):
    """Calls a share of the reference a distance."""

    direction = "lower"
    both_empty, one_empty = 0.0, math.inf


@dataclass
class DistanceOfAgreement(Good):
    """A distance with the rule of an agreement: one empty mask would be the best of all."""

    direction = "lower"

    def measure(self, pair: Pair) -> float:
        return 1.0 + float(pair.surface_distances.from_prediction.mean())


@dataclass
class NotOfEmpty(Good):
    """Has no rule for empty masks, and cannot take them."""

    one_empty = None


@dataclass
class OneSided(Good):
    """Is not symmetric."""

    symmetric = True


@dataclass
class Greedy(Good):
    """Changes the prediction."""

    def measure(self, pair: Pair) -> float:
        value = super().measure(pair)
        pair.prediction[...] = True
        return value


@dataclass
class GreedyForDistances(Good):
    """Changes what other metrics read too."""

    def measure(self, pair: Pair) -> float:
        pair.surface_distances.from_reference[...] = 0
        return super().measure(pair)


@dataclass
class Forgetful(Good):
    """Depends on what it was asked before."""

    def measure(self, pair: Pair) -> float:
        self.asked = getattr(self, "asked", 0) + 1
        return super().measure(pair) / self.asked


def test_the_metrics_of_cgckit_keep_it() -> None:
    for name in BUILT_IN:
        check_metric(METRICS.load(name))


def test_a_good_one_passes() -> None:
    check_metric(Good)
    check_metric(lambda: Good(2.0), simulated_pairs(seed=3)[:1])


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (Untyped, "options"),
        (Undecorated, "options"),
        (Undirected, "declarations"),
        (Infinite, "finite"),
        (WrongWay, "perfect"),
        (DistanceOfAgreement, "empty"),
        (NotOfEmpty, "empty"),
        (OneSided, "symmetry"),
        (Greedy, "input"),
        (GreedyForDistances, "input"),
        (Forgetful, "determinism"),
    ],
)
def test_a_bad_one_is_caught_by_the_rule_that_it_breaks(bad: type[Metric], rule: str) -> None:
    broken = {verdict.rule: verdict.error for verdict in metric_rules(bad) if verdict.error is not None}
    assert rule in broken
    with pytest.raises(ContractError):
        check_metric(bad)


def test_one_that_raises_breaks_the_rules_that_ask_it_and_no_others() -> None:
    @dataclass
    class Raising(Good):
        def measure(self, pair: Pair) -> float:
            raise KeyError("nothing")

    errors = {verdict.rule: verdict.error for verdict in metric_rules(Raising)}
    assert errors["options"] is errors["declarations"] is None
    assert errors["finite"] == "it raised KeyError: 'nothing'"


def test_simulated_pairs_overlap_and_differ() -> None:
    for pair in simulated_pairs():
        assert 0 < pair.common_voxels < min(pair.predicted_voxels, pair.reference_voxels)
    assert len({pair.spacing for pair in simulated_pairs()}) == 3
