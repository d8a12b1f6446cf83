"""How an image is looked at: axial slices, as seen from above, cut to the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from cgckit.arrays import BoolArray
from cgckit.images.brain.skull import is_head_in_hounsfield_units
from cgckit.images.volume import Volume

COLOURS = ("#ffb000", "#26c6ff", "#ff4f9a", "#7ee081", "#c59bff")
"""Of masks: told apart by people who do not see red and green alike, and bright enough on grey."""

_MARGIN_VOXELS = 4
BRAIN_WINDOW = (0.0, 80.0)
"""What radiologists look at brain and bleeding in [HU]; bone would else take the whole grey scale."""


class AxialView:
    """An image in axial slices: front at the top, the subject's left at the left, whatever the file's orientation.

    Args:
        image: what is looked at.

    Attributes:
        depth: number of slices.
    """

    def __init__(self, image: Volume) -> None:
        self._volume = image
        self._array = self._canonical(image.array)
        self.depth = self._array.shape[2]
        spacing = image.grid.canonical().spacing
        self._aspect = spacing[1] / spacing[0]
        self._window = BRAIN_WINDOW if is_head_in_hounsfield_units(image) else None
        # One frame for the whole head, whatever slices are shown.
        head = (self._array != self._array.flat[0]).any(axis=2)
        self._rows, self._columns = _extent(head, 0), _extent(head, 1)

    def slice(self, level: int) -> npt.NDArray[np.float32]:
        """The image in slice `level`, [right, front], cut to the head."""
        cut: npt.NDArray[np.float32] = self._array[self._rows, self._columns, level]
        return cut

    @property
    def height_to_width(self) -> float:
        """Of a slice, in mm."""
        width, height = self.slice(0).shape
        return float(self._aspect * height / width)

    def areas(self, mask: BoolArray) -> npt.NDArray[np.int_]:
        """Voxels of a mask in each slice.

        Raises:
            ValueError: the mask is not on the image's grid.
        """
        areas: npt.NDArray[np.int_] = self._canonical(mask).sum(axis=(0, 1))
        return areas

    def slice_of(self, mask: BoolArray, level: int) -> BoolArray:
        """A mask [H, W, L] on the image's grid as `slice` shows the image."""
        cut: BoolArray = self._canonical(mask)[self._rows, self._columns, level]
        return cut

    def show(self, axis: Axes, level: int) -> None:
        """Draw a slice in grey on black: CT of a head from 0 to 80 HU, else all but the extremes of the slice."""
        image = self.slice(level)
        low, high = self._window or (np.percentile(image[image != 0], (1, 99.7)) if image.any() else (0.0, 1.0))
        axis.set_axis_off()
        axis.set_facecolor("black")
        axis.imshow(image.T, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=self._aspect)

    def outline(self, axis: Axes, mask: BoolArray, level: int, colour: str, width: float = 0.9) -> None:
        """Draw the contour of a mask in a slice."""
        cut = self.slice_of(mask, level)
        if cut.any():
            axis.contour(cut.T.astype(float), levels=[0.5], colors=[colour], linewidths=width)

    def veil(self, axis: Axes, mask: BoolArray, level: int, colour: str, opacity: float) -> None:
        """Lay a colour over a mask in a slice; the image shows through."""
        cut = self.slice_of(mask, level)
        cover = np.zeros((*cut.T.shape, 4))
        cover[cut.T] = (*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), opacity)
        axis.imshow(cover, origin="lower", aspect=self._aspect, interpolation="nearest")

    def mark_sides(self, axis: Axes) -> None:
        """Write L and R at the sides of a panel."""
        for side, text in ((0.02, "L"), (0.98, "R")):
            axis.text(side, 0.5, text, color="0.75", fontsize=7, ha="center", va="center", transform=axis.transAxes)

    def _canonical(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Permute and flip to axes closest to right, front, top."""
        if array.shape != self._volume.grid.shape:
            raise ValueError(f"an array of shape {array.shape} is not on the grid of {self._volume.path}")
        turned: npt.NDArray[Any] = nib.apply_orientation(array, nib.io_orientation(self._volume.grid.affine))
        return turned


def spread_levels(areas: Sequence[int] | npt.NDArray[np.int_], count: int) -> list[int]:
    """Choose `count` slices that share the voxels of a mask evenly, or the depth if it has none; ascending, distinct.

    Args:
        areas: voxels in each slice.
        count: how many to choose; fewer are if the mask lies in fewer.
    """
    weight = np.asarray(areas, dtype=np.float64)
    if not weight.any():
        weight = np.ones_like(weight)
    shares = (np.arange(count) + 0.5) / count
    chosen = np.searchsorted(np.cumsum(weight) / weight.sum(), shares)
    return sorted({int(level) for level in chosen})


def _extent(head: BoolArray, axis: int) -> slice:
    there = np.flatnonzero(head.any(axis=1 - axis))
    first, last = (there[0], there[-1]) if there.size else (0, head.shape[axis] - 1)
    return slice(max(0, int(first) - _MARGIN_VOXELS), int(last) + _MARGIN_VOXELS + 1)
