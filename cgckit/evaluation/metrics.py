"""How well a mask agrees with a reference: overlap, surface distances and lesions found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from cgckit.arrays import BoolArray, DoubleArray

_FULL_NEIGHBOURHOOD = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Scores:
    """Agreement of a prediction P with a reference R.

    If one of the two masks is empty and the other not, every overlap score is 0 and every distance infinite;
    if both are empty, they agree: 1 and 0.

    Attributes:
        dice: 2 |P and R| / (|P| + |R|).
        sensitivity: |P and R| / |R|, also called recall.
        precision: |P and R| / |P|.
        assd: average symmetric surface distance in mm, pooled: the mean over the voxels of both surfaces
        together of
            the distance to the other surface (the definition of MONAI and MedPy; others average two directed
            means).
        hd95: the larger of the two directed 95th percentiles of those distances, in mm.
        lesion_f1: F1 score over lesions, which are the components under the 26-neighbourhood. A lesion of R
        is found if
            it shares a voxel with P, and a component of P is right if it shares one with R:
            2 s p / (s + p) with s the share of R's lesions found and p the share of P's components that are
            right.
        volume_ml: volume of P.
        reference_ml: volume of R.
    """

    dice: float
    sensitivity: float
    precision: float
    assd: float
    hd95: float
    lesion_f1: float
    volume_ml: float
    reference_ml: float


def score(prediction: npt.ArrayLike, reference: npt.ArrayLike, spacing: Sequence[float]) -> Scores:
    """Compare two masks on one grid.

    Args:
        prediction: bool [H, W, L].
        reference: bool [H, W, L].
        spacing: voxel edge lengths in mm.

    Raises:
        ValueError: if the shapes differ or are not three-dimensional, or there are not three spacings.
    """
    predicted, expected = (np.asarray(mask, dtype=bool) for mask in (prediction, reference))
    if predicted.shape != expected.shape or predicted.ndim != 3 or len(spacing) != 3:
        raise ValueError(
            f"masks of shapes {predicted.shape} and {expected.shape} with {len(spacing)} spacings cannot be compared"
        )
    voxel_ml = float(np.prod(spacing)) / 1000
    sizes = int(predicted.sum()), int(expected.sum())
    volumes = {"volume_ml": sizes[0] * voxel_ml, "reference_ml": sizes[1] * voxel_ml}
    if not all(sizes):
        agreement, distance = (0.0, np.inf) if any(sizes) else (1.0, 0.0)
        return Scores(agreement, agreement, agreement, distance, distance, agreement, **volumes)

    box = ndimage.find_objects((predicted | expected).astype(np.uint8))[0]
    predicted, expected = predicted[box], expected[box]
    common = int((predicted & expected).sum())
    there, back = surface_distances(predicted, expected, spacing)
    return Scores(
        dice=2 * common / sum(sizes),
        sensitivity=common / sizes[1],
        precision=common / sizes[0],
        assd=float(np.concatenate([there, back]).mean()),
        hd95=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        lesion_f1=_lesion_f1(predicted, expected),
        **volumes,
    )


def surface_distances(first: BoolArray, second: BoolArray, spacing: Sequence[float]) -> tuple[DoubleArray, DoubleArray]:
    """Distances in mm from each surface voxel of `first` to the nearest of `second`, and the other way round.

    The surface of a mask are its voxels that lack a face neighbour; the array's edge counts as background.
    Centres of voxels are compared in a k-d tree, which is exact and, unlike a distance transform, does not
    pay for the volume between two far lesions.
    """
    points = [np.argwhere(_surface(mask)) * np.asarray(spacing, dtype=np.float64) for mask in (first, second)]
    there, _ = KDTree(points[1]).query(points[0])
    back, _ = KDTree(points[0]).query(points[1])
    return there, back


def _surface(mask: BoolArray) -> BoolArray:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _lesion_f1(predicted: BoolArray, expected: BoolArray) -> float:
    found = _share_touched(expected, predicted)
    right = _share_touched(predicted, expected)
    return 2 * found * right / (found + right) if found + right else 0.0


def _share_touched(lesions: BoolArray, other: BoolArray) -> float:
    """Share of the components of `lesions` that have a voxel in `other`."""
    labels, count = ndimage.label(lesions, structure=_FULL_NEIGHBOURHOOD)
    touched = np.unique(labels[other])
    return float(np.count_nonzero(touched)) / int(count)
