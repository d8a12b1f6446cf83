"""`Prior`: the one interface between cgckit and a source of pseudo-labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor
from typing_extensions import Self

from cgckit.images.case import Case
from cgckit.images.cohort import Subject


class Prior(ABC):
    """A label-free guess of where the lesions are (the pseudo-label `P` of Yu, Zhao et al.).

    Subclasses are dataclasses: each field is an option with a type and a default, so that
    `--prior-option name=value` can be validated before any work starts. They are registered on the
    entry-point group `cgckit.priors`.

    `predict` must be deterministic, must not change its input, and must return zero outside the brain;
    `cgckit.testing.check_prior` tests the whole contract.
    """

    summary: ClassVar[str] = ""
    """One line for `cgckit priors list`."""

    requires_fit: ClassVar[bool] = False
    """Whether `fit` must see the cohort before `predict` may be called."""

    choice: str = ""
    """What the last `predict` decided, as one sentence for the log and the summary."""

    def fit(self, cases: Sequence[Case]) -> Self:
        """Learn from the whole cohort, without labels. Priors that work on one subject at a time leave it alone."""
        return self

    @abstractmethod
    def predict(self, case: Case) -> Tensor:
        """Return the probability of lesion for one subject, [H, W, L] float32 in [0, 1], 0 outside the brain."""

    def fingerprint(self, subject: Subject) -> str:
        """Hash of what `predict` reads for a subject besides its images and the options, as a file that it has.

        It is asked for before any work: results are kept, and cached maps used, for equal hashes only.
        """
        return ""

    def state(self) -> Mapping[str, Tensor]:
        """What `fit` learned, as named tensors: it is kept as safetensors, never pickled."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027 - most priors have nothing to load
        """Take back what `state` returned, so that `predict` needs no `fit`."""
