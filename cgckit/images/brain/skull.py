"""The inside of the skull in CT of a whole head, found by Hounsfield units and morphology."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray, FloatArray
from cgckit.errors import BadInputError
from cgckit.images.brain.extractor import BrainExtractor
from cgckit.images.brain.morphology import dilate, erode, largest_component, millilitres, solid
from cgckit.images.components import Components
from cgckit.images.grid import Grid, resample
from cgckit.images.volume import Volume

# Fluid, brain, clotted blood; fat lies below, calcified and bony tissue above.
_SOFT = (-15.0, 110.0)
_AIR, _BONE = -400.0, 300.0
_SPACING = 2.0
_SMALLEST_ML, _LARGEST_ML = 300.0, 2500.0
# Scalp lies near the air around the head, brain does not.
_SCALP_MM, _SCALP_SHARE = 6.0, 0.004
# Below the widest slice the inside of the skull ends where it is as narrow as the foramen magnum.
_FORAMEN_SHARE = 0.08
_CLOSING_MM = 4.0
# On the coarse grid bone blurs this far into the brain.
_EDGE_MM, _NOISE_MM = 2.5, 0.4


def is_head_in_hounsfield_units(volume: Volume) -> bool:
    """Whether an image is in Hounsfield units and shows both air and bone; a stripped brain does not."""
    array = volume.array
    return bool(array.min() < -500 and np.count_nonzero(array > _BONE) > 0.003 * np.count_nonzero(array > _AIR))


@dataclass
class Skull(BrainExtractor):
    """What the skull encloses in CT of a whole head, see `find_inside_of_skull`."""

    summary: ClassVar[str] = "the inside of the skull, in CT"

    def extract(self, volumes: Mapping[str, Volume]) -> BoolArray:
        """Return the brain, [H, W, L] bool.

        Raises:
            BadInputError: no image is CT of a whole head, or no brain is found.
        """
        heads = [name for name, volume in volumes.items() if is_head_in_hounsfield_units(volume)]
        if not heads:
            raise BadInputError(f"{next(iter(volumes.values())).path}: no CT of a whole head, in Hounsfield units")
        return find_inside_of_skull(volumes[min(heads)])


def find_inside_of_skull(volume: Volume) -> BoolArray:
    """Find what the skull encloses, bleeding outside the brain included, [H, W, L].

    On a 2 mm grid, tissue of -15 to 110 HU is eroded until its largest component is free of scalp: nearly
    none of it, grown back, lies within 6 mm of the air around the head. Holes (calcifications) are filled,
    gaps up to 8 mm that are not bone are closed, and what lies below the foramen magnum is cut off. Through a
    hole in the skull narrower than about 1 cm, from surgery or fracture, no scalp gets in; wider ones, implants
    and a scan that shows only part of the brain make the mask leak or leave parts out. Give masks then.

    Raises:
        BadInputError: if nothing of the size of a brain is found.
    """
    canonical = volume.grid.canonical()
    grid = canonical.isotropic(_SPACING)
    head = resample(np.maximum(volume.array, -1024), volume.grid, grid)
    smooth = ndimage.gaussian_filter(head, 0.5)
    soft = (smooth > _SOFT[0]) & (smooth < _SOFT[1])
    scalp = _surroundings(head, grid)
    best: tuple[float, BoolArray] | None = None
    for radius in (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0):
        core = largest_component(erode(soft, radius, grid.spacing))
        if core is None:
            break
        brain = _above_foramen(dilate(core, radius + 1, grid.spacing) & soft)
        if not _SMALLEST_ML <= millilitres(brain, grid) <= _LARGEST_ML:
            continue
        share = float((brain & scalp).sum() / brain.sum())
        if best is None or share < best[0]:
            best = share, brain
        if share < _SCALP_SHARE:
            break
    if best is None:
        raise BadInputError(
            f"{volume.path}: no brain found in it; give a brain mask (column brain_mask of a table, brain= in Python)"
        )
    brain = solid(best[1] & ~scalp)
    closed = erode(dilate(brain, _CLOSING_MM, grid.spacing), _CLOSING_MM, grid.spacing)
    brain |= closed & (smooth < _SOFT[1])
    return _to_the_bone(solid(brain), grid, volume)


def _to_the_bone(brain: BoolArray, grid: Grid, volume: Volume) -> BoolArray:
    """Bring the mask to the scan's own grid and move its edge out to the bone, which there is sharper."""
    distance = ndimage.distance_transform_edt(~brain, sampling=grid.spacing)
    near: BoolArray = resample(distance.astype(np.float32), grid, volume.grid) <= _EDGE_MM
    box = ndimage.find_objects(near.astype(np.uint8))[0]
    sigma = [min(0.5, _NOISE_MM / edge) for edge in volume.grid.spacing]
    found = near[box] & (ndimage.gaussian_filter(volume.array[box], sigma, truncate=2) < _SOFT[1])
    near[box] = solid(found)
    return near


def _surroundings(head: FloatArray, grid: Grid) -> BoolArray:
    """What lies within `_SCALP_MM` of the air around the head, and that air itself."""
    air = np.pad(head < _AIR, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    labels = Components.of(air, 6).labels
    outside: BoolArray = (labels == labels[0, 0, 0])[1:-1, 1:-1]
    return dilate(outside, _SCALP_MM, grid.spacing)


def _above_foramen(brain: BoolArray) -> BoolArray:
    """Cut a mask on canonical axes off at the first narrow slice below its widest one."""
    areas = brain.sum(axis=(0, 1))
    widest = int(areas.argmax())
    narrow = np.flatnonzero(areas[:widest] < _FORAMEN_SHARE * areas[widest])
    result: BoolArray = brain.copy()
    if narrow.size:
        result[:, :, : narrow[-1] + 1] = False
    return result
