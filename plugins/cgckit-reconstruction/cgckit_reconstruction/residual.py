"""From the residual of a reconstruction to a map of anomalies: the steps of Baur et al. (2021), each optional."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Residual = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def clean(
    residual: Residual,
    brain: Mask,
    spacing: tuple[float, ...],
    *,
    positive: bool,
    erosion: float,
    median: int,
) -> Residual:
    """A residual [H, W, L] without what no lesion is.

    Args:
        residual: image less what was expected.
        brain: its brain.
        spacing: edges of a voxel in mm.
        positive: only what is brighter than expected counts; otherwise what is darker does, too.
        erosion: mm at the brain's surface, where a misplaced edge is the largest residual of all, that are set to 0.
        median: edge of the median filter's cube in voxels; 1 leaves it out.
    """
    found = np.maximum(residual, 0) if positive else np.abs(residual)
    inside = brain
    if erosion > 0:
        inside = ndimage.distance_transform_edt(np.pad(brain, 1), spacing)[1:-1, 1:-1, 1:-1] > erosion
    found = np.where(inside, found, 0)
    if median > 1:
        found = ndimage.median_filter(found, median)
    return np.where(inside, found, 0).astype(np.float32)


def without_specks(found: Residual, threshold: float, least: int) -> Residual:
    """The residual, less than `threshold` in connected parts above it that have fewer than `least` voxels."""
    parts, count = ndimage.label(found >= threshold)
    if not count or least <= 1:
        return found
    sizes = np.bincount(parts.ravel())
    sizes[0] = least
    return np.where(sizes[parts] < least, np.float32(0), found)
