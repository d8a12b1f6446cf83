"""The working grid: where a subject's images are brought to before anything is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray, FloatArray
from cgckit.errors import BadInputError
from cgckit.images.brain.search import foreground
from cgckit.images.grid import Grid, resample
from cgckit.images.hounsfield import from_hounsfield, is_hounsfield
from cgckit.images.volume import Volume

IMAGE_SPACING = 1.0
"""Edge of the grid that priors are computed on and that probabilities are brought back to [mm]."""

# Around the brain, so that convolutions and smoothing see its surroundings.
_MARGIN_MM = 4.0
# Nobody's brain is longer; the working grid takes memory for all of this box.
_LARGEST_MM = 500.0
# Too few to tell anything apart in them; a brain has a million.
_FEWEST_VOXELS = 100
# Of a voxel, for an image to say something about it.
_LEAST_SEEN = 0.25
# In units of the robust standard deviation; lesions and vessels are far above the median, nothing far below.
_CLIP = (-5.0, 10.0)
# The median absolute deviation of a normal distribution of standard deviation 1 is 1 / 1.4826.
_MAD_TO_STD = 1.4826


class WorkingImage(NamedTuple):
    """A subject on its working grid: `image` [C, H, W, L] float32, `brain` [H, W, L] bool, and that grid."""

    image: FloatArray
    brain: BoolArray
    grid: Grid


def to_working_grid(volumes: dict[str, Volume], brain: BoolArray, modalities: Sequence[str], name: str) -> WorkingImage:
    """Bring the images of one subject to the working grid.

    The axes of their grid are permuted and flipped to run closest to R, A, S (an oblique grid stays oblique); the
    images are cropped to the brain and a margin of 4 mm, resampled to `IMAGE_SPACING` mm, and normalised inside the
    brain to `(x - median) / (1.4826 MAD)`, clipped to [-5, 10]; CT in Hounsfield units to `(HU - 40) / 10`, which puts
    the window of 0 to 80 HU on [-4, 4]. An axis whose spacing is within 1 % of the wanted one is not interpolated.

    An image that lies on another grid than the first is sampled once, from where it lies; where it has no voxels of the
    brain, it is 0.

    Args:
        volumes: the images by modality, which show one place of the head at one place of the world; they are let go of
            one after the other.
        brain: [H, W, L] on the grid of the first.
        modalities: the channels, in this order; one that is not in `volumes` is 0 everywhere.
        name: of the subject, for messages.

    Raises:
        BadInputError: the brain is smaller than a voxel or far too large, or an image is constant inside it.
    """
    native = next(iter(volumes.values())).grid
    box = _bounding_box(brain, native)
    cropped = native.crop(box)
    extent = [count * edge for count, edge in zip(cropped.shape, cropped.spacing, strict=True)]
    if max(extent) > _LARGEST_MM:
        size = " x ".join(f"{edge:.0f}" for edge in extent)
        raise BadInputError(f"subject {name}: a brain of {size} mm; check the spacing of the images and the brain mask")
    grid = cropped.canonical().isotropic(IMAGE_SPACING)
    inside, coverage = brain_on(grid, brain[box], cropped, name)
    if inside.sum() < _FEWEST_VOXELS:
        raise BadInputError(f"subject {name}: a brain of {inside.sum()} voxels; check the images and the brain mask")
    image = np.zeros((len(modalities), *grid.shape), dtype=np.float32)
    for channel, modality in enumerate(modalities):
        if modality in volumes:
            volume = volumes.pop(modality)
            if not volume.grid.matches(native):
                image[channel] = _from_elsewhere(volume, grid, inside, modality)
                continue
            sampled = resample_inside(volume.array[box], brain[box], cropped, grid, coverage)
            image[channel, inside] = _normalise(sampled[inside], modality, volume)
    return WorkingImage(image, inside, grid)


def common_grid(volumes: dict[str, Volume], name: str) -> Grid:
    """The one grid that the images of the subject `name` lie on; BadInputError if they lie on several."""
    first, *others = volumes.values()
    for volume in others:
        if not volume.grid.matches(first.grid):
            raise BadInputError(
                f"{volume.path} and {first.path} lie on different grids; resample the images of {name} to one of them"
            )
    return first.grid


def brain_on(grid: Grid, brain: BoolArray, source: Grid, name: str) -> tuple[BoolArray, FloatArray]:
    """A brain [H, W, L] on another grid: the voxels of which at least half is brain, and what share of each is.

    Raises:
        BadInputError: nothing is left of the brain of the subject `name`.
    """
    coverage = resample(brain, source, grid)
    inside: BoolArray = coverage >= 0.5
    if not inside.any():
        raise BadInputError(f"subject {name}: the brain is smaller than a voxel of {max(grid.spacing):g} mm")
    return inside, coverage


def resample_inside(
    array: FloatArray, brain: BoolArray, source: Grid, target: Grid, coverage: FloatArray
) -> FloatArray:
    """Resample with the brain as weight: the mean over the part of each voxel that is brain."""
    weighted = resample(np.where(brain, array, np.float32(0)), source, target)
    result: FloatArray = np.divide(weighted, coverage, out=np.zeros_like(weighted), where=coverage >= 0.5)
    return result


def _from_elsewhere(volume: Volume, grid: Grid, brain: BoolArray, modality: str) -> FloatArray:
    """An image that lies on a grid of its own, [H, W, L] on `grid`, normalised in the brain and 0 around it.

    What an empty background or the end of the field of view leaves unknown of a voxel does not count in its mean.
    """
    known = foreground(volume.array)
    weight = np.ones(volume.grid.shape, np.float32) if known is None else known.astype(np.float32)
    coverage = resample(weight, volume.grid, grid)
    seen: BoolArray = brain & (coverage >= _LEAST_SEEN)
    if seen.sum() < _FEWEST_VOXELS:
        raise BadInputError(f"{volume.path}: shows nothing of the brain; check where its header puts it")
    sampled = resample(volume.array * weight, volume.grid, grid)
    result = np.zeros(grid.shape, dtype=np.float32)
    result[seen] = _normalise(np.asarray(sampled[seen] / coverage[seen], dtype=np.float32), modality, volume)
    return result


def _normalise(values: FloatArray, modality: str, volume: Volume) -> FloatArray:
    """Return `(x - median) / (1.4826 MAD)` of the voxels inside the brain, clipped; CT keeps its own scale."""
    median = np.median(values)
    if modality == "ct" and is_hounsfield(median):
        return from_hounsfield(values).clip(*_CLIP)
    scale = _MAD_TO_STD * np.median(np.abs(values - median))
    if scale == 0:  # more than half of the voxels have one value, as in coarsely quantised images
        scale = values.std()
    if scale == 0:
        raise BadInputError(f"{volume.path}: every voxel inside the brain is {median:g}; check the brain mask")
    result: FloatArray = ((values - median) / scale).clip(*_CLIP).astype(np.float32)
    return result


def _bounding_box(brain: BoolArray, grid: Grid) -> tuple[slice, slice, slice]:
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    margins = [int(np.ceil(_MARGIN_MM / edge)) for edge in grid.spacing]
    first, second, third = (
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, margin, size in zip(box, margins, grid.shape, strict=True)
    )
    return (first, second, third)
