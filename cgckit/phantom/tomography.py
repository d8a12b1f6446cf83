"""From a head and its bleeding to a CT image: Hounsfield units, dense decoys, the scanner's defects and its grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray, DoubleArray, FloatArray, ShortArray
from cgckit.images.grid import Grid
from cgckit.phantom.anatomy import Anatomy
from cgckit.phantom.bleeding import Bleeding
from cgckit.phantom.fields import random_field
from cgckit.phantom.head import AIR, Head

_THICKNESS_STEP = 0.6180339887498949
_THICKNESSES = (5.0, 2.5, 5.0, 1.0, 3.0)
# The couch: a curved shell below the head and the foam on it, in mm from the isocentre.
_COUCH_RADIUS, _COUCH_SHELL, _FOAM = 113.0, 3.0, 7.0


@dataclass(frozen=True)
class TomographyPlan:
    """How one subject is scanned. Densities are in Hounsfield units.

    Attributes:
        tissue: grey matter, white matter and fluid.
        falx: density added to falx and tentorium.
        sinus: density of blood in the venous sinuses.
        pineal: density of the calcified pineal gland.
        plexus: density of calcified choroid plexus, right and left.
        pallidum: density added to the pallida by calcification.
        cupping: brightness below the skull that the beam's hardening leaves.
        streaks: depth of the dark bands between the petrous bones.
        noise: standard deviation in a voxel.
        kernel: correlation of the noise and blur within a slice, in mm.
        pixel: edge of the pixels in mm.
        matrix: pixels along both axes of a slice.
        thickness: of slices and their distance, in mm.
        size: of the head, as a share of the template's, which is larger than most.
        turn: of the head about the axes to the right, front and top, in degrees.
        padding: what the scanner writes outside its round field of view.
    """

    tissue: tuple[float, float, float]
    falx: float
    sinus: float
    pineal: float
    plexus: tuple[float, float]
    pallidum: float
    cupping: float
    streaks: float
    noise: float
    kernel: float
    pixel: float
    matrix: int
    thickness: float
    size: float
    turn: tuple[float, float, float]
    padding: int


@dataclass(frozen=True, eq=False)
class Scan:
    """What the scanner gives, and the truth on its grid.

    Attributes:
        image: [H, W, L] int16, Hounsfield units.
        lesion: [H, W, L] bool, where blood prevails.
        brain: [H, W, L] bool, the inside of the skull.
        grid: where the voxels lie.
    """

    image: ShortArray
    lesion: BoolArray
    brain: BoolArray
    grid: Grid


def plan_tomography(rng: np.random.Generator, seed: int, index: int) -> TomographyPlan:
    """Draw one subject's densities, decoys and scanner; consecutive subjects have slices of unlike thickness."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    thickness = _THICKNESSES[(index + 2 * seed) % len(_THICKNESSES)]
    # Thin slices are stored on a coarser matrix, as in volumes that were resampled for reading in three planes.
    matrix = 256 if thickness < 2 else 512
    return TomographyPlan(
        tissue=(between(35.5, 38.5), between(28.5, 31.5), between(3, 9)),
        falx=between(8, 30),
        sinus=between(48, 62),
        pineal=between(60, 220),
        plexus=(between(20, 220), between(20, 220)),
        pallidum=between(0, 45),
        cupping=between(3, 9),
        streaks=between(3, 10),
        noise=between(3.5, 5.5) * (1.5 if thickness < 2 else 1.0),
        kernel=between(0.3, 0.5),
        pixel=between(232, 250) / matrix,
        matrix=matrix,
        thickness=thickness,
        size=between(0.9, 0.98),
        turn=(between(-12, 6), between(-4, 4), between(-6, 6)),
        padding=int(rng.choice([-1024, -2000, -3024])),
    )


def scan(rng: np.random.Generator, anatomy: Anatomy, head: Head, bleeding: Bleeding, plan: TomographyPlan) -> Scan:
    """Simulate the CT image of a head with its bleeding."""
    signal = _hounsfield(rng, anatomy, head, bleeding, plan)
    points, grid = _slices(head, plan)
    shape = grid.shape
    across = plan.kernel

    def sample(volume: FloatArray, outside: float) -> FloatArray:
        blurred = ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(volume, across, 0), across, 1)
        if plan.thickness > 1:
            blurred = _average_along(blurred, plan.thickness)
        return np.stack(
            [
                ndimage.map_coordinates(blurred, points(k), order=1, mode="constant", cval=outside)
                for k in range(shape[2])
            ],
            axis=-1,
        ).astype(np.float32)

    # Outside the head the scan shows the couch, then nothing.
    image = sample(signal, AIR)
    lesion = sample(bleeding.extent, 0) > 0.5
    brain = sample(np.clip(head.room + 0.5, 0, 1), 0) > 0.5
    _add_couch(image, grid)
    noise = rng.standard_normal(shape, dtype=np.float32)
    sigma = plan.kernel / plan.pixel
    noise = ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(noise, sigma, 0), sigma, 1)
    image += noise * (plan.noise / noise.std())
    radius = np.hypot(*np.meshgrid(*[np.arange(plan.matrix) - (plan.matrix - 1) / 2] * 2, indexing="ij"))
    image[radius > plan.matrix / 2] = plan.padding
    return Scan(np.clip(np.rint(image), -3024, 3071).astype(np.int16), lesion, brain, grid)


def _hounsfield(
    rng: np.random.Generator, anatomy: Anatomy, head: Head, bleeding: Bleeding, plan: TomographyPlan
) -> FloatArray:
    """The head without noise on its own grid, [H, W, L]."""
    shape = head.grid.shape
    gm, wm = head.embed(anatomy.gm * (anatomy.depth > -1), 0), head.embed(anatomy.wm * (anatomy.depth > -1), 0)
    grey, white, fluid = plan.tissue
    content = fluid + (grey - fluid + 0.8 * random_field(rng, shape, 20)) * gm + (white - fluid) * wm
    # Small vessels and perfusion: tissue is not uniform.
    content += (gm + wm) * 1.0 * random_field(rng, shape, 3)
    content -= 9 * bleeding.oedema * (gm + wm)
    content += _decoys(rng, anatomy, head, content, plan)
    content += bleeding.extent * (bleeding.density - content)
    inside = np.clip(head.room + 0.5, 0, 1)
    patches = np.exp(0.4 * random_field(rng, shape, 12))
    content += plan.cupping * patches * np.exp(-np.maximum(head.room, 0) / 6)
    content += _streaks(rng, head, plan)
    return np.asarray(head.outside + inside * (content - head.outside), dtype=np.float32)


def _decoys(
    rng: np.random.Generator, anatomy: Anatomy, head: Head, content: FloatArray, plan: TomographyPlan
) -> FloatArray:
    """What is dense and no bleeding, to be added: dura, venous sinuses, calcified pineal, plexus and pallida."""
    x, y, z = anatomy.mni
    side = np.abs(x)
    base = content[tuple(slice(o, o + n) for o, n in zip(head.offset, anatomy.shape, strict=True))]
    added = np.zeros(anatomy.shape, dtype=np.float32)
    uneven = np.exp(0.5 * random_field(rng, anatomy.shape, 8))
    room = head.room[tuple(slice(o, o + n) for o, n in zip(head.offset, anatomy.shape, strict=True))]
    inside = room > 0

    # The falx hangs from the vault down to the corpus callosum.
    callosum = 34 - np.square((y + 10) / 38) * 12
    falx = np.exp(-np.square(x / 1.1)) / (1 + np.exp(-(z - callosum) / 2)) * (y > -95)
    tent = 8 - 0.45 * side + 0.35 * (np.minimum(y, -35) + 35)
    edge = 18 + 0.25 * np.maximum(-y - 35, 0)
    tentorium = (
        np.exp(-np.square((z - tent) / 1.3)) * (y < -32) / (1 + np.exp(-(side - np.where(y > -62, edge, 0)) / 3))
    )
    dura = np.maximum(falx, tentorium)
    added += dura * (np.maximum(38 - base, 0) + plan.falx * uneven)

    near = np.exp(-np.square(np.maximum(room - 3, 0) / 2.5)) * inside
    superior = np.exp(-np.square(x / 4)) * near * (z > -5) * (y < 40)
    transverse = np.exp(-np.square((z - tent) / 4)) * near * (y < -55) * (side > 3)
    added += np.maximum(superior, transverse) * np.maximum(plan.sinus - base - added, 0)

    def spot(centre: tuple[float, float, float], radius: float) -> FloatArray:
        offsets = (x - centre[0], y - centre[1], z - centre[2])
        return np.asarray(np.exp(-((sum(np.square(o) for o in offsets) / radius**2) ** 2)), dtype=np.float32)

    added += spot((0, -29, 3), 3.5) * np.maximum(plan.pineal - base, 0)
    grain = np.clip(random_field(rng, anatomy.shape, 2.5) + 0.6, 0, 1.5)
    for sign, density in zip((1, -1), plan.plexus, strict=True):
        where = spot((23.0 * sign, -40, 5), 7) * (anatomy.ventricle_distance < 1.5) * grain
        added += where * np.maximum(density - base, 0)
    for sign in (1, -1):
        added += plan.pallidum * spot((19.0 * sign, -5, 0), 7) * grain
    return head.embed(added.astype(np.float32), 0)


def _streaks(rng: np.random.Generator, head: Head, plan: TomographyPlan) -> FloatArray:
    """Dark bands between the petrous bones and bright patches above the base of the skull."""
    x, y, z = head.coordinates()
    band = np.exp(-np.square((z + 40) / 7)) * np.exp(-np.square((y + 33) / 9)) * np.exp(-(np.square(x / 40) ** 2))
    ripple = np.sin(2 * np.pi * (y - 0.15 * x) / 9 + 3)
    dark = -plan.streaks * band * (0.7 + 0.5 * ripple)
    low = 1 / (1 + np.exp((z + 22) / 5))
    bright = 0.8 * plan.cupping * low * np.clip(random_field(rng, head.grid.shape, 9), 0, 2.5)
    bright *= np.exp(-np.maximum(head.room, 0) / 12)
    return np.asarray(dark + bright, dtype=np.float32)


def _slices(head: Head, plan: TomographyPlan) -> tuple[Callable[[int], FloatArray], Grid]:
    """The scanner's grid, and a function from a slice's number to where its pixels lie on the head's grid."""
    extent = np.array(head.grid.shape) - 1
    middle = head.grid.affine[:3, :3] @ (extent / 2) + head.grid.affine[:3, 3]
    # The head lies on the couch, so the axis to the right runs against the columns of the picture.
    count = int((plan.size * extent[2] - 12) / plan.thickness)
    shape = (plan.matrix, plan.matrix, count)
    affine = np.diag([-plan.pixel, plan.pixel, plan.thickness, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = Grid(shape, affine)
    rotation = _rotation(plan.turn) / plan.size
    inverse = np.linalg.inv(head.grid.affine)
    matrix = inverse[:3, :3] @ rotation @ affine[:3, :3]
    offset = inverse[:3, :3] @ (rotation @ affine[:3, 3] + middle) + inverse[:3, 3]
    rows, columns = np.meshgrid(*[np.arange(plan.matrix, dtype=np.float32)] * 2, indexing="ij")

    def points(k: int) -> FloatArray:
        constant = matrix[:, 2] * k + offset
        return np.stack([matrix[axis, 0] * rows + matrix[axis, 1] * columns + constant[axis] for axis in range(3)])

    return points, grid


def _rotation(turn: tuple[float, float, float]) -> DoubleArray:
    """Rotation about the axes to the right, front and top in turn, by angles in degrees."""
    result = np.eye(3)
    for axis, degrees in enumerate(turn):
        a, b = [other for other in range(3) if other != axis]
        angle = np.deg2rad(degrees)
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        result = step @ result
    return result


def _average_along(volume: FloatArray, thickness: float) -> FloatArray:
    """Mean over a slice of `thickness` mm around each voxel of 1 mm, along the last axis."""
    half = (thickness - 1) / 2
    whole = int(half)
    weights = np.ones(2 * whole + 3)
    weights[[0, -1]] = half - whole
    return np.asarray(ndimage.correlate1d(volume, weights / weights.sum(), axis=2, mode="nearest"))


def _add_couch(image: FloatArray, grid: Grid) -> None:
    """Put a couch below the head wherever there is air, in place."""
    x, y = (grid.affine[axis, axis] * np.arange(grid.shape[axis]) + grid.affine[axis, 3] for axis in range(2))
    x, y = x[:, None], y[None, :]
    gap = np.hypot(x, y) - _COUCH_RADIUS
    below = y < -70
    air = image < -900
    image[air & ((np.abs(gap) < _COUCH_SHELL / 2) & below)[..., None]] = 40
    image[air & ((gap < 0) & (gap > -_FOAM) & below)[..., None]] = -930
