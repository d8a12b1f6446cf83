"""`Pair`: a mask and its reference, and what several metrics need of the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from cgckit.arrays import BoolArray, DoubleArray, Spacing
from cgckit.images.components import Components

A = TypeVar("A", bound=npt.NDArray[Any])


class SurfaceDistances(NamedTuple):
    """Distances in mm from each surface voxel of a mask to the nearest one of the other, [voxels of that surface]."""

    from_prediction: DoubleArray
    from_reference: DoubleArray


@dataclass(frozen=True, eq=False)
class Pair:
    """A prediction and its reference on one grid; what is derived from them is computed once, when it is first read.

    The arrays are the same for all metrics and cannot be written to.

    Attributes:
        prediction: bool [H, W, L], cut to the box around both masks.
        reference: bool [H, W, L], cut to the same box.
        spacing: voxel edge lengths in mm.
    """

    prediction: BoolArray
    reference: BoolArray
    spacing: Spacing

    @classmethod
    def of(cls, prediction: npt.ArrayLike, reference: npt.ArrayLike, spacing: Sequence[float]) -> Pair:
        """Put two masks [H, W, L] together, bool or numbers of which all but 0 are lesion.

        Raises:
            ValueError: the shapes differ or are not three-dimensional, or there are not three spacings.
        """
        predicted, expected = (np.asarray(mask, dtype=bool) for mask in (prediction, reference))
        if predicted.shape != expected.shape or predicted.ndim != 3 or len(spacing) != 3:
            shapes = f"{predicted.shape} and {expected.shape}"
            raise ValueError(f"masks of shapes {shapes} with {len(spacing)} spacings cannot be compared")
        # No box is around two empty masks: they stay as they are.
        for box in ndimage.find_objects((predicted | expected).astype(np.uint8)):
            predicted, expected = predicted[box], expected[box]
        first, second, third = map(float, spacing)
        return cls(_locked(predicted.copy()), _locked(expected.copy()), (first, second, third))

    @cached_property
    def predicted_voxels(self) -> int:
        """Voxels of the prediction."""
        return int(self.prediction.sum())

    @cached_property
    def reference_voxels(self) -> int:
        """Voxels of the reference."""
        return int(self.reference.sum())

    @cached_property
    def common_voxels(self) -> int:
        """Voxels that are in both."""
        return int((self.prediction & self.reference).sum())

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return float(np.prod(self.spacing)) / 1000

    @cached_property
    def predicted_parts(self) -> Components:
        """The connected parts of the prediction (26 neighbours)."""
        return _parts(self.prediction)

    @cached_property
    def reference_parts(self) -> Components:
        """The connected parts of the reference (26 neighbours)."""
        return _parts(self.reference)

    @cached_property
    def surface_distances(self) -> SurfaceDistances:
        """How far the surfaces of two masks that are not empty are from each other.

        The surface of a mask are its voxels that lack a face neighbour; the array's edge counts as background.
        Centres of voxels are compared in a k-d tree, which is exact and, unlike a distance transform, does not pay for
        the volume between two far lesions.
        """
        masks = self.prediction, self.reference
        first, second = (
            np.argwhere(mask & ~ndimage.binary_erosion(mask)) * np.asarray(self.spacing, dtype=np.float64)
            for mask in masks
        )
        return SurfaceDistances(_locked(KDTree(second).query(first)[0]), _locked(KDTree(first).query(second)[0]))


def _parts(mask: BoolArray) -> Components:
    parts = Components.of(mask, 26)
    _locked(parts.labels)
    _locked(parts.sizes)
    return parts


def _locked(array: A) -> A:
    """The array itself, which nobody can write to any more: all metrics share it."""
    array.flags.writeable = False
    return array
