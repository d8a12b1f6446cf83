"""`PhantomSubject`: one simulated subject with its reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cgckit.images.grid import Grid
from cgckit.phantom.anatomy import simulate_anatomy
from cgckit.phantom.imaging import Image, ImagingPlan, acquire, plan_imaging
from cgckit.phantom.lesions import LesionPlan, count_components, grow_lesions, plan_lesions


@dataclass(frozen=True, eq=False)
class PhantomSubject:
    """One simulated subject.

    Attributes:
        label: `sub-001` for index 0.
        flair: [H, W, L] int16, 0 outside the brain.
        t1: [H, W, L] int16, 0 outside the brain.
        lesion: [H, W, L] bool, the reference.
        brain: [H, W, L] bool.
        grid: 1 mm, axes to the right, front and top.
        disease: what the lesions were planned to be.
        imaging: how the images were made.
    """

    label: str
    flair: Image
    t1: Image
    lesion: npt.NDArray[np.bool_]
    brain: npt.NDArray[np.bool_]
    grid: Grid
    disease: LesionPlan
    imaging: ImagingPlan

    @property
    def components(self) -> int:
        """Number of separate lesions in the reference; planned lesions may have merged."""
        return count_components(self.lesion)


def subject_label(index: int) -> str:
    """Name of the subject `index`, counted from 0, in files and tables."""
    return f"sub-{index + 1:03d}"


def simulate_subject(seed: int, index: int) -> PhantomSubject:
    """Simulate subject `index` (from 0) of the cohort `seed`; the same whatever the size of the cohort.

    Example:
        >>> subject = simulate_subject(seed=0, index=0)
        >>> subject.label, subject.flair.dtype
        ('sub-001', dtype('int16'))
    """
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence([seed, index]).spawn(4)]
    disease = plan_lesions(streams[0], seed, index)
    imaging = plan_imaging(streams[1])
    anatomy = simulate_anatomy(streams[2])
    lesions = grow_lesions(streams[0], anatomy, disease)
    flair, t1 = acquire(streams[3], anatomy, lesions, disease, imaging)
    return PhantomSubject(
        label=subject_label(index),
        flair=flair,
        t1=t1,
        lesion=lesions.mask,
        brain=anatomy.brain,
        grid=anatomy.grid,
        disease=disease,
        imaging=imaging,
    )
