"""Morphology of masks in mm, for finding brains."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray, Spacing
from cgckit.images.components import Components
from cgckit.images.grid import Grid


def largest_component(mask: BoolArray) -> BoolArray | None:
    """Return the component (6 neighbours) with most voxels, or None if the mask is empty."""
    return Components.of(mask, 6).largest()


def solid(mask: BoolArray) -> BoolArray:
    """Return the largest component with its holes filled."""
    component = largest_component(mask)
    if component is None:
        return mask
    box = ndimage.find_objects(component.astype(np.uint8))[0]
    padded = np.pad(component[box], 1)
    outside = Components.of(~padded, 6).labels
    component[box] = (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return component


def erode(mask: BoolArray, radius: float, spacing: Spacing) -> BoolArray:
    """Erode by a ball of `radius` mm; beyond the image counts as mask, so a cut brain stays."""
    result: BoolArray = ndimage.distance_transform_edt(mask, sampling=spacing) > radius
    return result


def dilate(mask: BoolArray, radius: float, spacing: Spacing) -> BoolArray:
    """Dilate by a ball of `radius` mm."""
    result: BoolArray = ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius
    return result


def millilitres(mask: BoolArray, grid: Grid) -> float:
    """Volume of a mask in ml."""
    return float(np.count_nonzero(mask) * abs(np.linalg.det(grid.affine[:3, :3])) / 1000)
