"""A brain of random size, pose, folding and atrophy, on a 2 mm grid, with the displacement that lesions cause."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cgckit.arrays import BoolArray, DoubleArray, FloatArray, Shape
from cgckit.lesion_evidence.mirror import Plane
from cgckit.phantom.anatomy import MARGIN, load_template
from cgckit.phantom.fields import random_field
from cgckit.pretraining.sampling import sample
from cgckit.starting import SPACING


@dataclass(frozen=True, eq=False)
class Body:
    """One brain on a 2 mm grid.

    Attributes:
        gm, wm, csf: [H, W, L] float32, fractions of tissue; they add up to one, outside the brain all is fluid.
        depth: [H, W, L] float32, distance below the brain's surface in mm, negative outside.
        gap: [H, W, L] float32, distance to the lateral ventricles in mm, 0 inside them.
        mni: [3, H, W, L] float32, the template's coordinates in mm of the point that lies at each voxel.
        plane: the mid-sagittal plane, in mm from the grid's first corner.
    """

    gm: FloatArray
    wm: FloatArray
    csf: FloatArray
    depth: FloatArray
    gap: FloatArray
    mni: FloatArray
    plane: Plane

    @property
    def shape(self) -> Shape:
        """(H, W, L)."""
        height, width, length = self.depth.shape
        return height, width, length

    @property
    def brain(self) -> BoolArray:
        """[H, W, L] bool."""
        inside: BoolArray = self.depth > 0
        return inside


@dataclass(frozen=True, eq=False)
class Pose:
    """Where the points of the template lie in one subject, before any lesion displaces them.

    Attributes:
        points: [3, H, W, L] float32, the template's voxel at each voxel of the subject.
        plane: the mid-sagittal plane.
    """

    points: FloatArray
    plane: Plane


@dataclass(frozen=True)
class Push:
    """The mass effect of one lesion: tissue within about `radius` voxels of `centre` is spread, and pushes the rest.

    Attributes:
        centre: voxel.
        radius: in voxels.
        strength: 0 pushes nothing; below 1, so that nothing folds.
    """

    centre: tuple[int, int, int]
    radius: float
    strength: float


def draw_pose(rng: np.random.Generator) -> Pose:
    """A random head: turned, scaled, sheared, and bent by smooth fields."""
    template = load_template()
    size = np.array(template.grid.shape)
    shape = tuple(int(n) for n in np.ceil(size / SPACING))
    angles = np.deg2rad(rng.normal(0, 5, 3))
    frame = _turn(angles) @ np.diag(np.exp(rng.normal(0, 0.05, 3)) * np.exp(rng.normal(0.02, 0.05)))
    # The template's middle is where x is 0 in MNI space; the rest is centred.
    middle = (size - 1) / 2
    middle[0] = -template.grid.affine[0, 3] / template.grid.affine[0, 0]
    lines = [(np.arange(n) - (n - 1) / 2) * SPACING for n in shape]
    offsets = np.stack(np.meshgrid(*lines, indexing="ij")).astype(np.float32)
    points = np.tensordot(frame.astype(np.float32), offsets, axes=1)
    strength = rng.uniform(0.3, 1.3)
    for axis in range(3):
        points[axis] += np.float32(middle[axis])
        points[axis] += strength * (3.5 * random_field(rng, shape, 15) + 1.0 * random_field(rng, shape, 6))
    normal = frame[0] / np.linalg.norm(frame[0])
    centre = np.array(shape) * SPACING / 2
    return Pose(points, Plane(normal, float(normal @ centre)))


def depth_and_gap(pose: Pose) -> tuple[FloatArray, FloatArray]:
    """`Body.depth` and `Body.gap` before any lesion: enough to choose where lesions are to be."""
    depth, gap = sample(_maps()[2:], pose.points)
    return depth, gap


def draw_body(rng: np.random.Generator, pose: Pose, pushes: tuple[Push, ...] = ()) -> Body:
    """The tissues of a posed head, after lesions have pushed them aside."""
    points = pose.points
    for push in pushes:
        points = _pushed(points, push)
    shape = points.shape[1:]
    gm, wm, depth, gap = sample(_maps(), points)
    csf = np.clip(1 - gm - wm, 0, 1)
    # Wider ventricles and sulci, which come with age.
    csf = np.maximum(csf, _sigmoid((max(0.0, rng.normal(0, 2.0)) - gap) / 0.8) * (gap < 8))
    sharpness = rng.uniform(1.3, 2.2)
    parts = [
        fraction**sharpness * np.exp(spread * random_field(rng, shape, 2.5) + shift) + 1e-6
        for fraction, spread, shift in ((gm, 0.3, rng.normal(0, 0.2)), (wm, 0.3, 0), (csf, 0.5, rng.normal(0, 0.4)))
    ]
    total = parts[0] + parts[1] + parts[2]
    affine = load_template().grid.affine
    mni = points * np.diag(affine)[:3, None, None, None].astype(np.float32)
    mni += affine[:3, 3, None, None, None].astype(np.float32)
    return Body(parts[0] / total, parts[1] / total, parts[2] / total, depth, gap, mni, pose.plane)


@lru_cache(maxsize=1)
def _maps() -> FloatArray:
    """The template's grey and white matter, depth and distance to the ventricles, [4, H, W, L]."""
    template = load_template()
    depth = np.maximum(template.depth, -MARGIN)
    return np.stack([template.gm, template.wm, depth, template.ventricle_distance])


def _pushed(points: FloatArray, push: Push) -> FloatArray:
    """Sample nearer to the lesion's centre than a voxel lies: what was there is spread outwards."""
    shape = points.shape[1:]
    lines = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    offsets = [line - c for line, c in zip(lines, push.centre, strict=True)]
    near = push.strength * np.exp(-sum(np.square(o) for o in offsets) / np.float32(2 * push.radius**2))
    where = [line - near * offset for line, offset in zip(lines, offsets, strict=True)]
    moved = sample(points, np.stack(np.broadcast_arrays(*where)))
    return moved


def _turn(angles: DoubleArray) -> DoubleArray:
    """Rotation matrix of three angles in radians."""
    result: DoubleArray = np.eye(3)
    for axis, angle in enumerate(angles):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        matrix = np.eye(3)
        matrix[[one, two], [one, two]] = np.cos(angle)
        matrix[one, two], matrix[two, one] = -np.sin(angle), np.sin(angle)
        result = result @ matrix
    return result


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), dtype=np.float32)
