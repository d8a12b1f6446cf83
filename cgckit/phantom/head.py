"""The head around a simulated brain in Hounsfield units: skull, scalp, orbits, sinuses and the upper neck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cgckit.arrays import BoolArray, FloatArray
from cgckit.images.grid import Grid
from cgckit.phantom.anatomy import Anatomy
from cgckit.phantom.fields import random_field

Scalar = TypeVar("Scalar", np.float32, np.bool_)

AIR = -1000.0
_MUSCLE, _FAT, _SKIN = 58.0, -95.0, 35.0

# Voxels added around the brain's grid: left and right, front and back, bottom and top. The bottom is cut as on a scan
# of the head, through the foramen magnum.
_PAD = ((18, 18), (20, 24), (8, 16))
# Sulci and fissures narrower than twice this lie below one smooth inner table.
_CLOSING_MM = 12.0
_COARSE = 2


@dataclass(frozen=True)
class HeadPlan:
    """One subject's skull and scalp.

    Attributes:
        gap: fluid between brain and skull, in mm.
        skull: thickness of the vault, in mm.
        scalp: thickness of the scalp, in mm.
        table: density of the skull's compact inner and outer tables, in Hounsfield units.
        diploe: density of the marrow between them, in Hounsfield units.
    """

    gap: float
    skull: float
    scalp: float
    table: float
    diploe: float


@dataclass(frozen=True, eq=False)
class Head:
    """A head with an empty skull.

    Attributes:
        outside: [H, W, L] float32, what is not inside the skull, in Hounsfield units.
        room: [H, W, L] float32, distance below the skull's inner table in mm, negative outside.
        grid: 1 mm, of the same axes as the brain's, with space around it.
        offset: the brain's first voxel in it.
    """

    outside: FloatArray
    room: FloatArray
    grid: Grid
    offset: tuple[int, int, int]

    def embed(self, array: npt.NDArray[Scalar], value: float) -> npt.NDArray[Scalar]:
        """Bring a map of the brain to the head's grid, with `value` beyond it."""
        result: npt.NDArray[Scalar] = np.full(self.grid.shape, value, dtype=array.dtype)
        result[tuple(slice(o, o + n) for o, n in zip(self.offset, array.shape, strict=True))] = array
        return result

    def coordinates(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Coordinates x, y and z in mm, each of a shape that broadcasts to the grid's."""
        x, y, z = (
            (self.grid.affine[axis, 3] + np.arange(length, dtype=np.float32)).reshape(
                [-1 if a == axis else 1 for a in range(3)]
            )
            for axis, length in enumerate(self.grid.shape)
        )
        return x, y, z


def plan_head(rng: np.random.Generator) -> HeadPlan:
    """Draw one subject's skull and scalp."""
    gap, skull, scalp, table, diploe = (
        float(rng.uniform(low, high)) for low, high in ((0.8, 3.0), (5.0, 8.0), (4.0, 8.0), (950, 1500), (350, 750))
    )
    return HeadPlan(gap, skull, scalp, table, diploe)


def simulate_head(rng: np.random.Generator, anatomy: Anatomy, plan: HeadPlan) -> Head:
    """Grow skull and scalp around a brain; the skull follows the smooth hull of the brain."""
    low = tuple(pad[0] for pad in _PAD)
    shape = tuple(size + sum(pad) for size, pad in zip(anatomy.shape, _PAD, strict=True))
    affine = anatomy.grid.affine.copy()
    affine[:3, 3] -= low
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    frame = Head(np.empty(0, np.float32), np.empty(0, np.float32), grid, (low[0], low[1], low[2]))
    x, y, z = frame.coordinates()

    depth = plan.gap * np.clip(1 + 0.3 * random_field(rng, shape, 25), 0.3, 2) - _hull_distance(
        frame.embed(anatomy.brain, False)
    )
    above = -depth  # mm above the inner table
    temple = _ball(x, y, z, (62, -5, -8), (22, 35, 28))
    thickness = plan.skull * (1 + 0.15 * random_field(rng, shape, 25)) * (1 - 0.5 * temple)
    over = above - thickness  # mm above the outer table
    foramen = (np.square(x) + np.square(y + 42) < 15**2) & (z < -50)

    scalp = plan.scalp * (1 + 0.15 * random_field(rng, shape, 30)) + 9 * temple
    soft = _soft_tissue(rng, over, scalp, temple)
    outside = AIR + (soft - AIR) * _step(scalp - over)
    face = np.maximum(_ellipsoid(x, y, z, (0, 42, -75), (62, 58, 62)), _ellipsoid(x, y, z, (0, -35, -95), (62, 62, 60)))
    # Below the vault the outline is that of face and neck: muscle, fat and thin bones between them.
    mixed = np.where(random_field(rng, shape, 6) > 0.3, _FAT, _MUSCLE)
    mixed = np.where(random_field(rng, shape, 5) > 1.1, 600, mixed)
    outside = np.where((over > 0) & (face > 0) & (outside < soft + 1) & (over > scalp - 3), mixed, outside)

    outside = _add_cavities(rng, outside, above, x, y, z)
    bone = _bone(rng, above / np.maximum(thickness, 1), plan)
    petrous = (_ball(x, y, z, (38, -32, -42), (15, 7, 8)) > 0.5) & (frame.embed(anatomy.depth, -9.0) < 1.5)
    weight = np.maximum(_step(above) * _step(-over), petrous) * ~foramen
    mastoid = (_ball(x, y, z, (50, -36, -44), (9, 11, 11)) > 0.5) & (above > 1) & (random_field(rng, shape, 2) > 0)
    bone = np.where(mastoid, -500, bone)
    bone = np.where(petrous & ~mastoid, 1.2 * plan.table, bone)
    outside = outside + (bone - outside) * weight
    depth = np.where(petrous, np.minimum(depth, -0.5), depth)
    return Head(outside.astype(np.float32), depth.astype(np.float32), grid, frame.offset)


def _hull_distance(brain: BoolArray) -> FloatArray:
    """Distance in mm to the closed brain, positive outside; found on a coarse grid, for the hull is smooth."""
    coarse = brain[::_COARSE, ::_COARSE, ::_COARSE]
    reach = _CLOSING_MM / _COARSE
    padded = np.pad(coarse, int(reach) + 1, mode="edge")
    grown = ndimage.distance_transform_edt(~padded) <= reach
    closed = ndimage.distance_transform_edt(grown) > reach
    inner = tuple(slice(int(reach) + 1, -int(reach) - 1) for _ in range(3))
    closed = closed[inner] | coarse
    distance = ndimage.distance_transform_edt(~closed) - ndimage.distance_transform_edt(closed)
    distance = ndimage.gaussian_filter((_COARSE * distance).astype(np.float32), 1.5)
    fine: FloatArray = ndimage.affine_transform(
        distance, [1 / _COARSE] * 3, output_shape=brain.shape, order=1, mode="nearest", output=np.float32
    )
    return fine


def _bone(rng: np.random.Generator, share: FloatArray, plan: HeadPlan) -> FloatArray:
    """Compact bone at both surfaces (`share` 0 and 1 of the thickness), marrow between them."""
    compact = 1 / (1 + np.exp(-(np.abs(2 * share - 1) - 0.5) / 0.12))
    marrow = plan.diploe * (1 + 0.3 * random_field(rng, share.shape, 3))
    return np.asarray(marrow + (plan.table - marrow) * compact, dtype=np.float32)


def _soft_tissue(rng: np.random.Generator, over: FloatArray, scalp: FloatArray, temple: FloatArray) -> FloatArray:
    """Scalp from the outer table outwards: fat, then skin; muscle at the temples."""
    height = np.clip(over / np.maximum(scalp, 1), 0, 1)
    fat = _FAT + 20 * random_field(rng, over.shape, 4)
    deep = np.where(temple > 0.35, _MUSCLE, np.where(height < 0.15, 30, fat))
    return np.asarray(np.where(height > 0.7, _SKIN, deep), dtype=np.float32)


def _add_cavities(
    rng: np.random.Generator, outside: FloatArray, above: FloatArray, x: FloatArray, y: FloatArray, z: FloatArray
) -> FloatArray:
    """Orbits with their globes, and the air of nose and sinuses, below a thin base of the skull."""
    free = above > 2.5
    for centre, widths, value in (
        ((31, 52, -42), (17, 28, 17), _FAT),
        ((34, 68, -42), (12, 12, 12), 12.0),
        ((31, 42, -42), (3, 20, 3), 35.0),
        ((0, 45, -52), (12, 30, 14), -900.0),
        ((0, 12, -46), (13, 11, 8), -950.0),
        ((10, 78, -22), (9, 5, 9), -950.0),
    ):
        within = _ellipsoid(np.abs(x), y, z, centre, widths) > 0
        outside = np.where(within & free, value, outside)
    canal = np.sqrt(np.square(x) + np.square(y + 42))
    neck = (z < -58) & (above > 0)
    vertebra = np.where(canal < 7, 28.0, np.where(canal < 11, 8.0, 500 + 200 * random_field(rng, outside.shape, 4)))
    return np.asarray(np.where(neck & (canal < 19), vertebra, outside), dtype=np.float32)


def _ball(
    x: FloatArray, y: FloatArray, z: FloatArray, centre: tuple[float, ...], widths: tuple[float, ...]
) -> FloatArray:
    """A Gaussian bump on both sides of the head, in [0, 1]."""
    offsets = zip((np.abs(x), y, z), centre, widths, strict=True)
    return np.asarray(np.exp(-0.5 * sum(np.square((o - c) / w) for o, c, w in offsets)), dtype=np.float32)


def _ellipsoid(
    x: FloatArray, y: FloatArray, z: FloatArray, centre: tuple[float, ...], radii: tuple[float, ...]
) -> FloatArray:
    """Positive inside an ellipsoid, 1 at its centre."""
    return np.asarray(
        1 - sum(np.square((o - c) / r) for o, c, r in zip((x, y, z), centre, radii, strict=True)), dtype=np.float32
    )


def _step(distance: FloatArray) -> FloatArray:
    """Share of a voxel of 1 mm on the positive side of a surface that is `distance` mm from its centre."""
    return np.asarray(np.clip(distance + 0.5, 0, 1), dtype=np.float32)
