"""`Prior`: the one interface between cgckit and a source of pseudo-labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from typing_extensions import Self

from cgckit.errors import PluginError
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.lesion_evidence.findings import findings, recall
from cgckit.plugins import Group, Plugin, blame

PRIOR_CONTRACT = 2
"""Version of the contract between cgckit and a prior.

Within one version none of this changes, and a prior that keeps it goes on working:

- A prior is a dataclass derived from `Prior`; its fields are its options.
- It may read all documented fields of the `Case` that it is given, and changes none.
- `predict` returns a probability of lesion, [H, W, L] float32 in [0, 1] on the case's grid, 0 outside the brain,
  alone or in a `Prediction`. It is deterministic, and depends on the case, the options and what `fit` learned alone:
  one object is asked for several subjects, in any order.
- If its class has a `fit`, that sees the cohort, or `load_state` what a fit learned, before `predict` is called.
  Version 1 asked such a class to set `requires_fit` too; what it is set to matters no longer.
- `state` is named tensors, kept as safetensors; `fingerprint` is a hash of what `predict` reads besides.
- `cgckit.testing.check_prior` tests the whole contract.
"""


class Prediction(NamedTuple):
    """What a prior says of one subject.

    Attributes:
        probability: of lesion, [H, W, L] float32 in [0, 1], 0 outside the brain.
        note: what the prior decided, as one sentence for the log and the summary.
    """

    probability: Tensor
    note: str = ""


class Prior(Plugin, ABC):
    """A label-free guess of where the lesions are (the pseudo-label `P` of Yu, Zhao et al.).

    Subclasses are dataclasses: each field is an option with a type, a default and, as `Annotated[float, Range(0, 1)]`,
    a range, so that `--prior-option name=value` can be validated before any work starts. They are registered on the
    entry-point group `cgckit.priors`. `PRIOR_CONTRACT` says what both sides may rely on.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """Modalities of which it needs one, as `("flair", "t2")`; empty if any will do."""

    cost: ClassVar[str] = ""
    """What it takes on a CPU, in a few words for `cgckit priors list`, as "a second a subject"."""

    def fit(self, cases: Sequence[Case]) -> Self:
        """Learn from the whole cohort, without labels, and return the prior itself.

        A class that defines it is a prior that learns: it is fitted before `predict` is called, `state` and
        `load_state` go with it, and until then `predict` raises a RuntimeError that says so. Priors that work on one
        subject at a time do not define it.

        Args:
            cases: of the cohort; each is prepared when it is asked for, so that a large cohort is best gone through
                one by one.
        """
        return self

    @abstractmethod
    def predict(self, case: Case) -> Tensor | Prediction:
        """Return the probability of lesion for one subject, [H, W, L] float32 in [0, 1], 0 outside the brain.

        With something to say about it, in a `Prediction`.
        """

    def fingerprint(self, subject: Subject) -> str:
        """Hash of what `predict` reads for a subject besides its images and the options, as a file that it has.

        It is asked for before any work: results are kept, and cached maps used, for equal hashes only.
        """
        return ""

    def state(self) -> Mapping[str, Tensor]:
        """What `fit` learned, as named tensors: it is kept as safetensors, never pickled."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned, so that `predict` needs no `fit`."""


def declaration_faults(kind: type[Prior]) -> list[str]:
    """What is wrong with what a prior declares of itself; nothing, as it should be."""
    words = {"summary": kind.summary, "cost": kind.cost}
    faults = [f"{name} is {said!r}, not text" for name, said in words.items() if not isinstance(said, str)]
    needs = kind.needs
    if not isinstance(needs, tuple) or not all(isinstance(name, str) for name in needs):
        faults.append(f'needs is {needs!r}, not names of modalities, as ("flair", "t2")')
    return faults


PRIORS: Group[Prior] = Group(Prior, "cgckit.priors", "prior", forms="mask:PATTERN, FILE.py:Class or a+b")
"""The installed priors."""


def predict_checked(prior: Prior, case: Case) -> Prediction:
    """What a prior says of a case, held to the contract; 0 outside the brain.

    The prior gets a copy, so that nothing it does to the images reaches what is made of them later. What it found out
    about the case on the way (`cgckit.lesion_evidence.findings`) is kept.

    Raises:
        PluginError: it failed, or gave something else than [H, W, L] float32 in [0, 1].
    """
    name = PRIORS.name(prior)
    with blame(f"prior {name} failed in predict on {case.subject}"):
        given = case.copy()
        recall(given, findings(case))
        probability, note = predict_noted(prior, given)
        fault = map_fault(probability, case)
        if fault is None and not bool(((probability >= 0) & (probability <= 1)).all()):
            fault = "values outside [0, 1]"
    if fault is not None:
        raise PluginError(f"prior {name} gave {fault} for {case.subject}: run `cgckit priors check` on it")
    if torch.equal(given.image, case.image) and torch.equal(given.brain, case.brain):
        recall(case, findings(given))
    return Prediction((probability.as_subclass(Tensor) * case.brain).contiguous(), note)


def map_fault(probability: Tensor, case: Case) -> str | None:
    """Why a tensor cannot be a case's map, whatever its values; None if it can."""
    if probability.layout != torch.strided or probability.device.type != "cpu":
        layout = str(probability.layout).removeprefix("torch.")
        return f"a {layout} tensor on {probability.device}, not a dense one on the CPU,"
    if probability.shape != case.brain.shape or probability.dtype != torch.float32:
        return f"{probability.dtype} {tuple(probability.shape)}, not float32 {tuple(case.brain.shape)},"
    if probability.requires_grad:
        return "a map that wants a gradient (predict under torch.no_grad())"
    return None


def predict_noted(prior: Prior, case: Case) -> Prediction:
    """What a prior says of a case, whichever way it says it.

    Raises:
        PluginError: it returned neither a tensor nor a `Prediction` of a tensor and text.
    """
    found = prior.predict(case)
    probability, note = found if isinstance(found, Prediction) else (found, "")
    if not isinstance(probability, Tensor) or not isinstance(note, str):
        wrong = (
            f"a note of type {type(note).__name__}" if isinstance(probability, Tensor) else type(probability).__name__
        )
        raise PluginError(
            f"prior {PRIORS.name(prior)} returned {wrong} for {case.subject}: give a Tensor, or cgckit.Prediction of a "
            "Tensor and text"
        )
    return Prediction(probability, " ".join(note.encode(errors="replace").decode().splitlines()))
