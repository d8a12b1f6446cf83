"""Lesions with a known extent: where they sit, how they grow, what they are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray, FloatArray
from cgckit.phantom.anatomy import Anatomy
from cgckit.phantom.fields import random_field

SITES = ("deep", "periventricular", "juxtacortical")

# Low-discrepancy steps: consecutive subjects of one seed spread over the range of volumes and of contrasts
# instead of clumping, so that every cohort holds small and large, plain and barely visible lesions, whatever
# its size.
_VOLUME_STEP = 0.7548776662466927
_CONTRAST_STEP = 0.5698402909980532

_SMALLEST_ML, _LARGEST_ML = 8.0, 140.0
_CRUMB_VOXELS = 150
_FAINTEST, _BRIGHTEST = 0.28, 0.65


@dataclass(frozen=True)
class LesionPlan:
    """What one subject's lesions shall be.

    Attributes:
        volume_ml: total volume.
        radii: relative radius of each lesion.
        sites: one of `SITES` for each lesion.
        contrast: how much brighter than white matter on FLAIR, as a fraction of white matter.
        darkening: how much darker than white matter on T1, likewise.
        core: share of each lesion's radius that is a dark (necrotic) core; 0 without.
        softness: width of the border in mm.
        infiltration: how much longer a millimetre of grey matter is to a growing lesion, as a fraction.
    """

    volume_ml: float
    radii: tuple[float, ...]
    sites: tuple[str, ...]
    contrast: float
    darkening: float
    core: tuple[float, ...]
    softness: float
    infiltration: float


@dataclass(frozen=True, eq=False)
class Lesions:
    """Where the lesions are.

    Attributes:
        mask: [H, W, L] bool, the reference.
        extent: [H, W, L] float32 in [0, 1], the soft share of lesion in each voxel.
        core: [H, W, L] float32 in [0, 1], the soft share of dark core, within `extent`.
    """

    mask: BoolArray
    extent: FloatArray
    core: FloatArray


def plan_lesions(rng: np.random.Generator, seed: int, index: int) -> LesionPlan:
    """Draw the plan of subject `index` of the cohort `seed`."""
    start = np.random.default_rng([seed]).random(2)
    size, visibility = (start + index * np.array([_VOLUME_STEP, _CONTRAST_STEP])) % 1
    volume = float(_SMALLEST_ML * (_LARGEST_ML / _SMALLEST_ML) ** size)
    count = int(rng.choice([1, 2, 3, 5], p=[0.4, 0.25, 0.2, 0.15]))
    count = min(count, 1 + int(volume / 12))
    contrast = float(_FAINTEST + (_BRIGHTEST - _FAINTEST) * visibility)
    mixed = volume > 20 and rng.random() < 0.5
    return LesionPlan(
        volume_ml=volume,
        radii=tuple(float(radius) for radius in rng.uniform(0.5, 1.0, count)),
        sites=tuple(str(site) for site in rng.choice(SITES, count, p=[0.35, 0.35, 0.3])),
        contrast=contrast,
        darkening=float(rng.uniform(0.15, 0.35)),
        core=tuple(float(rng.uniform(0.2, 0.36)) if mixed and rng.random() < 0.7 else 0.0 for _ in range(count)),
        softness=float(rng.uniform(0.5, 1.3)),
        infiltration=float(rng.uniform(0.1, 0.5)),
    )


def grow_lesions(rng: np.random.Generator, anatomy: Anatomy, plan: LesionPlan) -> Lesions:
    """Grow irregular lesions until together they fill the planned volume.

    Each lesion is an ellipsoid whose distance function is warped by noise of two scales and lengthened by
    grey matter, so that it spreads along white matter; the ventricles stop it. One threshold on the
    smallest distance, in mm, makes the union have the planned volume.
    """
    shape = anatomy.shape
    # Swelling fills the sulci, so only the ventricles stop a lesion.
    fluid = anatomy.csf * np.exp(-np.square(anatomy.ventricle_distance / 3))
    tissue = anatomy.brain & (fluid < 0.4)
    resistance = ndimage.gaussian_filter(anatomy.gm + 1.5 * anatomy.csf, 1.5, truncate=2)
    scale = (3 * plan.volume_ml * 1000 / (4 * np.pi * sum(radius**3 for radius in plan.radii))) ** (1 / 3)
    distance = np.full(shape, np.inf, dtype=np.float32)
    core = np.full(shape, np.inf, dtype=np.float32)
    for relative, site, share in zip(plan.radii, plan.sites, plan.core, strict=True):
        radius = relative * scale
        centre = _choose_centre(rng, anatomy, site, radius)
        reach = int(2.5 * radius) + 6
        box = tuple(
            slice(max(0, c - reach), min(length, c + reach + 1)) for c, length in zip(centre, shape, strict=True)
        )
        ratio = _ellipsoid(rng, box, centre) / radius
        extents = ratio.shape
        ratio += 0.26 * random_field(rng, extents, max(3.0, 0.5 * radius)) + 0.12 * random_field(rng, extents, 3.0)
        inner = (ratio - share) * radius
        ratio += plan.infiltration * resistance[box]
        distance[box] = np.minimum(distance[box], (ratio - 1) * radius)
        if share:
            core[box] = np.minimum(core[box], inner)
    wanted = round(plan.volume_ml * 1000 / float(np.prod(anatomy.grid.spacing)))
    reached = np.sort(distance[tissue & np.isfinite(distance)])
    threshold = float(reached[min(wanted, reached.size) - 1])

    mask, crumbs = _without_crumbs(tissue & (distance <= threshold))
    extent = _sigmoid((threshold - distance) / plan.softness) * (1 - fluid) * (anatomy.brain & ~crumbs)
    return Lesions(mask=mask, extent=extent, core=extent * _sigmoid(-core / 1.0))


def _without_crumbs(mask: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Leave out pieces below `_CRUMB_VOXELS`: what stays, and where the crumbs were, with their rim."""
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    large = np.bincount(labels.ravel()) >= _CRUMB_VOXELS
    large[0] = False
    kept = large[labels]
    return kept, ndimage.binary_dilation(mask & ~kept, iterations=3) & ~kept


def _choose_centre(rng: np.random.Generator, anatomy: Anatomy, site: str, radius: float) -> tuple[int, int, int]:
    """A random voxel of the hemispheres where a lesion of this radius is at home."""
    depth, gap = anatomy.depth, anatomy.ventricle_distance
    if site == "periventricular":
        places = (anatomy.wm > 0.6) & (gap > 0.3 * radius) & (gap < 0.7 * radius + 3)
    elif site == "juxtacortical":
        places = (anatomy.wm > 0.4) & (depth > 4) & (depth < 0.6 * radius + 7)
    else:
        places = (anatomy.wm > 0.6) & (depth > 12) & (gap > 6)
    # Cerebellum and brain stem are left out: they are small, and the rest is enough variety.
    places &= (anatomy.mni[2] > -15) & (np.abs(anatomy.mni[0]) > 8)
    choices = np.flatnonzero(places)
    row, column, slab = np.unravel_index(int(choices[rng.integers(choices.size)]), anatomy.shape)
    return int(row), int(column), int(slab)


def _ellipsoid(rng: np.random.Generator, box: tuple[slice, ...], centre: tuple[int, int, int]) -> FloatArray:
    """Distance to `centre` in a turned frame with unequal axes of unit product, over the voxels of `box`."""
    axes = np.exp(0.25 * rng.standard_normal(3))
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    frame = turn / (axes / np.cbrt(axes.prod()))[:, None]
    lines = [np.arange(extent.start, extent.stop) - c for extent, c in zip(box, centre, strict=True)]
    offsets = np.stack(np.meshgrid(*lines, indexing="ij")).astype(np.float32)
    distance: FloatArray = np.linalg.norm(np.tensordot(frame.astype(np.float32), offsets, axes=1), axis=0)
    return distance


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(4 * x, -30, 30))), dtype=np.float32)


def count_components(mask: BoolArray) -> int:
    """Number of separate lesions, voxels touching by a corner counted as one."""
    return int(ndimage.label(mask, structure=np.ones((3, 3, 3)))[1])
