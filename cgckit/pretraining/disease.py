"""Random lesions: infiltrating, solid, cystic, patchy; one or many; each with the compartments that it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cgckit.arrays import FloatArray
from cgckit.phantom.fields import random_field
from cgckit.pretraining.body import Body, Push
from cgckit.starting import SPACING

_VOXEL_ML = SPACING**3 / 1000


@dataclass(frozen=True)
class Growth:
    """How one large lesion grows.

    Attributes:
        centre: voxel.
        radius: in voxels, of a sphere of its volume.
        solid: radius of the solid part, as a share; 0 for a lesion that is oedema alone, 1 for one without oedema.
        core: radius of the necrotic or cystic core, as a share of the solid part.
        irregularity: how far its border strays from an ellipsoid, as a share of the radius.
        infiltration: how much farther a voxel of grey matter is than one of white matter, as a share of the radius.
        push: strength of the mass effect.
    """

    centre: tuple[int, int, int]
    radius: float
    solid: float
    core: float
    irregularity: float
    infiltration: float
    push: float


@dataclass(frozen=True, eq=False)
class Disease:
    """Shares of each voxel, each [H, W, L] float32 in [0, 1]: the whole lesion, and within it the solid part and the
    core of that; `patches` are the small lesions among them."""

    whole: FloatArray
    solid: FloatArray
    core: FloatArray
    patches: FloatArray


def draw_growths(rng: np.random.Generator, depth: FloatArray, gap: FloatArray) -> tuple[Growth, ...]:
    """Plan the large lesions of one subject: none in one subject of five, which may have small ones."""
    count = int(rng.choice([0, 1, 2, 3], p=[0.2, 0.6, 0.13, 0.07]))
    growths = []
    for _ in range(count):
        volume = float(np.exp(rng.uniform(np.log(4), np.log(240 / count))))
        radius = (3 * volume / _VOXEL_ML / (4 * np.pi)) ** (1 / 3)
        # A large lesion lies deep; a small one anywhere, the cerebellum and brain stem included.
        places = np.flatnonzero((depth > min(3 + 0.5 * radius * SPACING, 22)) & (gap > 1))
        if not places.size:
            continue
        row, column, slab = np.unravel_index(int(rng.choice(places)), depth.shape)
        kind = rng.random()
        solid = 0.0 if kind < 0.25 else 1.0 if kind < 0.4 else float(rng.uniform(0.35, 0.95))
        growths.append(
            Growth(
                centre=(int(row), int(column), int(slab)),
                radius=radius,
                solid=solid,
                core=float(rng.uniform(0.3, 0.92)) if solid and rng.random() < 0.7 else 0.0,
                irregularity=float(rng.uniform(0.08, 0.4)),
                infiltration=float(rng.uniform(0.0, 0.7)) * (solid < 1),
                push=float(rng.uniform(0, 0.55)) * (rng.random() < 0.7),
            )
        )
    return tuple(growths)


def pushes_of(growths: tuple[Growth, ...]) -> tuple[Push, ...]:
    """The mass effects of lesions that have one."""
    return tuple(Push(g.centre, 0.9 * g.radius + 1, g.push) for g in growths if g.push > 0)


def grow(rng: np.random.Generator, body: Body, growths: tuple[Growth, ...]) -> Disease:
    """Grow the planned lesions, and small ones that are planned here, into a brain."""
    fluid = body.csf * np.exp(-np.square(body.gap / 3))
    tissue = _sigmoid((body.depth + 1) / 0.5) * (1 - np.clip(fluid * 1.6, 0, 1))
    resistance = ndimage.gaussian_filter(body.gm + 1.5 * body.csf, 0.75, truncate=2)
    whole, solid, core, patches = (np.zeros(body.shape, np.float32) for _ in range(4))
    for growth in growths:
        box, ratio = _ratio(rng, growth, body.shape)
        softness = float(rng.uniform(0.25, 0.9)) / growth.radius
        spread = ratio + growth.infiltration * (resistance[box] - 0.3)
        room = tissue[box] > 0.5
        wanted = min(int(4 / 3 * np.pi * growth.radius**3), int(room.sum()) - 1)
        if wanted < 1:
            continue
        threshold = np.partition(spread[room], wanted)[wanted]
        part = _sigmoid((threshold - spread) / softness) * tissue[box]
        whole[box] = np.maximum(whole[box], part)
        if growth.solid:
            if growth.solid < 1:
                bent = ratio + 0.3 * growth.irregularity * random_field(rng, ratio.shape, max(2.0, 0.4 * growth.radius))
                inner = part * _sigmoid((growth.solid * threshold - bent) / softness)
            else:
                bent, inner = spread, part
            solid[box] = np.maximum(solid[box], inner)
            if growth.core:
                bent = bent + 0.4 * growth.irregularity * random_field(rng, ratio.shape, max(1.5, 0.3 * growth.radius))
                middle = inner * _sigmoid((growth.core * growth.solid * threshold - bent) / softness)
                core[box] = np.maximum(core[box], middle)
    if not growths or rng.random() < 0.15:
        patches = _patches(rng, body) * tissue
        whole = np.maximum(whole, patches)
    return Disease(whole, solid, core, patches)


def _ratio(rng: np.random.Generator, growth: Growth, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], FloatArray]:
    """Distance to the centre over the radius, warped, in a box that holds the lesion."""
    reach = int(2.3 * growth.radius) + 4
    box = tuple(
        slice(max(0, c - reach), min(length, c + reach + 1)) for c, length in zip(growth.centre, shape, strict=True)
    )
    axes = np.exp(rng.uniform(0.1, 0.4) * rng.standard_normal(3))
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    frame = (turn / (axes / np.cbrt(axes.prod()))[:, None]).astype(np.float32)
    lines = [np.arange(extent.start, extent.stop) - c for extent, c in zip(box, growth.centre, strict=True)]
    offsets = np.stack(np.meshgrid(*lines, indexing="ij")).astype(np.float32)
    ratio = np.linalg.norm(np.tensordot(frame, offsets, axes=1), axis=0) / np.float32(growth.radius)
    rough = growth.irregularity
    ratio += rough * random_field(rng, ratio.shape, max(2.5, 0.6 * growth.radius))
    ratio += 0.5 * rough * random_field(rng, ratio.shape, max(1.5, 0.25 * growth.radius))
    return box, np.asarray(ratio, dtype=np.float32)


def _patches(rng: np.random.Generator, body: Body) -> FloatArray:
    """Many small lesions, of a few voxels up to 3 ml, near the ventricles or below the cortex."""
    found = np.zeros(body.shape, np.float32)
    count = int(np.exp(rng.uniform(0, np.log(50))))
    largest = rng.uniform(2.0, 5.0)
    near = float(rng.uniform(0.2, 0.9))
    periventricular = 6 * np.exp(-np.square(body.gap / 6))
    juxtacortical = np.exp(-np.square((body.depth - 7) / 6))
    weight = body.wm * (body.depth > 2) * (near * periventricular + (1 - near) * juxtacortical)
    chance = weight.ravel().astype(np.float64)
    if not chance.any():
        return found
    centres = rng.choice(chance.size, count, p=chance / chance.sum())
    for centre in centres:
        voxel = np.unravel_index(int(centre), body.shape)
        radius = float(np.exp(rng.uniform(np.log(0.9), np.log(largest))))
        growth = Growth(
            (int(voxel[0]), int(voxel[1]), int(voxel[2])), radius, 0, 0, float(rng.uniform(0.05, 0.3)), 0, 0
        )
        box, ratio = _ratio(rng, growth, body.shape)
        found[box] = np.maximum(found[box], _sigmoid((1 - ratio) * radius / 0.3))
    return found


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), dtype=np.float32)
