"""Whether a prior learns follows from its having a `fit`, and from nothing that it says of itself."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from cgckit import compute_priors
from cgckit.priors.base import Prior
from cgckit.priors.fusion import FusionPrior, learns
from cgckit.testing import ContractError, check_prior


@dataclass
class Still(Prior):
    def predict(self, case):
        return case.brain.float()


@dataclass
class Learner(Prior):
    """Has a fit, and says nothing of it: the class that was never fitted."""

    def __post_init__(self):
        super().__post_init__()
        self.level = None

    def fit(self, cases):
        self.level = torch.stack([case.channel("flair").amax() for case in cases]).mean() / 2
        return self

    def predict(self, case):
        if self.level is None:
            raise RuntimeError("it has learned nothing yet: call fit first")
        return ((case.channel("flair") > self.level) & case.brain).float()

    def state(self):
        return {"level": self.level}

    def load_state(self, state):
        self.level = state["level"]


@dataclass
class SaysItLearns(Learner):
    """As classes did under the first contract."""

    requires_fit = True


@dataclass
class SaysItDoesNot(Learner):
    requires_fit = False


@dataclass
class InheritsItsFit(Learner):
    gain: float = 2.0


@dataclass
class SaysSoWithoutAFit(Still):
    requires_fit = True


@dataclass
class WorksUntaught(Learner):
    """Nobody would notice that its fit was never called."""

    def predict(self, case):
        self.level = torch.tensor(2.0) if self.level is None else self.level
        return super().predict(case)


LEARNERS = [Learner, SaysItLearns, SaysItDoesNot, InheritsItsFit]


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_class_with_a_fit_is_fitted_whatever_it_says_of_itself(kind, write_cohort, tmp_path):
    assert learns(kind)
    assert learns(kind())
    run = compute_priors(write_cohort(2), kind(), tmp_path / "out")
    assert len(run) == 2
    assert len(list((tmp_path / "out").rglob("fit-*.safetensors"))) == 1


@pytest.mark.parametrize("kind", [Still, SaysSoWithoutAFit])
def test_a_class_without_one_is_not(kind, write_cohort, tmp_path):
    assert not learns(kind)
    assert not learns(kind())
    compute_priors(write_cohort(2), kind(), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("fit-*"))


def test_a_fusion_learns_if_a_member_does():
    assert not learns(FusionPrior((Still(), Still())))
    assert learns(FusionPrior((Still(), FusionPrior((Learner(), Still())))))


@pytest.mark.parametrize("kind", LEARNERS)
def test_the_contract_is_checked_with_fit(kind):
    check_prior(kind)


def test_a_learner_that_answers_before_it_was_taught_breaks_the_contract():
    with pytest.raises(ContractError, match="fit-first: predict works without fit although the class has one"):
        check_prior(WorksUntaught)
