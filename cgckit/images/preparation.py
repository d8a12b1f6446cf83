"""From a subject's files to a `Case`, and from one working grid to a coarser one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cgckit.arrays import BoolArray, FloatArray, Shape
from cgckit.errors import BadInputError, UsageError
from cgckit.images.brain.search import find_brain, read_brain_mask
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.images.grid import Grid, resample
from cgckit.images.hounsfield import from_hounsfield, is_hounsfield
from cgckit.images.volume import Volume

IMAGE_SPACING = 1.0
"""Edge of the grid that priors are computed on and that probabilities are brought back to [mm]."""


# Around the brain, so that convolutions and smoothing see its surroundings.
_MARGIN_MM = 4.0
# In units of the robust standard deviation; lesions and vessels are far above the median, nothing far below.
_CLIP = (-5.0, 10.0)
# The median absolute deviation of a normal distribution of standard deviation 1 is 1 / 1.4826.
_MAD_TO_STD = 1.4826


def prepare(subject: Subject, modalities: Sequence[str], spacing: float = IMAGE_SPACING) -> Case:
    """Bring a subject's images to the working grid.

    The axes of the files' grid are permuted and flipped to run closest to R, A, S (an oblique grid stays
    oblique); the images are cropped to the brain and a margin of 4 mm, resampled to `spacing` mm, and
    normalised inside the brain to `(x - median) / (1.4826 MAD)`, clipped to [-5, 10]; CT in Hounsfield units
    to `(HU - 40) / 10`, which puts the window of 0 to 80 HU on [-4, 4]. An axis whose spacing is within 1 % of
    `spacing` is not interpolated. The brain mask is the subject's own file, or found in the
    images.

    Args:
        subject: the files.
        modalities: the channels, in this order; one that the subject lacks is 0 everywhere.
        spacing: edge of the working grid's voxels in mm.

    Returns:
        Case with image [C, H, W, L], on `case.grid`; `case.native` is the files' grid.

    Raises:
        BadInputError: for a file that cannot be used (see `Volume.load`), images on different grids, a brain
            mask that is empty or on another grid, an image that is constant inside the brain.
        UsageError: if `spacing` is not positive.
    """
    _require_positive(spacing)
    volumes = {name: Volume.load(subject.files[name]) for name in modalities if name in subject.files}
    if not volumes:
        raise BadInputError(f"subject {subject.source} has none of: {', '.join(modalities)}")
    first = next(iter(volumes.values()))
    native = first.grid
    for volume in volumes.values():
        if not volume.grid.matches(native):
            raise BadInputError(
                f"{volume.path} and {first.path} lie on different grids; "
                f"resample the images of {subject.source} to one of them"
            )
    brain = read_brain_mask(subject.brain_mask, native) if subject.brain_mask else find_brain(volumes)
    box = _bounding_box(brain, native)
    cropped = native.crop(box)
    grid = cropped.canonical().isotropic(spacing)
    coverage = resample(brain[box], cropped, grid)
    inside: BoolArray = coverage >= 0.5
    if not inside.any():
        raise BadInputError(f"subject {subject.source}: the brain is smaller than a voxel of {spacing:g} mm")
    image = np.zeros((len(modalities), *grid.shape), dtype=np.float32)
    for channel, name in enumerate(modalities):
        if name in volumes:
            volume = volumes.pop(name)  # let go of each image once it is used
            sampled = _resample_inside(volume.array[box], brain[box], cropped, grid, coverage)
            image[channel, inside] = _normalise(sampled[inside], name, volume)
    return Case(
        subject=subject.label,
        image=torch.from_numpy(image),
        brain=torch.from_numpy(inside),
        modalities=tuple(modalities),
        spacing=grid.spacing,
        grid=grid,
        native=native,
        source=subject.source,
    )


def resample_case(case: Case, spacing: float) -> Case:
    """Bring a case to another isotropic spacing: area average when coarser, linear interpolation when finer.

    Only voxels inside the brain are averaged, so that its rim is not diluted by the zeros around it.

    Raises:
        UsageError: if `spacing` is not positive.
        BadInputError: if the brain vanishes on the new grid.
    """
    _require_positive(spacing)
    source = case.grid or Grid(_shape(case), np.diag([*case.spacing, 1.0]))
    target = source.isotropic(spacing)
    if target.matches(source):
        return case
    brain = case.brain.cpu().numpy()
    coverage = resample(brain, source, target)
    inside: BoolArray = coverage >= 0.5
    if not inside.any():
        raise BadInputError(f"subject {case.subject}: the brain is smaller than a voxel of {spacing:g} mm")
    image = np.zeros((len(case.modalities), *target.shape), dtype=np.float32)
    for channel, array in enumerate(case.image.cpu().numpy()):
        image[channel, inside] = _resample_inside(array, brain, source, target, coverage)[inside]
    return Case(
        subject=case.subject,
        image=torch.from_numpy(image),
        brain=torch.from_numpy(inside),
        modalities=case.modalities,
        spacing=target.spacing,
        grid=None if case.grid is None else target,
        native=case.native,
        source=case.source,
    )


def transfer(values: Tensor, source: Case, target: Case) -> Tensor:
    """Bring a map [H, W, L] from the grid of `source` to that of `target`, both cases of one subject.

    Raises:
        UsageError: if a case was made in memory and has no grid.
    """
    if source.grid is None or target.grid is None:
        raise UsageError(f"{source.subject} was made in memory: its grid is not known")
    return torch.from_numpy(resample(values.numpy(), source.grid, target.grid))


def _resample_inside(
    array: FloatArray, brain: BoolArray, source: Grid, target: Grid, coverage: FloatArray
) -> FloatArray:
    """Resample with the brain as weight: the mean over the part of each voxel that is brain."""
    weighted = resample(np.where(brain, array, np.float32(0)), source, target)
    result: FloatArray = np.divide(weighted, coverage, out=np.zeros_like(weighted), where=coverage >= 0.5)
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


def _shape(case: Case) -> Shape:
    height, width, length = case.brain.shape
    return (height, width, length)


def _require_positive(spacing: float) -> None:
    if not spacing > 0:
        raise UsageError(f"spacing must be a positive number of mm, not {spacing:g}")
