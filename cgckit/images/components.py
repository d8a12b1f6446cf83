"""`Components`: the connected parts of a mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cgckit.arrays import AnyArray, BoolArray, DoubleArray

Neighbours = Literal[6, 26]
"""Who is connected: voxels that share a face (6), or a face, an edge or a corner (26)."""

_ORDER = {6: 1, 26: 3}


@dataclass(frozen=True, eq=False)
class Components:
    """The connected parts of a mask, numbered from 1 in the order of their first voxels.

    Attributes:
        labels: [H, W, L] int32, the number of the part that a voxel belongs to; 0 outside the mask.
        count: how many parts there are.
    """

    labels: npt.NDArray[np.int32]
    count: int

    @classmethod
    def of(cls, mask: BoolArray, neighbours: Neighbours) -> Components:
        """The parts of a `mask` [H, W, L]."""
        labels, count = ndimage.label(mask, ndimage.generate_binary_structure(3, _ORDER[neighbours]))
        return cls(labels, int(count))

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Voxels of each part, [count]."""
        return np.bincount(self.labels.ravel(), minlength=self.count + 1)[1:]

    def where(self, chosen: BoolArray) -> BoolArray:
        """The voxels of the `chosen` parts, [H, W, L]; `chosen` is [count]."""
        return np.concatenate([[False], chosen])[self.labels]

    def touched(self, other: BoolArray) -> BoolArray:
        """Which parts have a voxel in another mask [H, W, L]: [count]."""
        found = np.zeros(self.count + 1, bool)
        found[self.labels[other]] = True
        return found[1:]

    def mean(self, values: AnyArray) -> DoubleArray:
        """Mean of `values` [H, W, L] over each part, [count]."""
        return np.asarray(ndimage.mean(values, self.labels, np.arange(1, self.count + 1)), np.float64)

    def largest(self) -> BoolArray | None:
        """The largest part, [H, W, L]; of equal ones the first; None if there is none."""
        return None if self.count == 0 else np.asarray(self.labels == 1 + int(self.sizes.argmax()))
