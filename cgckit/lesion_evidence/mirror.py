"""The mid-sagittal plane, and how unlike its mirror image a brain is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize

from cgckit.arrays import BoolArray, DoubleArray, FloatArray, Spacing
from cgckit.images.grid import Grid

# What one voxel can cost, in MADs: a lesion without counterpart must not pull the plane, nor a piece of brain.
_MOST_UNLIKE, _NO_COUNTERPART = 2.2, 1.5
_CLIP = 5.0
_FIRST_TILT, _FIRST_SHIFT_MM = 0.12, 5.0
_PRECISION = 0.003


@dataclass(frozen=True, eq=False)
class Plane:
    """The points with `normal . x = offset`, x in mm from the grid's first corner along its axes.

    Attributes:
        normal: [3], of length 1.
        offset: in mm.
    """

    normal: DoubleArray
    offset: float

    @classmethod
    def find(cls, images: Sequence[FloatArray], brain: BoolArray, spacing: Spacing) -> Plane:
        """The mid-sagittal plane, shifted and tilted about two axes: the one with the most alike sides.

            min_(normal, offset)  [sum_x mean_i min(|e_i(x) - e_i(x')|, 2.2) + 1.5 |no x'|] / |x or x'|

        x' being the mirror image of x, over the voxels of the brain. The bound keeps a lesion from pulling the
        plane. Nelder and Mead's simplex, from the upright plane through the centre of gravity.

        Args:
            images: each [H, W, L], in MADs, left to right along the first axis; 4 mm are fine enough.
            brain: [H, W, L] bool.
            spacing: voxel edge lengths in mm.
        """
        if not brain.any():
            return cls(np.array([1.0, 0.0, 0.0]), 0.0)
        bounded = [np.clip(image, -_CLIP, _CLIP) for image in images]
        solid = brain.astype(np.float32)
        centre = (np.asarray(ndimage.center_of_mass(solid)) + 0.5) * spacing

        def plane(tilt_shift: DoubleArray) -> Plane:
            normal = np.array([1.0, tilt_shift[0], tilt_shift[1]])
            normal /= np.linalg.norm(normal)
            return cls(normal, float(normal @ centre + tilt_shift[2]))

        def cost(tilt_shift: DoubleArray) -> float:
            candidate = plane(tilt_shift)
            mirrored = candidate.reflect(solid, spacing) > 0.5
            both = brain & mirrored
            unlike = _NO_COUNTERPART * float((brain ^ mirrored).sum())
            for image in bounded:
                difference = np.abs(image - candidate.reflect(image, spacing))[both]
                unlike += float(np.minimum(difference, _MOST_UNLIKE).sum()) / len(bounded)
            return unlike / float((brain | mirrored).sum())

        simplex = np.array([[0, 0, 0], [_FIRST_TILT, 0, 0], [0, _FIRST_TILT, 0], [0, 0, _FIRST_SHIFT_MM]])
        options = {"initial_simplex": simplex, "xatol": _PRECISION, "fatol": 1e-4, "maxfev": 150}
        return plane(optimize.minimize(cost, np.zeros(3), method="Nelder-Mead", options=options).x)

    def on(self, source: Grid, target: Grid) -> Plane:
        """The same plane, found on `source`, for images on `target`, a grid along the same axes."""
        first = np.linalg.solve(source.affine, target.affine)[:3, 3]  # centre of the first voxel, in voxels
        corner = (first + 0.5) * source.spacing - 0.5 * np.asarray(target.spacing)
        return Plane(self.normal, self.offset - float(self.normal @ corner))

    def reflect(self, image: FloatArray, spacing: Spacing) -> FloatArray:
        """The mirror image of [H, W, L], linearly interpolated; what comes from beyond the edge is 0."""
        edges = np.asarray(spacing)
        matrix = np.eye(3) - 2 * np.outer(self.normal, self.normal)
        shift = matrix @ (0.5 * edges) + 2 * self.offset * self.normal - 0.5 * edges
        reflected: FloatArray = ndimage.affine_transform(
            image, matrix * edges[None, :] / edges[:, None], shift / edges, order=1, output=np.float32
        )
        return reflected
