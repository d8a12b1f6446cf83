"""Cores: what a lesion encloses, dark or mixed, that is part of it although it does not look like it.

Necrosis, cysts and cavities hold fluid, or something between fluid and tissue. What tells them from the fluid of a
healthy brain is where they lie: look around from inside a core, and nearly everywhere the view ends at lesion. From
inside a ventricle or a sulcus it ends at normal tissue; and where lesion surrounds one of these, it has a twin on the
other side of the mid-sagittal plane, which a core has not.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cgckit.arrays import BoolArray, FloatArray, Spacing
from cgckit.images.case import Case
from cgckit.images.components import Components
from cgckit.lesion_evidence.blocks import Blocks
from cgckit.lesion_evidence.evidence import is_ct, main_channel, mid_sagittal, smooth, standardised
from cgckit.lesion_evidence.mirror import Plane
from cgckit.lesion_evidence.regions import ENCLOSED, MIN_VOLUME_MM3, ball

_GRID_MM = 2.0
_SMOOTHING_MM = 1.0
# In MADs from the brain's median; on T2, fluid is brighter than any tissue but lesion.
_DARK, _BRIGHT_T2 = -3.0, 3.0
# Between lesion and core lies a seam, neither bright nor dark, where the image changes from one into the other.
_SEAM_MM = 3.0
_CLOSED, _CLOSED_BY_LESION = 0.7, 0.35
_TISSUE_CLOSED = 0.9
_MOST_TWIN = 1 / 3
_TWIN_SLACK_MM = 6.0


def with_cores(probability: Tensor, case: Case) -> Tensor:
    """Raise the cores of the lesion that a map shows to 0.9, [H, W, L]; nothing else changes.

    Args:
        probability: [H, W, L] on the case's grid; lesion is 0.5 or more.
        case: the subject.
    """
    found = torch.from_numpy(cores(case, probability.numpy() >= 0.5))
    return torch.where(found, probability.clamp(min=ENCLOSED), probability)


def cores(case: Case, lesion: BoolArray) -> BoolArray:
    """The cores of a lesion, [H, W, L] bool, without the lesion itself.

    On a 2 mm grid, 26 rays go out from every voxel that is not lesion. A ray is closed if it ends at lesion, or on the
    brain's surface after nothing but fluid: a cavity may be open to it. With the shares `s_l` and `s_o` of the rays
    that end at lesion and on the surface, a core is

        fluid where s_l + s_o >= .7 and s_l >= .35, any tissue where s_l >= .9

    as connected parts with 50 mm^3 of fluid, more than the other side of the brain could explain:

        |fluid within 6 mm of the part's mirror image| < |fluid in the part| / 3

    Fluid is darker than -3 MAD on the main channel, or brighter than 3 MAD on T2 and not above the median on the main
    channel. The slack bears with ventricles that a lesion has displaced; a part on the midline is its own mirror image.
    Last, the seam of up to 3 mm between lesion and core is closed. Holes that are closed on all sides and not filled
    with fluid are cores too; CT, where the lesion is blood, has no others.

    Args:
        case: the subject.
        lesion: [H, W, L] bool on the case's grid.
    """
    main = main_channel(case)
    brain = case.brain.numpy()
    lesion = lesion & brain
    holes: BoolArray = ndimage.binary_fill_holes(lesion) & brain & ~lesion
    if is_ct(case) or not lesion.any():
        return holes
    blocks = Blocks.cut(brain, case.spacing, _GRID_MM)
    images = standardised(case)
    fluid = _fluid([blocks.mean(image) for image in images], case.modalities, main, blocks)
    holes = _dry(holes, blocks.enlarge(fluid.astype(np.float32)) >= 0.5)
    inside = (blocks.mean(lesion.astype(np.float32)) >= 0.5) & blocks.brain
    near = ndimage.binary_dilation(inside, ball(_SEAM_MM, blocks.spacing)) & blocks.brain
    by_lesion, by_surface = views(near, fluid & ~inside, blocks.brain)
    closed = fluid & (by_lesion + by_surface >= _CLOSED) & (by_lesion >= _CLOSED_BY_LESION)
    closed |= (by_lesion >= _TISSUE_CLOSED) & ~near
    closed &= blocks.brain & ~inside
    # Threads that hang out of the lesion are no cores.
    closed &= ndimage.binary_opening(closed | near)
    parts = Components.of(closed, 6)
    wet = np.bincount(parts.labels[closed & fluid], minlength=parts.count + 1)[1:] * np.prod(blocks.spacing)
    parts = Components.of(parts.where(wet >= MIN_VOLUME_MM3), 6)
    if parts.count == 0:
        return holes
    found = _without_twins(parts, fluid, mid_sagittal(case, images), blocks.spacing)
    return holes | _fit(found, lesion, blocks, case.spacing) if found.any() else holes


def cores_within(case: Case, mask: BoolArray) -> BoolArray:
    """The cores that a mask takes in already: those of what is left of it without fluid, [H, W, L] bool.

    Args:
        case: the subject.
        mask: [H, W, L] bool, of lesions with their cores.
    """
    blocks = Blocks.cut(case.brain.numpy(), case.spacing, _GRID_MM)
    fluid = _fluid([blocks.mean(image) for image in standardised(case)], case.modalities, main_channel(case), blocks)
    solid = mask & (blocks.enlarge(fluid.astype(np.float32)) < 0.5)
    return cores(case, solid) & mask if (solid != mask).any() else np.zeros_like(mask)


def views(lesion: BoolArray, fluid: BoolArray, brain: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Shares of the 26 rays from each voxel that end at lesion, and on the surface after fluid alone; each [H, W, L].

    Lesion counts as seen from itself. A ray ends at the first voxel of lesion, or where it leaves the brain.

    Args:
        lesion: [H, W, L] bool.
        fluid: [H, W, L] bool; where it is lesion too, it is lesion.
        brain: [H, W, L] bool.
    """
    start = np.pad(
        np.select([~brain, lesion, fluid], [_SURFACE, _LESION, _FLUID], _TISSUE), 1, constant_values=_SURFACE
    )
    start = start.astype(np.uint8)
    inner = (slice(1, -1),) * 3
    shares = np.zeros((2, *brain.shape), np.float32)
    for direction in itertools.product((-1, 0, 1), repeat=3):
        if not any(direction):
            continue
        axis = next(axis for axis in range(3) if direction[axis])
        aside = [-step for other, step in enumerate(direction) if other != axis]
        order = slice(None, None, -direction[axis])
        # The slice that a ray comes to next has been done before.
        seen = np.moveaxis(start, axis, 0)[order].copy()
        for before, own in itertools.pairwise(seen):
            own[...] = _SEEN[3 * own + np.roll(before, aside, (0, 1))]
        seen = np.moveaxis(seen[order], 0, axis)[inner]
        shares[0] += seen == _LESION
        shares[1] += seen == _SURFACE
    by_lesion, by_surface = shares / np.float32(26)
    return by_lesion, by_surface


_OPEN, _LESION, _SURFACE, _TISSUE, _FLUID = range(5)
# What is seen through a voxel, by what it is and what is seen behind it.
_SEEN = np.array(
    [[_OPEN] * 3, [_LESION] * 3, [_SURFACE] * 3, [_OPEN, _LESION, _OPEN], [_OPEN, _LESION, _SURFACE]], np.uint8
).ravel()


def _fluid(images: list[FloatArray], modalities: tuple[str, ...], main: int, blocks: Blocks) -> BoolArray:
    """Where a coarse brain is fluid, [h, w, l], by its standardised channels [h, w, l]."""
    smoothed = smooth(images[main], blocks.brain, blocks.spacing, _SMOOTHING_MM)
    fluid = smoothed <= _DARK
    if "t2" in modalities and modalities[main] != "t2":
        t2 = smooth(images[modalities.index("t2")], blocks.brain, blocks.spacing, _SMOOTHING_MM)
        fluid |= (t2 >= _BRIGHT_T2) & (smoothed <= 0)
    return np.asarray(fluid & blocks.brain)


def _dry(holes: BoolArray, fluid: BoolArray) -> BoolArray:
    """The holes of which less than half is fluid, all [H, W, L]."""
    parts = Components.of(holes, 6)
    return parts.where(parts.mean(fluid) < 0.5) if parts.count else holes


def _without_twins(parts: Components, fluid: BoolArray, plane: Plane, spacing: Spacing) -> BoolArray:
    """The parts that have three times as much fluid as lies around their mirror images, [h, w, l]."""
    kept = np.zeros(parts.count, bool)
    slack = ball(_TWIN_SLACK_MM, spacing)
    for part in range(parts.count):
        region = parts.labels == part + 1
        opposite = ndimage.binary_dilation(plane.reflect(region.astype(np.float32), spacing) >= 0.5, slack)
        kept[part] = (opposite & fluid).sum() < _MOST_TWIN * (region & fluid).sum()
    return parts.where(kept)


def _fit(found: BoolArray, lesion: BoolArray, blocks: Blocks, spacing: Spacing) -> BoolArray:
    """Bring cores [h, w, l] to the lesion's grid, close the seam between both, and the holes, [H, W, L]."""
    whole = lesion | (blocks.enlarge(found.astype(np.float32)) >= 0.5)
    near = blocks.enlarge(ndimage.binary_dilation(found, ball(_SEAM_MM, blocks.spacing)).astype(np.float32)) >= 0.5
    if near.any():
        box = ndimage.find_objects(near.astype(np.uint8))[0]
        whole[box] |= _closing(whole[box], _SEAM_MM, spacing) & near[box]
    filled: BoolArray = ndimage.binary_fill_holes(whole) & blocks.fine & ~lesion
    return filled


def _closing(mask: BoolArray, radius: float, spacing: Spacing) -> BoolArray:
    """Closing by a ball of `radius` mm; distances do what a large structuring element would do slowly."""
    width = [int(np.ceil(radius / edge)) + 1 for edge in spacing]
    padded = np.pad(mask, [(w, w) for w in width])
    grown = ndimage.distance_transform_edt(~padded, sampling=spacing) <= radius
    closed = ndimage.distance_transform_edt(grown, sampling=spacing) > radius
    return np.asarray(closed[tuple(slice(w, -w) for w in width)])
