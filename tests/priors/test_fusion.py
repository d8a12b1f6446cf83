"""A fusion is the mean of its members, and passes everything else on to them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from cgckit.errors import UsageError
from cgckit.images.cohort import Subject
from cgckit.priors.base import Prediction, Prior
from cgckit.priors.fusion import FusionPrior
from cgckit.testing import check_prior, simulated_cases


@dataclass
class Constant(Prior):
    value: float = 0.5
    print_: str = ""

    def predict(self, case):
        return Prediction(self.value * case.brain.float(), f"constant {self.value:g}")

    def fingerprint(self, subject):
        return self.print_


@dataclass
class MeanOfCohort(Prior):
    """Remembers one number from the cohort."""

    gain: float = 1.0

    def __post_init__(self):
        self.mean = None

    def fit(self, cases):
        self.mean = torch.stack([case.image.std() for case in cases]).mean()
        return self

    def predict(self, case):
        if self.mean is None:
            raise RuntimeError("call fit first")
        return (self.gain * self.mean / (1 + self.mean)).clamp(0, 1) * case.brain

    def state(self):
        return {"mean": self.mean}

    def load_state(self, state):
        self.mean = state["mean"]


@pytest.fixture(scope="module")
def cases():
    return simulated_cases()


def test_prediction_is_the_mean(cases):
    fusion = FusionPrior((Constant(0.25), Constant(0.75), Constant(0.2)))
    found = fusion.predict(cases[0])
    torch.testing.assert_close(found.probability, 0.4 * cases[0].brain)
    assert found.note == "constant 0.25; constant 0.75; constant 0.2"


def test_one_member_is_left_as_it_is(cases):
    one, alone = FusionPrior((Constant(0.3),)), Constant(0.3)
    assert torch.equal(one.predict(cases[0]).probability, alone.predict(cases[0]).probability)


def test_fit_and_state_reach_the_right_member(cases):
    fitted = FusionPrior((MeanOfCohort(gain=1.0), Constant(), MeanOfCohort(gain=0.1))).fit(cases)
    fitted.members[2].mean = torch.tensor(0.125)  # two members of one class must not swap states
    fresh = FusionPrior((MeanOfCohort(gain=1.0), Constant(), MeanOfCohort(gain=0.1)))
    fresh.load_state(fitted.state())
    assert torch.equal(fresh.predict(cases[0]).probability, fitted.predict(cases[0]).probability)
    assert fresh.members[2].mean == 0.125


def test_fingerprint_is_that_of_the_members():
    def fingerprint(*prints):
        return FusionPrior(tuple(Constant(print_=text) for text in prints)).fingerprint(Subject("a", "a", {}))

    assert fingerprint("", "") == ""
    assert len({fingerprint("a", "b"), fingerprint("b", "a"), fingerprint("a", ""), fingerprint("", "")}) == 4


def test_keeps_the_contract():
    check_prior(lambda: FusionPrior((MeanOfCohort(), Constant())))


def test_no_members_is_refused():
    with pytest.raises(UsageError, match="at least one"):
        FusionPrior()
