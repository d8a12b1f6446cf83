"""Sampling grids in world space, and moving arrays between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from nibabel.orientations import inv_ornt_aff, io_orientation
from scipy import ndimage, sparse

from cgckit.arrays import AnyArray, DoubleArray, Shape, Spacing
from cgckit.errors import UsageError

# Positions this close to a voxel's centre, in voxels, are on it: affines are stored in single precision.
_SNAP = 1e-3
# A grid whose spacing is this close to the wanted one, as a fraction, is kept: interpolation would cost more.
_SAME_SPACING = 0.01


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid: `shape` (H, W, L) and `affine` [4, 4], voxel indices to world coordinates (RAS+, mm)."""

    shape: Shape
    affine: DoubleArray

    def __post_init__(self) -> None:
        own = np.array(self.affine, dtype=np.float64)
        own.flags.writeable = False  # it is shared by all that lies on the grid, and handed to plug-ins
        object.__setattr__(self, "affine", own)

    @property
    def spacing(self) -> Spacing:
        """Voxel edge lengths in mm."""
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(edges[0]), float(edges[1]), float(edges[2]))

    def matches(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids sample the same points: same shape, affines equal within `tolerance` mm."""
        return self.shape == other.shape and bool(np.allclose(self.affine, other.affine, atol=tolerance))

    def crop(self, box: Sequence[slice]) -> Grid:
        """Return the part of the grid inside `box`: three slices with a start and a stop."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.array([axis.start for axis in box], dtype=np.float64)
        return Grid(_triple([axis.stop - axis.start for axis in box]), affine)

    def canonical(self) -> Grid:
        """Return the same points with axes permuted and flipped so that they run closest to R, A, S."""
        orientation = io_orientation(self.affine)
        shape = np.empty(3, dtype=int)
        shape[orientation[:, 0].astype(int)] = self.shape
        return Grid(_triple(shape), self.affine @ inv_ornt_aff(orientation, self.shape))

    def isotropic(self, spacing: float) -> Grid:
        """Return a grid of `spacing` mm along the same axes, centred on this one and covering all of it.

        An axis whose spacing is within 1 % of `spacing` is kept: nothing is interpolated along it then.
        """
        shape, ratio, start = list(self.shape), np.ones(3), np.zeros(3)
        for axis, (count, edge) in enumerate(zip(self.shape, self.spacing, strict=True)):
            if abs(edge / spacing - 1) <= _SAME_SPACING:
                continue
            ratio[axis] = spacing / edge
            shape[axis] = max(1, int(np.ceil(count / ratio[axis] - _SNAP)))
            start[axis] = (count - 1) / 2 - ratio[axis] * (shape[axis] - 1) / 2
        step = np.diag([*ratio, 1.0])
        step[:3, 3] = start
        return Grid(_triple(shape), self.affine @ step)


def resample(array: npt.ArrayLike, source: Grid, target: Grid, *, order: int = 1, cval: float = 0.0) -> AnyArray:
    """Sample an array that lies on `source` at the voxels of `target`.

    With `order=1` each target voxel is the mean of the source, taken as constant in each voxel, over a box of
    `max(1, r)` source voxels, r being the ratio of the spacings: linear interpolation for r <= 1, area
    average (so anti-aliased) for r > 1. The box is cut at the edge of the field of view. Grids whose axes are
    not parallel are sampled linearly after a Gaussian filter of the variance of that box.

    Args:
        array: [H, W, L] on `source`.
        source: the array's grid.
        target: the grid to sample at.
        order: 1 as above, or 0 for the nearest voxel, which keeps the dtype.
        cval: value outside the field of view of `source`.

    Returns:
        npt.NDArray[np.floating] of `target.shape`; float32 for `order=1`, the input's dtype for `order=0`.

    Raises:
        UsageError: for another `order`, or an array that is not on `source`.
    """
    values = np.asarray(array)
    if order not in (0, 1):
        raise UsageError(f"resample: order must be 0 or 1, not {order}")
    if values.shape != source.shape:
        raise UsageError(f"resample: the array has shape {values.shape}, its grid {source.shape}")
    if order == 1:
        values = values.astype(np.float32, copy=False)
    mapping = np.linalg.solve(source.affine, target.affine).astype(np.float64)  # target voxel -> source voxel
    axes = np.abs(mapping[:3, :3]).argmax(axis=1)  # the target axis that runs along each source axis
    drift = np.abs(mapping[:3, :3]) * target.shape
    drift[np.arange(3), axes] = 0
    if len(set(axes)) < 3 or drift.max() > 10 * _SNAP:
        return _resample_oblique(values, mapping, target.shape, order, cval)

    inside = []
    for axis in range(3):
        scale = mapping[axis, axes[axis]]
        positions = mapping[axis, 3] + scale * np.arange(target.shape[axes[axis]])
        inside.append((positions >= -0.5 - _SNAP) & (positions <= source.shape[axis] - 0.5 + _SNAP))
        values = _resample_axis(values, axis, positions, max(1.0, abs(scale)), order)
    if np.may_share_memory(values, np.asarray(array)):
        values = values.copy()  # crops and flips are views of the input, which is the caller's
    if not all(axis.all() for axis in inside):
        values[~(inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :])] = cval
    return np.ascontiguousarray(values.transpose(np.argsort(axes)))


def _triple(values: Sequence[int] | npt.NDArray[np.int_]) -> Shape:
    height, width, length = (int(value) for value in values)
    return (height, width, length)


def _resample_axis(values: AnyArray, axis: int, positions: DoubleArray, width: float, order: int) -> AnyArray:
    """Sample one axis at `positions` (in voxels), averaging over boxes of `width` voxels if `order` is 1."""
    count = values.shape[axis]
    nearest = np.clip(np.floor(positions + 0.5).astype(int), 0, count - 1)
    on_voxels = width - 1 < _SNAP and np.abs(np.clip(positions, 0, count - 1) - nearest).max() < _SNAP
    if order == 0 or on_voxels:
        step = int(nearest[1] - nearest[0]) if len(nearest) > 1 else 1
        if abs(step) == 1 and (np.diff(nearest) == step).all():  # a view: crops and flips cost nothing
            stop = int(nearest[-1]) + step
            index = slice(int(nearest[0]), stop if stop >= 0 else None, step)
            return np.moveaxis(np.moveaxis(values, axis, 0)[index], 0, axis)
        taken: AnyArray = values.take(nearest, axis=axis)
        return taken
    lower, upper = positions - width / 2, positions + width / 2
    first = np.floor(lower + 0.5).astype(int)
    cells = first[:, None] + np.arange(int(np.ceil(width)) + 1)  # the source voxels that a box can touch
    overlap = np.minimum(upper[:, None], cells + 0.5) - np.maximum(lower[:, None], cells - 0.5)
    overlap[(cells < 0) | (cells >= count) | (overlap < _SNAP)] = 0
    total = overlap.sum(axis=1, keepdims=True)
    weights = np.divide(overlap, total, out=np.zeros_like(overlap), where=total > 0).astype(np.float32)
    rows = np.broadcast_to(np.arange(len(positions))[:, None], cells.shape)
    matrix = sparse.csr_array(
        (weights.ravel(), (rows.ravel(), np.clip(cells, 0, count - 1).ravel())), shape=(len(positions), count)
    )
    moved = np.moveaxis(values, axis, 0)
    sampled: AnyArray = matrix @ np.ascontiguousarray(moved).reshape(count, -1)
    return np.moveaxis(sampled.reshape(len(positions), *moved.shape[1:]), 0, axis)


def _resample_oblique(
    values: AnyArray,
    mapping: DoubleArray,
    shape: Shape,
    order: int,
    cval: float,
) -> AnyArray:
    """Sample through a `mapping` [4, 4] (target to source voxels) that does not keep the axes apart."""
    if order == 1:
        ratio = np.linalg.norm(mapping[:3, :3], axis=1)
        sigma = np.sqrt(np.maximum(ratio**2 - 1, 0) / 12)
        values = ndimage.gaussian_filter(values, sigma, mode="nearest")
    result: AnyArray = ndimage.affine_transform(
        values, mapping[:3, :3], mapping[:3, 3], shape, order=order, mode="grid-constant", cval=cval
    )
    return result
