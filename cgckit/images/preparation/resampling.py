"""From one working grid to another."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from cgckit.errors import UsageError
from cgckit.images.case import Case
from cgckit.images.grid import resample
from cgckit.images.working_grid import brain_on, resample_inside


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
