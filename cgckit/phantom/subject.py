"""`PhantomSubject`: one simulated subject with its reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cgckit.arrays import BoolArray, DoubleArray, ShortArray
from cgckit.images.grid import Grid, resample
from cgckit.phantom.anatomy import simulate_anatomy
from cgckit.phantom.bleeding import plan_bleeding, simulate_bleeding
from cgckit.phantom.head import plan_head, simulate_head
from cgckit.phantom.imaging import acquire, plan_imaging
from cgckit.phantom.lesions import count_components, grow_lesions, plan_lesions
from cgckit.phantom.raw import REFERENCE, plan_moves, scan_head
from cgckit.phantom.tomography import plan_tomography, scan


@dataclass(frozen=True, eq=False)
class PhantomSubject:
    """One simulated subject.

    Attributes:
        label: `sub-001` for index 0.
        images: [H, W, L] int16 of each modality: `flair` and `t1`, 0 outside the brain; or `ct`, a whole head in
            Hounsfield units; or `flair`, `t1` and `t2` of a whole head.
        lesion: [H, W, L] bool, the reference.
        brain: [H, W, L] bool; for CT all that is inside the skull.
        grid: where the voxels lie; of whole heads those of FLAIR and of the masks.
        summary: what was simulated, for a table.
        plans: what was planned, by name and as plain values.
        grids: of the images that lie elsewhere.
        transforms: [4, 4] for each of those: world coordinates there to world coordinates of `grid`, in mm.
    """

    label: str
    images: Mapping[str, ShortArray]
    lesion: BoolArray
    brain: BoolArray
    grid: Grid
    summary: Mapping[str, Any]
    plans: Mapping[str, Any]
    grids: Mapping[str, Grid] = field(default_factory=dict)
    transforms: Mapping[str, DoubleArray] = field(default_factory=dict)

    def prepared(self) -> dict[str, ShortArray]:
        """The images as they are after a perfect registration to `grid` and a perfect extraction of the brain."""
        result = {}
        for name, image in self.images.items():
            if name in self.grids:
                moved = Grid(image.shape, self.transforms[name] @ self.grids[name].affine)
                image = np.rint(resample(image, moved, self.grid)).astype(np.int16)
            result[name] = np.where(self.brain, np.maximum(image, 1), 0).astype(np.int16)
        return result


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


def simulate_raw_subject(seed: int, index: int) -> PhantomSubject:
    """Simulate whole heads in FLAIR, T1 and T2, not aligned, of subject `index` (from 0) of `seed`, likewise."""
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence([seed, index, 2]).spawn(5)]
    disease = plan_lesions(streams[0], seed, index)
    skull = plan_head(streams[1])
    imaging, moves = plan_imaging(streams[3]), plan_moves(streams[3])
    anatomy = simulate_anatomy(streams[2])
    head = simulate_head(streams[1], anatomy, skull)
    lesions = grow_lesions(streams[0], anatomy, disease)
    found = scan_head(streams[4], anatomy, head, lesions, disease, imaging, moves)
    others = [name for name in found.images if name != REFERENCE]
    return PhantomSubject(
        label=subject_label(index),
        images=found.images,
        lesion=found.lesion,
        brain=found.brain,
        grid=found.grids[REFERENCE],
        summary={
            **_extent(found.lesion, found.grids[REFERENCE]),
            "contrast": round(disease.contrast, 3),
            "noise": round(imaging.noise, 4),
            **{f"{name}_mm": round(float(np.linalg.norm(moves[name].shift)), 2) for name in others},
            **{f"{name}_degrees": round(float(np.linalg.norm(moves[name].turn)), 2) for name in others},
        },
        plans={
            "disease": asdict(disease),
            "head": asdict(skull),
            "imaging": asdict(imaging),
            "moves": {name: asdict(move) for name, move in moves.items()},
        },
        grids={name: found.grids[name] for name in others},
        transforms={name: moves[name].back() for name in others},
    )


def _extent(lesion: BoolArray, grid: Grid) -> dict[str, float | int]:
    """Volume and number of separate lesions in the reference; planned lesions may have merged."""
    volume = float(lesion.sum() * np.prod(grid.spacing) / 1000)
    return {"lesion_ml": round(volume, 3), "lesions": count_components(lesion)}
