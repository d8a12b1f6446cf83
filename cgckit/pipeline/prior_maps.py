"""Prior maps: computed once a subject, kept under a key of everything they depend on, and checked for health."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cgckit import __version__
from cgckit.atomic import atomic_write
from cgckit.derivatives import Derivatives
from cgckit.errors import CgckitError, PluginError
from cgckit.images.case import Case, to_native
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.preparation import prepare
from cgckit.pipeline.health import Health, assess
from cgckit.plugins.registry import prior_identity, prior_name
from cgckit.priors.base import Prior

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PriorMap:
    """A subject's pseudo-label: `probability` [H, W, L] on the case's grid, its health, and what the prior chose."""

    probability: Tensor
    health: Health
    choice: str

    @property
    def target(self) -> Tensor | None:
        """The probability, if a network may be trained on it."""
        return None if self.health.degenerate else self.probability

    @property
    def evidence(self) -> Tensor | None:
        """The probability, if refinement may weigh it."""
        return self.probability if self.health.weighable else None

    def report(self) -> dict[str, Any]:
        """Health and choice as plain JSON values."""
        return {**dataclasses.asdict(self.health), "choice": self.choice}


class CohortCases(Sequence[Case]):
    """The cohort's cases, each prepared when it is asked for: a cohort of thousands does not fit memory."""

    def __init__(self, cohort: Cohort, spacing: float) -> None:
        self.cohort = cohort
        self.spacing = spacing

    def __len__(self) -> int:
        return len(self.cohort)

    @overload
    def __getitem__(self, index: int) -> Case: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Case]: ...

    def __getitem__(self, index: int | slice) -> Case | Sequence[Case]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return prepare(self.cohort[index], self.cohort.modalities, self.spacing)

    def __iter__(self) -> Iterator[Case]:
        return (self[index] for index in range(len(self)))


def prior_files(prior: Prior, cohort: Cohort) -> dict[str, str]:
    """What a prior reads besides the images, as a hash for each subject's label; empty for most priors.

    Raises:
        BadInputError: a file that the prior needs is not there.
        PluginError: the prior raised an error that is not cgckit's own.
    """
    with _blame(prior, "fingerprint"):
        return {subject.label: prior.fingerprint(subject) for subject in cohort}


class PriorMaps:
    """Computes the prior of each subject of a cohort, or takes it from `folder` if it was computed before.

    Args:
        prior: the source of the pseudo-labels.
        cohort: whose subjects are asked for; a prior that learns is fitted on all of them.
        folder: the cache.
        spacing: of the grid that priors are computed on [mm].

    Raises:
        PluginError: the prior raised an error that is not cgckit's own, or broke its contract.
    """

    def __init__(self, prior: Prior, cohort: Cohort, folder: Path, spacing: float) -> None:
        self.prior = prior
        self.cohort = cohort
        self.folder = folder
        self.spacing = spacing
        self._ready = not prior.requires_fit

    def __call__(self, subject: Subject, case: Case) -> PriorMap:
        """Return the map of one subject, whose `case` is given on the grid of `spacing` mm."""
        path = self.folder / f"{subject.label}-{self._key(subject)}.safetensors"
        cached = _read(path)
        if cached is None:
            self._fit()
            probability = self._predict(case)
            cached = probability, self.prior.choice
            with atomic_write(path) as temporary:
                save_file({"probability": probability}, temporary, metadata={"choice": self.prior.choice})
        probability, choice = cached
        return PriorMap(probability, assess(case, probability), choice)

    def write(self, out: Derivatives, subject: Subject, case: Case, prior: PriorMap) -> None:
        """Write a subject's prior probability and brain mask on its input's grid, and say in the log what was found."""
        reference = next(iter(subject.files.values()))
        out.write_brain(subject.label, to_native(case.brain.numpy(), case), reference)
        native = to_native(prior.probability.numpy(), case)
        out.write_prior_probability(subject.label, prior_name(self.prior), native, reference)
        logger.info("%s: %s", subject.label, prior.choice or "prior computed")
        for remark in prior.health.remarks:
            logger.warning("%s: %s", subject.label, remark)
        if prior.health.degenerate:
            logger.warning("%s: the prior is excluded from training: %s", subject.label, prior.health.degenerate)

    def _key(self, subject: Subject) -> str:
        parts: dict[str, object] = {
            "cgckit": __version__,
            "prior": prior_identity(self.prior),
            "modalities": self.cohort.modalities,
            "spacing": self.spacing,
            # A prior that learns may be asked for a subject that it was not fitted on.
            "inputs": [subject.fingerprint(), *(self._cohort_print() if self.prior.requires_fit else [])],
            "files": self.prior.fingerprint(subject),
            "subject": subject.label,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]

    def _cohort_print(self) -> list[str]:
        return [subject.fingerprint() for subject in self.cohort]

    def _fit(self) -> None:
        """Fit a prior that learns, or load what it learned from this cohort before."""
        if self._ready:
            return
        identity = json.dumps([__version__, prior_identity(self.prior), self.spacing, self._cohort_print()])
        path = self.folder / f"fit-{hashlib.sha256(identity.encode()).hexdigest()[:20]}.safetensors"
        if path.exists():
            self.prior.load_state(load_file(path))
        else:
            logger.info("fitting the prior on %d subjects", len(self.cohort))
            with _blame(self.prior, "fit"):
                self.prior.fit(CohortCases(self.cohort, self.spacing))
            with atomic_write(path) as temporary:
                save_file({name: value.contiguous() for name, value in self.prior.state().items()}, temporary)
        self._ready = True

    def _predict(self, case: Case) -> Tensor:
        with _blame(self.prior, f"predict on {case.subject}"):
            probability = self.prior.predict(case)
        name = type(self.prior).__name__
        if probability.shape != case.brain.shape or probability.dtype != torch.float32:
            raise PluginError(
                f"prior {name} gave {probability.dtype} {tuple(probability.shape)} for {case.subject}, not float32 "
                f"{tuple(case.brain.shape)}: run `cgckit priors check` on it"
            )
        if not bool(((probability >= 0) & (probability <= 1)).all()):
            raise PluginError(
                f"prior {name} gave values outside [0, 1] for {case.subject}: run `cgckit priors check` on it"
            )
        return (probability * case.brain).contiguous()


class _blame:  # noqa: N801 - used as a statement
    """Turn whatever a prior raises, cgckit's own errors aside, into a `PluginError` that names it."""

    def __init__(self, prior: Prior, deed: str) -> None:
        self.prior = prior
        self.deed = deed

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, CgckitError):
            logger.debug("the prior's own error", exc_info=error)
            reason = str(error).splitlines()[0] if str(error) else "no message"
            raise PluginError(
                f"prior {type(self.prior).__name__} failed in {self.deed}: {type(error).__name__}: {reason}"
            ) from error


def _read(path: Path) -> tuple[Tensor, str] | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("probability").clone(), (file.metadata() or {}).get("choice", "")
    except (SafetensorError, OSError):
        logger.warning("%s cannot be read and is computed again", path)
        return None
