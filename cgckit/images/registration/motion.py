"""How far a rigid transform moves a brain."""

from __future__ import annotations

import numpy as np

from cgckit.arrays import DoubleArray
from cgckit.images.grid import Grid

# In the middle of the field of view, on a box of the size of a brain.
_BRAIN_MM = 140.0


def distance(matrix: DoubleArray, grid: Grid) -> float:
    """Mean distance by which a transform [4, 4] of the world moves points about the centre of a grid [mm]."""
    centre = grid.affine @ np.array([*((np.array(grid.shape) - 1) / 2), 1.0])
    steps = np.linspace(-_BRAIN_MM / 2, _BRAIN_MM / 2, 5)
    points = centre[:3] + np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    moved = points @ matrix[:3, :3].T + matrix[:3, 3]
    return float(np.linalg.norm(moved - points, axis=1).mean())


def angle(matrix: DoubleArray) -> float:
    """Angle of the rotation in a rigid transform [4, 4], in degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))
