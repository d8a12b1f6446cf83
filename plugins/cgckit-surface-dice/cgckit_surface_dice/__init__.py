"""A metric for cgckit: surface Dice at a tolerance in mm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cgckit import Metric, Pair
from cgckit.options import at_least

__all__ = ["SurfaceDice"]


@dataclass
class SurfaceDice(Metric):
    """Share of both surfaces that lies within a tolerance of the other one.

        (|{p in S(P): d(p, S(R)) <= t}| + |{r in S(R): d(r, S(P)) <= t}|) / (|S(P)| + |S(R)|)

    S are the voxels of a mask that lack a face neighbour, d the distance between centres of voxels.

    Attributes:
        tolerance: t in mm: how far apart two contours may be that nobody would call different.
    """

    title = "s. Dice"
    symmetric = True

    tolerance: Annotated[float, at_least(0)] = 2.0

    def measure(self, pair: Pair) -> float:
        """In [0, 1]."""
        near = sum(int((distances <= self.tolerance).sum()) for distances in pair.surface_distances)
        return near / sum(map(len, pair.surface_distances))
