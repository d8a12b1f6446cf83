"""Block means of a volume, for work that needs no millimetre, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cgckit.arrays import BoolArray, FloatArray, Shape, Spacing


@dataclass(frozen=True, eq=False)
class Blocks:
    """A brain cut into blocks of about `edge` mm; a block is brain if half of it is.

    Attributes:
        fine: [H, W, L] bool, the brain.
        size: voxels of a block along each axis.
        brain: [h, w, l] bool, the blocks that are brain; `h = ceil(H / size)`.
        spacing: edges of a block in mm.
    """

    fine: BoolArray
    size: Shape
    brain: BoolArray
    spacing: Spacing
    _share: FloatArray

    @classmethod
    def cut(cls, brain: BoolArray, spacing: Spacing, edge: float) -> Blocks:
        """Cut the brain [H, W, L] of voxels of `spacing` mm."""
        i, j, k = (max(1, round(edge / length)) for length in spacing)
        share = _block_mean(brain.astype(np.float32), (i, j, k))
        edges = (spacing[0] * i, spacing[1] * j, spacing[2] * k)
        return cls(brain, (i, j, k), share >= 0.5, edges, share)

    def mean(self, image: FloatArray) -> FloatArray:
        """Mean over each block's voxels of the brain, [h, w, l]; 0 in blocks that are not brain."""
        total = _block_mean(np.where(self.fine, image, np.float32(0)), self.size)
        result: FloatArray = np.divide(total, self._share, out=np.zeros_like(total), where=self.brain)
        return result

    def sample(self, volume: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """One voxel of each block, near its centre, [h, w, l]; for volumes that have no mean, as labels."""
        result = volume
        for axis, size in enumerate(self.size):
            starts = np.arange(0, volume.shape[axis], size)
            result = result.take(np.minimum(starts + size // 2, volume.shape[axis] - 1), axis)
        return result

    def enlarge(self, values: FloatArray) -> FloatArray:
        """Interpolate one value a block linearly between the blocks' centres, [H, W, L]; 0 outside the brain."""
        scale = 1 / np.array(self.size)
        large: FloatArray = ndimage.affine_transform(
            values, scale, scale / 2 - 0.5, self.fine.shape, order=1, mode="nearest", output=np.float32
        )
        large[~self.fine] = 0
        return large


def _block_mean(image: FloatArray, size: Shape) -> FloatArray:
    """Sum over blocks, divided by their full size; what lies beyond the edge counts as 0."""
    for axis, length in enumerate(size):
        image = np.add.reduceat(image, np.arange(0, image.shape[axis], length), axis=axis)
    return np.asarray(image / np.float32(np.prod(size)), np.float32)
