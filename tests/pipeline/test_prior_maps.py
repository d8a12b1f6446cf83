"""Prior maps of a cohort: computed and fitted once, kept under all they depend on, held to the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typing_extensions import Self

from cgckit.errors import PluginError, UsageError
from cgckit.images import working_grid
from cgckit.images.brain import CoarseSearch
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort
from cgckit.images.preparation import Preparation, prepare
from cgckit.lesion_evidence.findings import findings
from cgckit.pipeline.compute_priors import compute_priors
from cgckit.pipeline.prior_maps import CohortCases, PriorMaps
from cgckit.priors.base import Prediction, Prior
from cgckit.priors.gmm import GaussianMixturePrior

SPACING = 4.0
BRAIN = CoarseSearch()


@dataclass
class Learned(Prior):
    """Gives the mean of the cohort's brightest voxels everywhere, outside the brain too."""

    scale: float = 0.01

    def __post_init__(self) -> None:
        self.level: Tensor | None = None
        self.seen: list[str] = []
        self.asked = 0

    def fit(self, cases: Sequence[Case]) -> Self:
        self.seen = [case.subject for case in cases]
        self.level = torch.stack([case.image.max() for case in cases]).mean()
        return self

    def predict(self, case: Case) -> Prediction:
        self.asked += 1
        assert self.level is not None
        return Prediction(torch.ones(case.brain.shape) * (self.scale * self.level), "the cohort's level")

    def state(self) -> Mapping[str, Tensor]:
        assert self.level is not None
        return {"level": self.level}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.level = state["level"]


@dataclass
class Unlearning(Learned):
    """Fails to learn."""

    def fit(self, cases: Sequence[Case]) -> Self:
        raise ZeroDivisionError("no case\nis good enough")


@pytest.fixture(autouse=True)
def coarse_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work on a grid that is quick to compute on."""
    monkeypatch.setattr(working_grid, "IMAGE_SPACING", SPACING)


@pytest.fixture
def cohort(write_cohort: Callable[..., Path]) -> Cohort:
    return Cohort.find([write_cohort(2)])


def maps_of(prior: Prior, cohort: Cohort, folder: Path) -> list[Tensor]:
    maps = PriorMaps(prior, cohort, folder, Preparation(BRAIN))
    return [maps(subject, prepare(subject, cohort.modalities, BRAIN)).probability for subject in cohort]


def test_a_prior_that_learns_sees_the_cohort_once_and_is_remembered(cohort: Cohort, tmp_path: Path) -> None:
    first, again, other = Learned(), Learned(), Learned(scale=0.02)
    found = maps_of(first, cohort, tmp_path)
    assert first.seen == ["case1", "case2"]
    assert first.asked == 2
    # Its maps come from the cache, and for a map that is gone what it learned does.
    next(tmp_path.glob("case2-*")).unlink()
    for one, repeated in zip(found, maps_of(again, cohort, tmp_path), strict=True):
        assert torch.equal(one, repeated)
    assert (again.seen, again.asked) == ([], 1)
    for one, doubled in zip(found, maps_of(other, cohort, tmp_path), strict=True):
        torch.testing.assert_close(doubled, 2 * one)


def test_a_prior_that_learned_from_another_cohort_learns_anew(cohort: Cohort, tmp_path: Path) -> None:
    maps_of(Learned(), cohort, tmp_path)
    fewer = Learned()
    maps_of(fewer, Cohort(cohort.subjects[:1], cohort.modalities), tmp_path)
    assert (fewer.seen, fewer.asked) == (["case1"], 1)


def test_a_damaged_map_is_computed_again(cohort: Cohort, tmp_path: Path) -> None:
    expected = maps_of(Learned(), cohort, tmp_path)
    for path in tmp_path.glob("case*"):
        path.write_bytes(b"no tensors")
    prior = Learned()
    for one, repeated in zip(expected, maps_of(prior, cohort, tmp_path), strict=True):
        assert torch.equal(one, repeated)
    assert prior.asked == 2


def test_what_a_prior_found_out_about_a_case_is_kept_with_its_map(cohort: Cohort, tmp_path: Path) -> None:
    first, later = (prepare(cohort[0], cohort.modalities, BRAIN) for _ in range(2))
    PriorMaps(GaussianMixturePrior(), cohort, tmp_path, Preparation(BRAIN))(cohort[0], first)
    PriorMaps(GaussianMixturePrior(), cohort, tmp_path, Preparation(BRAIN))(cohort[0], later)
    assert set(findings(later)) == {"plane", "starting"}
    for name, value in findings(later).items():
        assert torch.equal(value, findings(first)[name])


def test_a_map_is_zero_outside_the_brain(cohort: Cohort, tmp_path: Path) -> None:
    case = prepare(cohort[0], cohort.modalities, BRAIN)
    found = maps_of(Learned(), cohort, tmp_path)[0]
    assert (found[case.brain] > 0).all()
    assert not found[~case.brain].any()


def test_a_prior_that_fails_to_learn_is_named_in_one_line(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"Unlearning failed in fit: ZeroDivisionError: no case$"):
        maps_of(Unlearning(), cohort, tmp_path)


def faulty(**methods: object) -> Prior:
    """A prior that learns, with some of its methods replaced."""
    return type("Faulty", (Learned,), methods)()  # type: ignore[no-any-return]


def leave(*_: object) -> None:
    raise SystemExit(0)


def ones(case: Case) -> Tensor:
    return torch.ones(case.brain.shape)


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (faulty(predict=lambda self, case: (ones(case), "a plain tuple")), "returned tuple for case1: give a Tensor"),
        (faulty(predict=lambda self, case: None), "returned NoneType for case1"),
        (faulty(predict=lambda self, case: ones(case).numpy()), "returned ndarray for case1"),
        (faulty(predict=lambda self, case: Prediction(ones(case), None)), "returned a note of type NoneType"),  # type: ignore[arg-type]
        (faulty(predict=lambda self, case: ones(case).requires_grad_()), "wants a gradient"),
        (faulty(predict=leave), "failed in predict on case1: SystemExit: 0"),
        (faulty(fit=leave), "failed in fit: SystemExit: 0"),
        (faulty(state=lambda self: {"level": 5}), "failed in state: AttributeError"),
        (faulty(state=leave), "failed in state: SystemExit"),
        (faulty(fingerprint=lambda self, subject: 5), "failed in fingerprint: TypeError: int instead of text"),
        (faulty(fingerprint=leave), "failed in fingerprint: SystemExit"),
    ],
)
def test_a_prior_that_breaks_its_contract_is_named_in_one_line(
    cohort: Cohort, tmp_path: Path, prior: Prior, words: str
) -> None:
    with pytest.raises(PluginError, match=words) as caught:
        maps_of(prior, cohort, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_prior_that_cannot_take_back_what_it_learned_is_named(cohort: Cohort, tmp_path: Path) -> None:
    def load_state(self: Learned, state: Mapping[str, Tensor]) -> None:
        raise RuntimeError("no\nlevel")

    maps_of(faulty(load_state=load_state), cohort, tmp_path)
    for path in tmp_path.glob("case*"):
        path.unlink()
    with pytest.raises(PluginError, match=r"failed in load_state: RuntimeError: no$"):
        maps_of(faulty(load_state=load_state), cohort, tmp_path)


def test_only_the_user_may_interrupt_a_prior(cohort: Cohort, tmp_path: Path) -> None:
    def interrupted(self: Learned, case: Case) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maps_of(faulty(predict=interrupted), cohort, tmp_path)


def test_cases_of_a_cohort_are_a_sequence(cohort: Cohort) -> None:
    cases = CohortCases(cohort, Preparation(BRAIN))
    assert len(cases) == 2
    assert [case.subject for case in cases] == [cases[0].subject, cases[1].subject] == ["case1", "case2"]
    assert [case.subject for case in cases[1:]] == ["case2"]
    assert cases[-1].spacing == (SPACING, SPACING, SPACING)


def test_priors_with_other_options_do_not_replace_those_in_the_folder(cohort: Cohort, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = compute_priors(cohort, Learned(), out)
    assert [subject.label for subject in run] == ["case1", "case2"]
    assert [subject.note for subject in run] == ["the cohort's level"] * 2
    written = [subject.probability_path for subject in run]
    before = [path.read_bytes() for path in written]
    with pytest.raises(UsageError, match="--overwrite"):
        compute_priors(cohort, Learned(scale=0.02), out)
    assert [path.read_bytes() for path in written] == before
    compute_priors(cohort, Learned(scale=0.02), out, overwrite=True)
    assert [path.read_bytes() for path in written] != before
