"""Bleeding with a known extent: into the tissue, into the ventricles, or between brain and skull."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray, FloatArray
from cgckit.phantom.anatomy import Anatomy
from cgckit.phantom.fields import random_field
from cgckit.phantom.head import Head
from cgckit.phantom.lesions import LesionPlan, grow_lesions

# Low-discrepancy steps for volume and density: consecutive subjects of one seed spread over the range of both.
_STEPS = np.array([0.7548776662466927, 0.5698402909980532])
# Consecutive subjects take turns.

_KINDS = (
    ("parenchymal",),
    ("parenchymal", "ventricular"),
    ("subdural",),
    ("parenchymal",),
    ("subdural", "parenchymal"),
)
_SMALLEST_ML, _LARGEST_ML = 8.0, 75.0
_FAINTEST, _DENSEST = 48.0, 68.0


@dataclass(frozen=True)
class BleedingPlan:
    """What one subject's bleeding shall be.

    Attributes:
        kinds: where it is: "parenchymal", "ventricular", "subdural".
        volume_ml: volume of all of it but the ventricles' part.
        side: 1 right, -1 left, for what lies on one side.
        density: of clotted blood, in Hounsfield units.
        mixing: share of the blood that is not clotted, or old, and nearly as dark as tissue.
        drop: how much less dense that part is, in Hounsfield units.
        layering: how much denser the rear of a subdural bleeding is than its front, in Hounsfield units.
        oedema: width of the dark rim around blood in the tissue, in mm.
        tissue: how the parenchymal part grows.
        subdural_share: share of `volume_ml` that is subdural, if both are there.
        reach: half the opening angle of a subdural bleeding, in radians.
        centre: direction of its middle from the brain's centre.
        filling: share of the ventricle that is filled; both ventricles above a half.
    """

    kinds: tuple[str, ...]
    volume_ml: float
    side: int
    density: float
    mixing: float
    drop: float
    layering: float
    oedema: float
    tissue: LesionPlan
    subdural_share: float
    reach: float
    centre: tuple[float, float, float]
    filling: float


@dataclass(frozen=True, eq=False)
class Bleeding:
    """Where blood is, on the head's grid.

    Attributes:
        extent: [H, W, L] float32 in [0, 1], share of blood in each voxel; the reference is where it prevails.
        density: [H, W, L] float32, Hounsfield units of the blood there.
        oedema: [H, W, L] float32 in [0, 1].
    """

    extent: FloatArray
    density: FloatArray
    oedema: FloatArray


def plan_bleeding(rng: np.random.Generator, seed: int, index: int) -> BleedingPlan:
    """Draw the plan of subject `index` of the cohort `seed`."""
    size, visibility = (np.random.default_rng([seed, 1]).random(2) + index * _STEPS) % 1
    volume = float(_SMALLEST_ML * (_LARGEST_ML / _SMALLEST_ML) ** size)
    kinds = _KINDS[(index + seed) % len(_KINDS)]
    count = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])) if volume > 12 else 1
    share = float(rng.uniform(0.5, 0.8)) if "parenchymal" in kinds and "subdural" in kinds else 1.0
    side = int(rng.choice([-1, 1]))
    in_tissue = volume * (1 - share) if "subdural" in kinds else volume
    direction = np.array([0.85 * side, rng.normal(0, 0.3), 0.35 + rng.normal(0, 0.15)])
    direction /= np.linalg.norm(direction)
    return BleedingPlan(
        kinds=kinds,
        volume_ml=volume,
        side=side,
        density=float(_FAINTEST + (_DENSEST - _FAINTEST) * visibility),
        mixing=float(rng.uniform(0.15, 0.55)),
        drop=float(rng.uniform(10, 24)),
        layering=float(rng.uniform(0, 12)),
        oedema=float(rng.uniform(1, 6)),
        tissue=LesionPlan(
            volume_ml=max(in_tissue, 1.0),
            radii=tuple(float(radius) for radius in rng.uniform(0.4, 1.0, count)),
            sites=tuple(str(site) for site in rng.choice(["deep", "juxtacortical"], count)),
            contrast=0.0,
            darkening=0.0,
            core=(0.0,) * count,
            softness=float(rng.uniform(0.5, 1.2)),
            infiltration=float(rng.uniform(0, 0.2)),
        ),
        subdural_share=share,
        # Of the volume's root, so that the crescent is some 11 mm thick whatever its volume.
        reach=float(0.105 * np.sqrt(volume * share) * rng.uniform(0.8, 1.15)),
        centre=(float(direction[0]), float(direction[1]), float(direction[2])),
        filling=float(rng.uniform(0.2, 0.9)),
    )


def simulate_bleeding(rng: np.random.Generator, anatomy: Anatomy, head: Head, plan: BleedingPlan) -> Bleeding:
    """Let blood into tissue, ventricles and subdural space until each has its planned volume."""
    shape = head.grid.shape
    extent = np.zeros(shape, dtype=np.float32)
    swollen = np.zeros(shape, dtype=bool)
    if "parenchymal" in plan.kinds:
        lesions = grow_lesions(rng, anatomy, plan.tissue)
        extent = head.embed(lesions.extent, 0)
        swollen = head.embed(lesions.mask, False)
    if "ventricular" in plan.kinds:
        extent = np.maximum(extent, head.embed(_in_ventricles(rng, anatomy, plan), 0))
    if "subdural" in plan.kinds:
        extent = np.maximum(extent, _subdural(rng, head, plan))
    extent *= np.clip(head.room + 0.5, 0, 1)

    old = random_field(rng, shape, 7) + 0.5 * random_field(rng, shape, 3)
    threshold = np.quantile(old[extent > 0.5], 1 - plan.mixing)
    density = plan.density + 2.5 * random_field(rng, shape, 5)
    density -= plan.drop / (1 + np.exp(-(old - threshold) / 0.25))
    if "subdural" in plan.kinds:
        y = head.coordinates()[1]
        density -= plan.layering * np.clip((y + 20) / 120 + 0.5, 0, 1)
    oedema = np.zeros(shape, dtype=np.float32)
    if swollen.any():
        distance = _distance_near(swollen, plan.oedema + 4) * np.exp(0.25 * random_field(rng, shape, 8))
        oedema = np.clip((plan.oedema - distance) / 2 + 0.5, 0, 1).astype(np.float32)
    return Bleeding(extent, density.astype(np.float32), oedema)


def _in_ventricles(rng: np.random.Generator, anatomy: Anatomy, plan: BleedingPlan) -> FloatArray:
    """Blood settles in the rear of a ventricle; the level is uneven where it clots: [h, w, l] in [0, 1]."""
    x, y, _ = anatomy.mni
    ventricles = (anatomy.ventricle_distance < 0.5) & (anatomy.csf > 0.4)
    if plan.filling < 0.5:
        ventricles &= x * plan.side > 0
    level = y + 3 * random_field(rng, anatomy.shape, 6)
    surface = np.quantile(level[ventricles], plan.filling)
    return np.asarray(ventricles * np.clip((surface - level) / 2 + 0.5, 0, 1), dtype=np.float32)


def _subdural(rng: np.random.Generator, head: Head, plan: BleedingPlan) -> FloatArray:
    """A crescent along the inner table, thick in its middle and kept to one side by the falx: [H, W, L] in [0, 1]."""
    x, y, z = head.coordinates()
    offsets = np.stack(np.broadcast_arrays(x, y + 18, z - 8))
    cosine = np.tensordot(np.array(plan.centre, np.float32), offsets, axes=1) / np.maximum(
        np.linalg.norm(offsets, axis=0), 1
    )
    profile = np.clip(1 - np.square(np.arccos(np.clip(cosine, -1, 1)) / plan.reach), 0, 1)
    profile *= np.clip(1 + 0.2 * random_field(rng, head.grid.shape, 12), 0.3, 2)
    possible = (head.room > 0) & (profile > 0.03) & (x * plan.side > 2)
    relative = np.where(possible, head.room / np.maximum(profile, 0.03), 1e3)
    wanted = round(1000 * plan.volume_ml * plan.subdural_share)
    thickest = np.partition(relative[possible], wanted)[wanted]
    return np.asarray(np.clip((thickest - relative) * profile + 0.5, 0, 1) * possible, dtype=np.float32)


def _distance_near(mask: BoolArray, reach: float) -> FloatArray:
    """Distance to `mask` in voxels, right within `reach` and large beyond it."""
    margin = int(reach) + 1
    box = tuple(
        slice(max(0, part.start - margin), part.stop + margin)
        for part in ndimage.find_objects(mask.astype(np.uint8))[0]
    )
    distance = np.full(mask.shape, 1e3, dtype=np.float32)
    distance[box] = ndimage.distance_transform_edt(~mask[box])
    return distance
