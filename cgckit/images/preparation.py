"""From a subject to a `Case`, and from one working grid to a coarser one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cgckit.errors import BadInputError, UsageError
from cgckit.images.brain import BrainExtractor, extract_brain, read_brain_mask
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.images.grid import resample
from cgckit.images.working_grid import brain_on, common_grid, resample_inside, to_working_grid


def prepare(subject: Subject, modalities: Sequence[str], brain: BrainExtractor) -> Case:
    """Bring a subject's images to the working grid, see `cgckit.images.working_grid.to_working_grid`.

    The brain mask is the subject's own file, or found in the images. A subject that was made in memory is a case
    already; its channels are put in order.

    Args:
        subject: the files.
        modalities: the channels, in this order; one that the subject lacks is 0 everywhere.
        brain: finds the brain where no mask is given.

    Returns:
        Case with image [C, H, W, L], on `case.grid`; `case.native` is the files' grid.

    Raises:
        BadInputError: for a file that cannot be used (see `Volume.load`), images on different grids, a brain
            mask that is empty or on another grid, an image that is constant inside the brain, a file that was replaced
            since its fingerprint was taken.
    """
    if subject.case is not None:
        return subject.case.with_channels(modalities)
    with subject.unchanged():
        volumes = {name: subject.load(name) for name in modalities if name in subject.files}
        if not volumes:
            raise BadInputError(f"subject {subject.source} has none of: {', '.join(modalities)}")
        native = common_grid(volumes, subject.source)
        mask = read_brain_mask(subject.brain_mask, native) if subject.brain_mask else extract_brain(brain, volumes)
    found = to_working_grid(volumes, mask, modalities, subject.source)
    return Case(
        subject=subject.label,
        image=torch.from_numpy(found.image),
        brain=torch.from_numpy(found.brain),
        modalities=tuple(modalities),
        spacing=found.grid.spacing,
        grid=found.grid,
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
    if not spacing > 0:
        raise UsageError(f"spacing must be a positive number of mm, not {spacing:g}")
    target = case.grid.isotropic(spacing)
    if target.matches(case.grid):
        return case
    brain = case.brain.cpu().numpy()
    inside, coverage = brain_on(target, brain, case.grid, case.subject)
    image = np.zeros((len(case.modalities), *target.shape), dtype=np.float32)
    for channel, array in enumerate(case.image.cpu().numpy()):
        image[channel, inside] = resample_inside(array, brain, case.grid, target, coverage)[inside]
    return dataclasses.replace(
        case, image=torch.from_numpy(image), brain=torch.from_numpy(inside), spacing=target.spacing, grid=target
    )


def transfer(values: Tensor, source: Case, target: Case) -> Tensor:
    """Bring a map [H, W, L] from the grid of `source` to that of `target`, both cases of one subject."""
    return torch.from_numpy(resample(values.numpy(), source.grid, target.grid))
