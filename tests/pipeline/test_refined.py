"""What is said of a refined mask beside its prior, and of a network that did not learn what it was taught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

import cgckit
from cgckit.cgc.inference import network_log_odds
from cgckit.images.case import Case
from cgckit.pipeline.engine import WARNING, Refined
from cgckit.priors.base import Prior
from cgckit.sealed import read_json

THROWN, NEW = "most of the prior is thrown away", "most of the refined mask is new"


def row(first: int, last: int) -> np.ndarray:
    """A mask of one row of 100 voxels."""
    mask = np.zeros((100, 1, 1), dtype=bool)
    mask[first:last] = True
    return mask


@pytest.mark.parametrize(
    ("prior", "refined", "expected"),
    [
        ((0, 40), (0, 40), []),
        ((0, 40), (20, 40), []),  # half is kept
        ((0, 40), (21, 40), [THROWN]),
        ((0, 40), (0, 80), []),  # half is new
        ((0, 40), (0, 81), [NEW]),
        ((0, 40), (50, 60), [THROWN, NEW]),
        ((0, 40), (0, 0), [THROWN]),
        ((0, 0), (0, 40), [NEW]),
        ((0, 0), (0, 0), []),
    ],
)
def test_less_than_half_in_common_is_a_warning(
    prior: tuple[int, int], refined: tuple[int, int], expected: list[str]
) -> None:
    found = Refined(row(*refined), 1.0, [])
    warnings = [text for text in found.compare(row(*prior))["remarks"] if text.startswith(WARNING)]
    assert len(warnings) == len(expected)
    assert all(words in text for words, text in zip(expected, warnings, strict=True))
    assert not any("; " in text for text in warnings), "remarks are joined by it"
    assert not any(WARNING in text for text in found.compare(row(*prior), doubtful=True)["remarks"])


def test_what_was_dropped_is_counted() -> None:
    prior = row(0, 10) | row(20, 25) | row(40, 60)
    found = Refined(row(40, 60), 1.0, []).compare(prior)
    assert (found["dropped_parts"], found["dropped_ml"]) == (2, 15.0)


@dataclass
class BrightFlair(Prior):
    """Everything above a threshold in FLAIR."""

    def predict(self, case: Case) -> Tensor:
        return ((case.channel("flair") > 2.5) & case.brain).float()


QUICK = {"spacing": 4.0, "crop": (16, 16, 16), "widths": (4, 4, 4, 4), "projection": 4, "batch": 1, "mirror": False}


@pytest.mark.parametrize(("says", "converged"), [(-1.0, False), (1.0, True)])
def test_a_network_that_does_not_repeat_what_it_was_taught_has_not_converged(
    write_cohort: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    says: float,
    converged: bool,
) -> None:
    def constant(network: object, settings: object, image: Tensor, **options: object) -> Tensor:
        return network_log_odds(network, settings, image, **options) * 0 + says  # type: ignore[arg-type]

    monkeypatch.setattr("cgckit.cgc.inference.network_log_odds", constant)
    out = tmp_path / "out"
    run = cgckit.refine(write_cohort(2), BrightFlair(), out, settings={**QUICK, "steps": 1}, device="cpu")
    for subject in run:
        assert subject.learnt == (1.0 if converged else 0.0)
        assert any("not converged" in text for text in subject.remarks) != converged
    record = read_json(out / "run.json")
    assert record["learnt"] == (1.0 if converged else 0.0)
    assert ("in 2 of 2 subjects" in " ".join(record.get("warnings", []))) != converged
    assert ("training has not converged" in caplog.text) != converged
    assert ("not converged" in (out / "summary.tsv").read_text()) != converged
