"""The contract of a prior: a good one passes, and for each rule a deliberately bad one is caught."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from cgckit.priors.base import Prediction, Prior
from cgckit.testing import ContractError, check_prior, simulated_cases
from cgckit.testing.priors import prior_rules


@dataclass
class Good(Prior):
    """Works on one subject at a time."""

    threshold: float = 2.0

    def predict(self, case):
        return ((case.channel("flair") > self.threshold) & case.brain).float()


@dataclass
class GoodLearner(Prior):
    """Learns one number from the cohort."""

    share: float = 0.5

    def __post_init__(self):
        self.level = None

    def fit(self, cases):
        self.level = torch.stack([case.image.amax() for case in cases]).mean() * self.share
        return self

    def predict(self, case):
        if self.level is None:
            raise RuntimeError("call fit first")
        return ((case.channel("flair") > self.level) & case.brain).float()

    def state(self):
        return {"level": self.level}

    def load_state(self, state):
        self.level = state["level"]


class Undecorated(Good):
    """Its option `radius` would be ignored."""

    radius: float = 1.0


@dataclass
class DefaultOfAnotherType(Good):
    radius: float = None


@dataclass
class NeedsOneName(Good):
    """A text is a sequence of letters, each of which no cohort has."""

    needs: ClassVar[str] = "flair"


@dataclass
class CostsANumber(Good):
    cost: ClassVar[int] = 3


@dataclass
class OptionWithoutDefault(Prior):
    threshold: float

    def predict(self, case):
        return case.brain.float()


@dataclass
class PredictsUnfitted(GoodLearner):
    def predict(self, case):
        self.level = self.level if self.level is not None else torch.tensor(1.0)
        return super().predict(case)


@dataclass
class FailsObscurelyUnfitted(GoodLearner):
    def predict(self, case):
        return (case.channel("flair") > self.level.item()).float() * case.brain


@dataclass
class FailsSilentAboutFit(GoodLearner):
    def predict(self, case):
        if self.level is None:
            raise RuntimeError("no level")
        return super().predict(case)


@dataclass
class FitReturnsNothing(GoodLearner):
    def fit(self, cases):
        super().fit(cases)


@dataclass
class FitRaises(GoodLearner):
    def fit(self, cases):
        raise ZeroDivisionError("nobody is here")


@dataclass
class KeepsTheChannelAxis(Good):
    def predict(self, case):
        return super().predict(case)[None]


@dataclass
class ReturnsNumpy(Good):
    def predict(self, case):
        return super().predict(case).numpy()


@dataclass
class ReturnsBool(Good):
    def predict(self, case):
        return super().predict(case).bool()


@dataclass
class ReturnsGradient(Good):
    def predict(self, case):
        return super().predict(case).requires_grad_()


@dataclass
class ReturnsNan(Good):
    def predict(self, case):
        found = super().predict(case)
        found[case.brain.nonzero()[0].tolist()[0]] = float("nan")
        return found


@dataclass
class ReturnsNanForTheHealthy(Good):
    def predict(self, case):
        found = super().predict(case)
        return found / found.amax() if case.subject == "sim3" else found


@dataclass
class ExceedsOne(Good):
    def predict(self, case):
        return 1.5 * super().predict(case)


@dataclass
class GoesBelowZero(Good):
    def predict(self, case):
        return super().predict(case) - 0.1 * case.brain


@dataclass
class LeavesTheBrain(Good):
    def predict(self, case):
        return torch.where(case.brain, super().predict(case), 0.1)


@dataclass
class ChangesTheImage(Good):
    def predict(self, case):
        found = super().predict(case)
        case.image.clamp_(-1, 1)
        return found


@dataclass
class ChangesTheBrain(Good):
    def predict(self, case):
        found = super().predict(case)
        case.brain[0, 0, 0] = True
        return found


@dataclass
class ChangesTheImageInFit(GoodLearner):
    def fit(self, cases):
        super().fit(cases)
        for case in cases:
            case.image.mul_(0.5)
        return self


@dataclass
class ReturnsAView(Good):
    def predict(self, case):
        return case.image[1] if (case.image[1] >= 0).all() else super().predict(case)


@dataclass
class DrawsFromTorch(Good):
    def predict(self, case):
        return torch.rand(case.brain.shape) * case.brain


@dataclass
class DrawsFromNumpy(Good):
    def predict(self, case):
        return super().predict(case) * float(np.random.rand())


@dataclass
class DrawsFromPython(GoodLearner):
    def fit(self, cases):
        super().fit(cases)
        self.level = self.level * (0.5 + random.random())
        return self


@dataclass
class RemembersTheLastCase(Good):
    def __post_init__(self):
        self.calls = 0

    def predict(self, case):
        self.calls += 1
        return super().predict(case) / self.calls


@dataclass
class SaysWhatItSaidBefore(Good):
    """Its note is that of the case that it was asked for first."""

    def __post_init__(self):
        self.note = ""

    def predict(self, case):
        self.note = self.note or f"first of all {case.subject}"
        return Prediction(super().predict(case), self.note)


@dataclass
class PicklesItsState(GoodLearner):
    def state(self):
        return {"level": float(self.level)}


@dataclass
class ForgetsItsState(GoodLearner):
    def state(self):
        return {}

    def load_state(self, state):
        pass


@dataclass
class LoadsAnotherState(GoodLearner):
    def load_state(self, state):
        self.level = state["level"] * 0 + 100


@pytest.fixture(scope="module")
def cases():
    return simulated_cases()


@pytest.mark.parametrize("good", [Good, GoodLearner, lambda: Good(threshold=1.0)])
def test_a_good_prior_keeps_every_rule(good, cases):
    check_prior(good, cases)
    assert all(outcome.error is None for outcome in prior_rules(good, cases))


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (Undecorated, "options"),
        (lambda: OptionWithoutDefault(1.0), "options"),
        (DefaultOfAnotherType, "options"),
        (lambda: object(), "options"),
        (NeedsOneName, "options"),
        (CostsANumber, "options"),
        (PredictsUnfitted, "fit-first"),
        (FailsObscurelyUnfitted, "fit-first"),
        (FailsSilentAboutFit, "fit-first"),
        (FitReturnsNothing, "fit"),
        (FitRaises, "fit"),
        (KeepsTheChannelAxis, "shape"),
        (ReturnsNumpy, "shape"),
        (ReturnsBool, "dtype"),
        (ReturnsGradient, "dtype"),
        (ReturnsNan, "finite"),
        (ReturnsNanForTheHealthy, "finite"),
        (ExceedsOne, "range"),
        (GoesBelowZero, "range"),
        (LeavesTheBrain, "outside"),
        (ChangesTheImage, "input"),
        (ChangesTheBrain, "input"),
        (ChangesTheImageInFit, "input"),
        (DrawsFromTorch, "determinism"),
        (DrawsFromNumpy, "determinism"),
        (DrawsFromPython, "determinism"),
        (RemembersTheLastCase, "determinism"),
        (SaysWhatItSaidBefore, "determinism"),
        (PicklesItsState, "state"),
        (ForgetsItsState, "state"),
        (LoadsAnotherState, "state"),
    ],
)
def test_a_bad_prior_is_caught_by_the_rules_name(bad, rule, cases):
    with pytest.raises(ContractError, match=f"^{rule}: ") as caught:
        check_prior(bad, cases)
    assert caught.value.rule == rule


def test_a_view_of_the_image_is_caught(cases):
    positive = [dataclasses.replace(case, image=case.image.abs().clamp(max=1)) for case in cases]
    with pytest.raises(ContractError, match=r"^input: .*view"):
        check_prior(ReturnsAView, positive)


def test_one_broken_rule_does_not_hide_the_others(cases):
    broken = {outcome.rule for outcome in prior_rules(DrawsFromTorch, cases) if outcome.error is not None}
    assert broken == {"determinism", "state"}


def test_a_prior_that_raises_is_told_what_it_raised(cases):
    with pytest.raises(ContractError, match="fit: it raised ZeroDivisionError: nobody is here"):
        check_prior(FitRaises, cases)


def test_the_callers_cases_and_random_state_are_left_alone(cases):
    images = [case.image.clone() for case in cases]
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    list(prior_rules(ChangesTheImageInFit, cases))
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected
    assert all(torch.equal(case.image, image) for case, image in zip(cases, images, strict=True))


def test_every_rule_says_what_it_means(cases):
    outcomes = list(prior_rules(Good, cases))
    assert all(outcome.meaning for outcome in outcomes)
    assert len({outcome.rule for outcome in outcomes}) == len(outcomes)


def test_simulated_cases_are_what_a_prior_can_expect():
    first, again, other = simulated_cases(), simulated_cases(), simulated_cases(seed=7)
    assert len({tuple(case.brain.shape) for case in first}) == len(first)
    for case, same in zip(first, again, strict=True):
        assert torch.equal(case.image, same.image)
        assert case.image.dtype == torch.float32
        assert case.image.shape == (2, *case.brain.shape) == (2, *case.grid.shape)
        assert not case.image[:, ~case.brain].any()
        assert 0.1 < case.brain.float().mean() < 0.9
    assert not torch.equal(first[0].image, other[0].image)
    with_lesion, without = first[0].channel("flair"), first[2].channel("flair")
    assert with_lesion.amax() > without.amax() + 1
