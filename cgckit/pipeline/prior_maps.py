"""Prior maps: computed once a subject, kept under a key of everything they depend on, and checked for health."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from safetensors.torch import save
from torch import Tensor

from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError, CgckitError, UnusableSubjectError
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.preparation import Preparation
from cgckit.images.working_grid import IMAGE_SPACING
from cgckit.lesion_evidence.findings import findings, recall
from cgckit.lock import alone
from cgckit.pipeline.health import Health, assess
from cgckit.plugins import blame
from cgckit.priors.base import PRIORS, Prediction, Prior, predict_checked
from cgckit.priors.fusion import learns
from cgckit.priors.resolve import prior_identity, prior_name
from cgckit.sealed import DamagedError, is_whole, read_tensors, write_tensors
from cgckit.starting import shipped_hash
from cgckit.version import __version__

logger = logging.getLogger(__name__)

_FINDING = "finding."
"""How the names of what was found out about a case begin in the file of its prior."""


@dataclass(frozen=True)
class PriorMap:
    """A subject's pseudo-label: `probability` [H, W, L] on the case's grid, its health, and the prior's note."""

    probability: Tensor
    health: Health
    note: str

    @property
    def target(self) -> Tensor | None:
        """The probability, if a network may be trained on it."""
        return None if self.health.degenerate else self.probability

    @property
    def guide(self) -> Tensor | None:
        """The probability, if refinement may weigh it."""
        return self.probability if self.health.weighable else None

    def report(self) -> dict[str, Any]:
        """Health and note as plain JSON values."""
        return {"health": dataclasses.asdict(self.health), "note": self.note}


@contextmanager
def of_a_subject() -> Iterator[None]:
    """Tell bad input that the block finds in the files of one subject from that which concerns a whole run."""
    try:
        yield
    except UnusableSubjectError:
        raise
    except BadInputError as error:
        raise UnusableSubjectError(str(error)) from error


class CohortCases(Sequence[Case]):
    """The cohort's cases, each prepared when it is asked for: a cohort of thousands does not fit memory."""

    def __init__(self, cohort: Cohort, preparation: Preparation) -> None:
        self.cohort = cohort
        self.preparation = preparation

    def __len__(self) -> int:
        return len(self.cohort)

    @overload
    def __getitem__(self, index: int) -> Case: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Case]: ...

    def __getitem__(self, index: int | slice) -> Case | Sequence[Case]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        subject = self.cohort[index]
        case = self.preparation.case(subject, self.cohort.modalities)
        return case if subject.case is None else case.copy()

    def __iter__(self) -> Iterator[Case]:
        return (self[index] for index in range(len(self)))


def prior_files(prior: Prior, cohort: Sequence[Subject]) -> dict[str, str]:
    """What a prior reads besides the images, as a hash for each subject's label; empty for most priors.

    Raises:
        BadInputError: a file that the prior needs is not there.
        PluginError: the prior raised an error that is not cgckit's own.
    """
    return {subject.label: _fingerprint(prior, subject) for subject in cohort}


class PriorMaps:
    """Computes the prior of each subject of a cohort, or takes it from `folder` if it was computed before.

    Args:
        prior: the source of the pseudo-labels.
        cohort: whose subjects are asked for; a prior that learns is fitted on all of them.
        folder: the cache.
        preparation: how scans become cases.
        files: what `prior_files` gave when the run began.

    Raises:
        BadInputError: what the prior reads of a subject changed since then.
        PluginError: the prior raised an error that is not cgckit's own, or broke its contract.
    """

    def __init__(
        self,
        prior: Prior,
        cohort: Cohort,
        folder: Path,
        preparation: Preparation,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.prior = prior
        self._files = dict(files or {})
        self.cohort: Cohort | None = cohort
        self.modalities = cohort.modalities
        self.folder = folder
        self.preparation = preparation
        self._made_of = {
            "cgckit": __version__,
            "prior": prior_identity(prior),
            "preparation": preparation.identity(),
            "spacing": IMAGE_SPACING,
            "starting": shipped_hash(),  # its answer is kept with the prior
        }
        self.name = prior_name(prior)
        self.learns = learns(prior)
        self._ready = not self.learns

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: of the cohort what keys are made of, and not the subjects."""
        return {**vars(self), "_cohort_print": self._cohort_print, "cohort": None}

    def __call__(self, subject: Subject, case: Case) -> PriorMap:
        """Return the map of one subject, whose `case` is given."""
        path = self._path(subject)
        kept = _read(path)
        if kept is None:
            self._fit()
            with of_a_subject():
                found = predict_checked(self.prior, case)
            self._print(subject)  # of what was read, and not of what came before or after
            noted = {_FINDING + name: value for name, value in findings(case).items()}
            write_tensors(path, {"probability": found.probability, **noted}, {"note": found.note})
        else:
            found = Prediction(kept[0].pop("probability"), kept[1]["note"])
            recall(case, {name.removeprefix(_FINDING): value for name, value in kept[0].items()})
        return PriorMap(found.probability, assess(case, found.probability), found.note)

    def files(self, out: Derivatives, subject: Subject) -> list[Path]:
        """The images that `write` writes."""
        return [out.brain_mask(subject.label), out.prior_probability(subject.label, self.name)]

    def write(self, out: Derivatives, subject: Subject, case: Case, prior: PriorMap) -> None:
        """Write a subject's prior probability and brain mask on its input's grid, and say in the log what was found."""
        out.write_brain(subject.label, case.to_native(case.brain), subject.frame)
        native = case.to_native(prior.probability)
        out.write_prior_probability(subject.label, self.name, native, subject.frame)
        logger.info("%s: %s", subject.label, prior.note or "prior computed")
        for remark in prior.health.remarks:
            logger.warning("%s: %s", subject.label, remark)
        if prior.health.degenerate:
            logger.warning("%s: the prior is excluded from training: %s", subject.label, prior.health.degenerate)

    def learn_for(self, subjects: Sequence[Subject]) -> None:
        """Have a prior that learns ready, if the map of one of the subjects is not in the cache."""
        if not self._ready and not all(is_whole(self._path(subject)) for subject in subjects):
            self._fit()

    def _path(self, subject: Subject) -> Path:
        return self.folder / f"{subject.label}-{self._key(subject)}.safetensors"

    def _key(self, subject: Subject) -> str:
        parts: dict[str, object] = {
            **self._made_of,
            "modalities": self.modalities,
            # A prior that learns may be asked for a subject that it was not fitted on.
            "inputs": [subject.fingerprint(), *([self._cohort_print] if self.learns else [])],
            "files": self._print(subject),
            "subject": subject.label,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]

    def _print(self, subject: Subject) -> str:
        """Hash of what the prior reads of a subject besides its images: the same for as long as the run goes on."""
        found = _fingerprint(self.prior, subject)
        if self._files.setdefault(subject.label, found) != found:
            raise BadInputError(
                f"{subject.source}: what the prior {self.name} reads of it was replaced while the run was "
                "working; give the command again when it is at rest"
            )
        return found

    @cached_property
    def _cohort_print(self) -> str:
        """Hash of the images of all that a prior that learns is fitted on; empty for another."""
        prints = [subject.fingerprint() for subject in self.cohort] if self.learns and self.cohort else []
        return hashlib.sha256(json.dumps(prints).encode()).hexdigest() if prints else ""

    def _fit(self) -> None:
        """Fit a prior that learns, or load what it learned from this cohort before."""
        if self._ready:
            return
        identity = json.dumps([self._made_of, self.modalities, self._cohort_print])
        path = self.folder / f"fit-{hashlib.sha256(identity.encode()).hexdigest()[:20]}.safetensors"
        with alone(path.with_suffix(".lock")):  # of several processes one learns
            self._learn(path)
        self._ready = True

    def _learn(self, path: Path) -> None:
        learned = _read(path)
        if learned is not None:
            with _blame(self.prior, "load_state"):
                self.prior.load_state(learned[0])
        elif self.cohort is None:
            raise CgckitError(f"{path}: what the prior learned is gone; the same command makes it again")
        else:
            logger.info("fitting the prior on %d subjects", len(self.cohort))
            with _blame(self.prior, "fit"):
                self.prior.fit(CohortCases(self.cohort, self.preparation))
            with _blame(self.prior, "state"):
                state = {name: value.contiguous() for name, value in self.prior.state().items()}
                save(state)  # what cannot be written is the prior's failure; a full disk is not
            write_tensors(path, state)


def _fingerprint(prior: Prior, subject: Subject) -> str:
    with _blame(prior, "fingerprint"):
        found = prior.fingerprint(subject)
        if not isinstance(found, str):
            raise TypeError(f"{type(found).__name__} instead of text")
        return found


def _blame(prior: Prior, deed: str) -> AbstractContextManager[None]:
    return blame(f"prior {PRIORS.name(prior)} failed in {deed}")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Tensors and notes in a file of the cache; None if it is not there, or not as it was written."""
    try:
        return read_tensors(path)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        logger.warning("%s is damaged (%s) and is made again", path, error)
        return None
