"""`FusionPrior`: several priors at once; and `learns`, which sees through one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from cgckit.errors import UsageError
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.priors.base import Prediction, Prior, predict_checked


@dataclass
class FusionPrior(Prior):
    """Mean probability of several priors, `P = (P_1 + ... + P_n) / n`; written `a+b` on the command line.

    Attributes:
        members: the priors.

    Raises:
        UsageError: if there are no members.
    """

    summary: ClassVar[str] = "Mean probability of several priors"

    members: tuple[Prior, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.members:
            raise UsageError("a fusion needs at least one prior")

    def fit(self, cases: Sequence[Case]) -> Self:
        """Fit each member on the cohort."""
        for member in self.members:
            member.fit(cases)
        return self

    def predict(self, case: Case) -> Prediction:
        """Return the members' mean, [H, W, L] float32."""
        found = [predict_checked(member, case) for member in self.members]
        mean = torch.stack([prediction.probability for prediction in found]).mean(dim=0)
        return Prediction(mean, "; ".join(prediction.note for prediction in found if prediction.note))

    def fingerprint(self, subject: Subject) -> str:
        """Hash of the members' own."""
        prints = [member.fingerprint(subject) for member in self.members]
        return hashlib.sha256("\n".join(prints).encode()).hexdigest() if any(prints) else ""

    def state(self) -> Mapping[str, Tensor]:
        """What the members learned, each name preceded by the member's position."""
        return {
            f"{position}.{name}": tensor
            for position, member in enumerate(self.members)
            for name, tensor in member.state().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Give each member its part of `state`."""
        for position, member in enumerate(self.members):
            prefix = f"{position}."
            member.load_state({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def learns(prior: Prior | type[Prior]) -> bool:
    """Whether `fit` must see the cohort before `predict` is called: the class has a `fit` of its own, or inherits one.

    Nothing that a class says of itself has a part in it, so that no `fit` can be forgotten. A fusion learns if one of
    its members does.
    """
    if isinstance(prior, FusionPrior):
        return any(learns(member) for member in prior.members)
    kind = prior if isinstance(prior, type) else type(prior)
    return kind.fit is not Prior.fit
