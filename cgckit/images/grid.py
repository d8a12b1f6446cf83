"""Sampling grids in world space, and moving arrays between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid: `shape` (H, W, L) and `affine` [4, 4], voxel indices to world coordinates in mm (RAS+)."""

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edge lengths in mm."""
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(edges[0]), float(edges[1]), float(edges[2]))

    def matches(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids sample the same points: same shape, affines equal within `tolerance` mm."""
        return self.shape == other.shape and bool(np.allclose(self.affine, other.affine, atol=tolerance))
