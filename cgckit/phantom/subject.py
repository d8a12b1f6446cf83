"""`PhantomSubject`: one simulated subject with its reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cgckit.arrays import BoolArray, ShortArray
from cgckit.images.grid import Grid
from cgckit.phantom.anatomy import simulate_anatomy
from cgckit.phantom.bleeding import plan_bleeding, simulate_bleeding
from cgckit.phantom.head import plan_head, simulate_head
from cgckit.phantom.imaging import acquire, plan_imaging
from cgckit.phantom.lesions import count_components, grow_lesions, plan_lesions
from cgckit.phantom.tomography import plan_tomography, scan


@dataclass(frozen=True, eq=False)
class PhantomSubject:
    """One simulated subject.

    Attributes:
        label: `sub-001` for index 0.
        images: [H, W, L] int16 of each modality: `flair` and `t1`, 0 outside the brain; or `ct`, a whole head in
            Hounsfield units.
        lesion: [H, W, L] bool, the reference.
        brain: [H, W, L] bool; for CT all that is inside the skull.
        grid: where the voxels lie.
        summary: what was simulated, for a table.
        plans: what was planned, by name and as plain values.
    """

    label: str
    images: Mapping[str, ShortArray]
    lesion: BoolArray
    brain: BoolArray
    grid: Grid
    summary: Mapping[str, Any]
    plans: Mapping[str, Any]


def subject_label(index: int) -> str:
    """Name of the subject `index`, counted from 0, in files and tables."""
    return f"sub-{index + 1:03d}"


def simulate_subject(seed: int, index: int) -> PhantomSubject:
    """Simulate FLAIR and T1 of subject `index` (from 0) of the cohort `seed`; the same whatever the cohort's size.

    Example:
        >>> subject = simulate_subject(seed=0, index=0)
        >>> subject.label, subject.images["flair"].dtype
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
        images={"flair": flair, "t1": t1},
        lesion=lesions.mask,
        brain=anatomy.brain,
        grid=anatomy.grid,
        summary={
            **_extent(lesions.mask, anatomy.grid),
            "contrast": round(disease.contrast, 3),
            "dark_core": max(disease.core) > 0,
            "noise": round(imaging.noise, 4),
        },
        plans={"disease": asdict(disease), "imaging": asdict(imaging)},
    )


def simulate_ct_subject(seed: int, index: int) -> PhantomSubject:
    """Simulate a head CT with bleeding of subject `index` (from 0) of the cohort `seed`, likewise."""
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence([seed, index, 1]).spawn(5)]
    disease = plan_bleeding(streams[0], seed, index)
    skull = plan_head(streams[1])
    imaging = plan_tomography(streams[3], seed, index)
    anatomy = simulate_anatomy(streams[2])
    head = simulate_head(streams[1], anatomy, skull)
    bleeding = simulate_bleeding(streams[0], anatomy, head, disease)
    found = scan(streams[4], anatomy, head, bleeding, imaging)
    return PhantomSubject(
        label=subject_label(index),
        images={"ct": found.image},
        lesion=found.lesion,
        brain=found.brain,
        grid=found.grid,
        summary={
            **_extent(found.lesion, found.grid),
            "kinds": "+".join(disease.kinds),
            "density": round(disease.density, 1),
            "slice_mm": imaging.thickness,
            "noise": round(imaging.noise, 2),
        },
        plans={"disease": asdict(disease), "head": asdict(skull), "imaging": asdict(imaging)},
    )


def _extent(lesion: BoolArray, grid: Grid) -> dict[str, float | int]:
    """Volume and number of separate lesions in the reference; planned lesions may have merged."""
    volume = float(lesion.sum() * np.prod(grid.spacing) / 1000)
    return {"lesion_ml": round(volume, 3), "lesions": count_components(lesion)}
