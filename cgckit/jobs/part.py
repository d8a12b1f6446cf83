"""`Part`: what one of several processes does of a run, each started by itself, as by a scheduler."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cgckit.errors import UsageError
from cgckit.images.cohort import Subject

STAGES = ("prior", "train", "infer")


@dataclass(frozen=True)
class Part:
    """A stage of a run, for some of its subjects; by default the whole run.

    Attributes:
        stage: "prior", "train" or "infer"; None for all of them and the tables at the end.
        number: which share of the subjects, from 1 on.
        count: how many shares there are.
    """

    stage: str | None = None
    number: int = 1
    count: int = 1

    @classmethod
    def of(cls, stage: str | None, shard: str | None) -> Part:
        """Read "i/n", the i-th of n shares.

        Raises:
            UsageError: no such stage or share, or a share of what cannot be shared.
        """
        if stage is not None and stage not in STAGES:
            raise UsageError(f"unknown stage {stage!r}: choose {', '.join(STAGES)}")
        if shard is None:
            return cls(stage)
        match = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", str(shard))
        if match is None or int(match[1]) > int(match[2]):
            raise UsageError(f"a shard is i/n, as 3/10, with i from 1 to n; got {shard!r}")
        if stage not in ("prior", "infer"):
            raise UsageError("a shard is one of the stages prior or infer; training is one process's, or torchrun's")
        return cls(stage, int(match[1]), int(match[2]))

    @property
    def is_shared(self) -> bool:
        """Whether others may be at work on the same run at the same time."""
        return self.stage in ("prior", "infer")

    def share(self, subjects: Sequence[Subject]) -> Sequence[Subject]:
        """Every n-th subject, beginning with the i-th."""
        return subjects if self.count == 1 else subjects[self.number - 1 :: self.count]
