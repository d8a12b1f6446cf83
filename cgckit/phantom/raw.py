"""MRI as it comes from the scanner: whole heads, each sequence on a grid of its own, the head moved in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cgckit.arrays import BoolArray, DoubleArray, FloatArray, ShortArray, Spacing
from cgckit.images.grid import Grid
from cgckit.phantom.anatomy import Anatomy
from cgckit.phantom.fields import random_field
from cgckit.phantom.head import Head
from cgckit.phantom.imaging import ImagingPlan, brain_signals
from cgckit.phantom.lesions import LesionPlan, Lesions

REFERENCE = "flair"
"""The sequence whose grid the references are on."""

_FARTHEST_MM, _WIDEST_DEGREES = 10.0, 10.0
# Axes of a sequence's array as axes of the patient's: FLAIR and T2 in axial slices, T1 in sagittal ones.
_AXIAL, _SAGITTAL = (0, 1, 2), (1, 2, 0)
_GRIDS: Mapping[str, tuple[Spacing, tuple[int, int, int]]] = {
    "flair": ((0.94, 0.94, 3.0), _AXIAL),
    "t1": ((1.0, 1.0, 1.0), _SAGITTAL),
    "t2": ((0.7, 0.7, 5.0), _AXIAL),
}
# What air, fat, fluid, skin, muscle, marrow, thin bone and compact bone of these Hounsfield units give, in units of
# healthy white matter's signal.
_HOUNSFIELD = (-1000, -95, 12, 35, 58, 400, 800, 1200)
_OUTSIDE = {
    "flair": (0.0, 1.1, 0.25, 0.7, 0.45, 0.6, 0.25, 0.05),
    "t1": (0.0, 1.25, 0.35, 0.8, 0.6, 0.75, 0.3, 0.05),
    "t2": (0.0, 1.1, 2.0, 0.8, 0.5, 0.7, 0.25, 0.05),
}
_T2_GREY, _T2_FLUID, _T2_LESION, _T2_GAIN = 1.3, 2.3, 1.9, 400.0


@dataclass(frozen=True)
class MovePlan:
    """How the head lay while one sequence was taken, against how it lay before.

    Attributes:
        shift: of its centre, in mm.
        turn: about its centre: a rotation vector, in degrees.
    """

    shift: tuple[float, float, float]
    turn: tuple[float, float, float]

    def matrix(self) -> DoubleArray:
        """[4, 4], world coordinates before to those after; the centre of the head is the origin."""
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_rotvec(self.turn, degrees=True).as_matrix()
        matrix[:3, 3] = self.shift
        return matrix

    def back(self) -> DoubleArray:
        """The inverse of `matrix`."""
        return np.asarray(np.linalg.inv(self.matrix()), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class RawScan:
    """What the scanner gives.

    Attributes:
        images: [H, W, L] int16 by sequence.
        grids: where the voxels of each lie.
        lesion: [H, W, L] bool on the grid of `REFERENCE`.
        brain: [H, W, L] bool, likewise.
    """

    images: Mapping[str, ShortArray]
    grids: Mapping[str, Grid]
    lesion: BoolArray
    brain: BoolArray


def plan_moves(rng: np.random.Generator) -> dict[str, MovePlan]:
    """Draw how the head lay: at first a little askew, then for each other sequence 2 to 10 mm and degrees elsewhere."""

    def vector(low: float, high: float) -> tuple[float, float, float]:
        direction = rng.standard_normal(3)
        x, y, z = direction / np.linalg.norm(direction) * rng.uniform(low, high)
        return (float(x), float(y), float(z))

    moves = {REFERENCE: MovePlan(vector(0, 5), vector(0, 5))}
    for name in _GRIDS:
        if name != REFERENCE:
            moves[name] = MovePlan(vector(2, _FARTHEST_MM), vector(2, _WIDEST_DEGREES))
    return moves


def scan_head(
    rng: np.random.Generator,
    anatomy: Anatomy,
    head: Head,
    lesions: Lesions,
    disease: LesionPlan,
    imaging: ImagingPlan,
    moves: Mapping[str, MovePlan],
) -> RawScan:
    """Simulate FLAIR, T1 and T2 of a whole head; moves but the first are from where the head lay for `REFERENCE`."""
    signals = _signals(rng, anatomy, head, lesions, disease, imaging)
    gains = {"flair": imaging.gain[0], "t1": imaging.gain[1], "t2": _T2_GAIN}
    images, grids = {}, {}
    for name, signal in signals.items():
        shading = np.exp(imaging.bias * random_field(rng, head.grid.shape, 60))
        pose = moves[REFERENCE].matrix()
        if name != REFERENCE:
            pose = moves[name].matrix() @ pose
        grids[name] = _field_of_view(head.grid, *_GRIDS[name])
        sampled = _sample(signal * shading, head.grid, grids[name], pose)
        real, imaginary = (imaging.noise * rng.standard_normal(sampled.shape, dtype=np.float32) for _ in range(2))
        magnitude = gains[name] * np.hypot(sampled + real, imaginary)
        images[name] = np.clip(np.rint(magnitude), 0, 32767).astype(np.int16)
    pose = moves[REFERENCE].matrix()
    truths = [
        _sample(head.embed(mask, False).astype(np.float32), head.grid, grids[REFERENCE], pose) > 0.5
        for mask in (lesions.mask, anatomy.brain)
    ]
    return RawScan(images, grids, truths[0], truths[1])


def _signals(
    rng: np.random.Generator,
    anatomy: Anatomy,
    head: Head,
    lesions: Lesions,
    disease: LesionPlan,
    imaging: ImagingPlan,
) -> dict[str, FloatArray]:
    """The signal of the whole head on each sequence, on the head's grid."""
    flair, t1 = brain_signals(rng, anatomy, lesions, disease, imaging)
    t2 = _T2_GREY * anatomy.gm + anatomy.wm + _T2_FLUID * anatomy.csf
    t2 += 0.03 * random_field(rng, anatomy.shape, 8)
    t2 += lesions.extent * (_T2_LESION - t2)
    fluid = {"flair": imaging.flair[1], "t1": imaging.t1[1], "t2": _T2_FLUID}
    inside = np.clip(head.room + 0.5, 0, 1)
    result = {}
    for name, brain in {"flair": flair, "t1": t1, "t2": t2}.items():
        around = np.interp(head.outside, _HOUNSFIELD, _OUTSIDE[name]).astype(np.float32)
        result[name] = around + inside * (head.embed(np.asarray(brain, np.float32), fluid[name]) - around)
    return result


def _field_of_view(head: Grid, spacing: Spacing, axes: tuple[int, int, int]) -> Grid:
    """A scanner's grid around the origin, large enough for the head."""
    extent = np.array(head.shape) * np.array(head.spacing)
    shape = [int(np.ceil(extent[axis] / edge)) + 2 for axis, edge in zip(axes, spacing, strict=True)]
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for column, (axis, edge) in enumerate(zip(axes, spacing, strict=True)):
        affine[axis, column] = edge
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid((shape[0], shape[1], shape[2]), affine)


def _sample(signal: FloatArray, head: Grid, grid: Grid, pose: DoubleArray) -> FloatArray:
    """What a scanner with this grid sees of a head in this pose: the mean over the thickness of each slice."""
    centred = head.affine.copy()
    centred[:3, 3] = -head.affine[:3, :3] @ ((np.array(head.shape) - 1) / 2)
    mapping = np.linalg.inv(pose @ centred) @ grid.affine  # the grid's voxels to the head's
    parts = max(1, round(grid.spacing[2]))
    total = np.zeros(grid.shape, np.float32)
    for offset in (np.arange(parts) + 0.5) / parts - 0.5:
        start = mapping[:3, 3] + offset * mapping[:3, 2]
        total += ndimage.affine_transform(signal, mapping[:3, :3], start, grid.shape, order=1, output=np.float32)
    return np.asarray(total / parts, dtype=np.float32)
