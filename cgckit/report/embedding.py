"""Volumes inside a page: cut to the brain, coarse enough for a browser, one byte a voxel."""

from __future__ import annotations

import base64
import gzip
from typing import TypedDict

import nibabel as nib
import numpy as np

from cgckit.arrays import AnyArray, BoolArray, DoubleArray, FloatArray
from cgckit.images.brain.skull import is_head_in_hounsfield_units
from cgckit.report.maps import PRIOR, PROBABILITY, REFINED, UNCERTAINTY, Maps
from cgckit.report.view import BRAIN_WINDOW

_MOST_VOXELS = 6_000_000
"""Of a volume in a page: a brain at 1 mm fits, and takes 2 MB."""
_MARGIN_MM = 5.0
_LEVELS = 256
# What of an image's values is shown: all but what single voxels reach.
_WINDOW = (0.5, 99.8)


class Embedded(TypedDict):
    """A subject's volumes as a page holds them.

    Attributes:
        volumes: NIfTI files, compressed, as base64: `image` and, where there are any, `prior`, `refined` and
            `uncertainty`. Voxels are uint8, slope and intercept give their values.
        coarsened: by how much each axis is coarser than the scan's.
    """

    volumes: dict[str, str]
    coarsened: tuple[int, int, int]


def embed(maps: Maps) -> Embedded:
    """Make the volumes of a subject's page. Of 256 levels, 128 and more are probabilities from 0.5 on."""
    box = _box(maps)
    shape = tuple(part.stop - part.start for part in box)
    factors = _factors(shape, maps.scan.grid.spacing)
    affine = _affine(maps.scan.grid.affine, box, factors)

    def volume(array: FloatArray, low: float, high: float) -> str:
        cut = _coarser(array[box], factors)
        step = (high - low) / _LEVELS
        levels = np.floor((cut - low) / (step or 1)).clip(0, _LEVELS - 1).astype(np.uint8)
        image = nib.Nifti1Image(levels, affine)
        image.header.set_slope_inter(step or 1, low + step / 2)
        image.header.set_xyzt_units("mm")
        return base64.b64encode(gzip.compress(image.to_bytes(), 6, mtime=0)).decode()

    shown = {"image": volume(maps.scan.array, *_window(maps))}
    shown |= {name: volume(found, 0, 1) for name, found in maps.probabilities.items() if name in (PRIOR, REFINED)}
    if maps.uncertainty is not None:
        shown[UNCERTAINTY] = volume(maps.uncertainty, 0, 0.5)  # no larger deviation is there in [0, 1]
    return {"volumes": shown, "coarsened": factors}


def layers(embedded: Embedded) -> list[str]:
    """What a viewer can lay over the image."""
    there = embedded["volumes"]
    sources = {PRIOR: PRIOR, REFINED: REFINED, PROBABILITY: REFINED, UNCERTAINTY: UNCERTAINTY}
    return [layer for layer, source in sources.items() if source in there]


def _window(maps: Maps) -> tuple[float, float]:
    if is_head_in_hounsfield_units(maps.scan):
        return BRAIN_WINDOW
    values = maps.scan.array[_box(maps)]
    inside = values[values != 0]
    low, high = np.percentile(inside, _WINDOW) if inside.size else (0.0, 1.0)
    return min(0.0, float(low)), float(high)


def _box(maps: Maps) -> tuple[slice, slice, slice]:
    """The brain, or else what is not background, with every mask and a margin."""
    image = maps.scan.array
    there: BoolArray = maps.brain if maps.brain is not None and maps.brain.any() else image != image.flat[0]
    for mask in maps.masks().values():
        there = there | mask
    box = []
    for axis, spacing in enumerate(maps.scan.grid.spacing):
        found = np.flatnonzero(there.any(axis=tuple({0, 1, 2} - {axis})))
        first, last = (int(found[0]), int(found[-1])) if found.size else (0, image.shape[axis] - 1)
        margin = round(_MARGIN_MM / spacing)
        box.append(slice(max(0, first - margin), min(image.shape[axis], last + margin + 1)))
    return box[0], box[1], box[2]


def _factors(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> tuple[int, int, int]:
    """How many voxels of each axis become one: the finest axis gives way first, until the volume is small enough."""
    factors = [1, 1, 1]
    while np.prod([-(-size // factor) for size, factor in zip(shape, factors, strict=True)]) > _MOST_VOXELS:
        finest = min(range(3), key=lambda axis: spacing[axis] * factors[axis])
        factors[finest] += 1
    return factors[0], factors[1], factors[2]


def _coarser(array: AnyArray, factors: tuple[int, int, int]) -> AnyArray:
    """Means over blocks; the last ones of an axis may be smaller."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            starts = np.arange(0, array.shape[axis], factor)
            counts = np.diff(np.append(starts, array.shape[axis]))
            sums = np.add.reduceat(array, starts, axis=axis)
            array = sums / counts.reshape([-1 if other == axis else 1 for other in range(3)])
    return array


def _affine(affine: DoubleArray, box: tuple[slice, slice, slice], factors: tuple[int, int, int]) -> DoubleArray:
    """Voxel indices of what is cut out and made coarser, to world coordinates [mm]."""
    local = np.diag([*factors, 1.0]).astype(float)
    local[:3, 3] = [part.start + (factor - 1) / 2 for part, factor in zip(box, factors, strict=True)]
    moved: DoubleArray = affine @ local
    return moved
