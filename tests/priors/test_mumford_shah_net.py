"""The Mumford-Shah functional as a network's loss."""

from __future__ import annotations

import pytest
import torch

from cgckit.errors import UsageError
from cgckit.priors.mumford_shah_net import MumfordShahNetPrior, functional
from cgckit.testing import check_prior, simulated_cases

UNIT = (1.0, 1.0, 1.0)
SMALL = {"steps": 2, "width": 4, "phases": 5}


def test_the_contract_is_kept() -> None:
    check_prior(lambda: MumfordShahNetPrior(**SMALL))


def test_a_sharp_partition_costs_its_misfit_and_its_surface() -> None:
    brain = torch.ones(6, 6, 6, dtype=torch.bool)
    cost = torch.stack([torch.full((6, 6, 6), 0.5), torch.full((6, 6, 6), 2.0)])
    one = torch.zeros(6, 6, 6)
    one[:3] = 1
    terms = functional(torch.stack([one, 1 - one]), cost, brain, (2.0, 1.0, 1.0), length=3.0)
    assert float(terms["fit"]) == pytest.approx(1.25)
    # 36 of 216 voxels lie at the border, where both phases change by 1 over 2 mm.
    assert float(terms["boundary"]) == pytest.approx(2 * 36 / 216 / 2, abs=1e-3)
    assert float(terms["loss"]) == pytest.approx(float(terms["fit"] + 3 * terms["boundary"]))


def test_the_brains_edge_costs_nothing() -> None:
    brain = torch.zeros(6, 6, 6, dtype=torch.bool)
    brain[:3] = True
    one = brain.float()
    terms = functional(torch.stack([one, 1 - one]), torch.zeros(2, 6, 6, 6), brain, UNIT, length=1.0)
    assert float(terms["boundary"]) == pytest.approx(0, abs=1e-3)


def test_training_lowers_the_functional_and_finds_the_lesion(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    case = simulated_cases()[0]
    prior = MumfordShahNetPrior(steps=20, width=4, learning_rate=1e-2, phases=5).fit([case])
    first, second = (float(line.rsplit(" ", 1)[1]) for line in caplog.messages if "functional" in line)
    assert second < first
    found = prior.predict(case).probability > 0.5
    lesion = case.channel("flair") > 2
    assert 2 * (found & lesion).sum() / (found.sum() + lesion.sum()) > 0.8


@pytest.mark.parametrize(("option", "value"), [("phases", 2), ("length", 0.0), ("steps", 0), ("min_edge", 2.0)])
def test_impossible_options_are_refused(option: str, value: float) -> None:
    with pytest.raises(UsageError, match=option):
        MumfordShahNetPrior(**{option: value})
