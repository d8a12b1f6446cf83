"""Small simulated subjects to try plug-ins on."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from cgckit.arrays import Shape
from cgckit.images.case import Case
from cgckit.images.grid import Grid


def simulated_cases(seed: int = 0) -> tuple[Case, ...]:
    """Three small subjects, FLAIR and T1 at 4 mm, on grids of different shapes; the last one has no lesion.

    They are ellipsoidal brains with grey and white matter, ventricles and noise: enough to try a prior's
    interface, no test of its accuracy.
    """
    return (
        _simulate("sim1", (36, 44, 35), seed, lesion_mm=22.0),
        _simulate("sim2", (33, 40, 36), seed + 1, lesion_mm=16.0),
        _simulate("sim3", (34, 42, 34), seed + 2, lesion_mm=0.0),
    )


def _simulate(subject: str, shape: Shape, seed: int, lesion_mm: float) -> Case:
    spacing = 4.0
    random_state = np.random.default_rng(seed)
    axes = [(np.arange(size) - (size - 1) / 2) / (size / 2 - 2) for size in shape]
    position = np.stack(np.meshgrid(*axes, indexing="ij"))
    radius = np.sqrt((position**2).sum(axis=0))
    brain = radius < 1
    folds = ndimage.gaussian_filter(random_state.standard_normal(shape), 1.5)
    white = radius + 0.6 * folds / folds.std() * 0.2 < 0.75
    ventricle = np.sqrt((position[0] / 0.25) ** 2 + (position[1] / 0.4) ** 2 + (position[2] / 0.25) ** 2) < 1
    flair = np.where(white, -0.4, 0.6)
    t1 = np.where(white, 1.0, -0.5)
    flair[ventricle], t1[ventricle] = -3.0, -3.0
    if lesion_mm:
        centre = np.array([0.45, 0.1, 0.15])[:, None, None, None]
        extent = np.array(shape)[:, None, None, None] / 2 * spacing
        lesion = np.sqrt((((position - centre) * extent) ** 2).sum(axis=0)) < lesion_mm
        flair[lesion & brain], t1[lesion & brain] = 3.5, -1.0
    channels = [ndimage.gaussian_filter(channel, 0.5) for channel in (flair, t1)]
    image = np.stack([channel + 0.3 * random_state.standard_normal(shape) for channel in channels]) * brain
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-spacing * (size - 1) / 2 for size in shape]
    grid = Grid(shape, affine)
    return Case(
        subject=subject,
        image=torch.from_numpy(image.astype(np.float32)),
        brain=torch.from_numpy(brain),
        modalities=("flair", "t1"),
        spacing=(spacing, spacing, spacing),
        grid=grid,
        native=grid,
    )
