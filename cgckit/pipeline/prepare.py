"""Preparation alone: whole heads of several grids in, aligned brains on one grid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgckit.arrays import FloatArray
from cgckit.derivatives import Derivatives, participant
from cgckit.images.brain import BrainExtractor
from cgckit.images.cohort import Subject
from cgckit.images.grid import Grid, resample
from cgckit.images.preparation import Preparation, Prepared
from cgckit.images.registration import Registration, angle, distance
from cgckit.images.volume import Volume
from cgckit.jobs import LeftOut, Step, Workers, usable
from cgckit.jobs.console import progress_bars
from cgckit.pipeline.inputs import Inputs, find_cohort, output_folder
from cgckit.pipeline.prior_maps import of_a_subject
from cgckit.pipeline.provenance import dependencies, run_key
from cgckit.pipeline.result import Run, SubjectResult
from cgckit.pipeline.workspace import Workspace

TABLE = "prepared.tsv"
"""The table of the scans that preparation wrote: what `Cohort.find` reads."""

# Around a brain in CT, where 0 would be water.
_AIR, _HOUNSFIELD = -1000.0, -500.0


def prepare(
    inputs: Inputs,
    out: str | Path,
    *,
    brain: str | BrainExtractor = "auto",
    registration: str | Registration = "rigid",
    prepared: str | Path | Mapping[str, str] = "auto",
    modalities: Sequence[str] | None = None,
    allow_missing: bool = False,
    jobs: int = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    strict: bool = True,
    progress: bool = False,
) -> Run:
    """Write each subject's scans aligned and stripped, on the grid of the first, with the brain mask.

    `refine` does the same by itself and resamples once; this is for looking at it, and for other programs. An
    interrupted call continues when it is made again. `prepared.tsv` in the folder is a table of all that was written,
    as `refine` takes it; `summary.tsv` says how far each scan was moved, and what found the brain.

    The arguments are those of `refine`, and so are the errors.
    """
    workers = Workers.of(jobs, scheduler)
    how = Preparation.of(brain, registration, prepared)
    left_out = LeftOut(strict)
    cohort = find_cohort(inputs, modalities, allow_missing, how, left_out=left_out)
    folder = output_folder(out, inputs, cohort, left_out=left_out)
    depends = dependencies(cohort, how)
    workspace = Workspace(folder, run_key({**depends, "stage": PrepareStep.stage}))
    step = PrepareStep(workspace.out, how.kept_in(workspace.prepared), cohort.modalities)
    workers = workers.for_subjects(cohort)
    with workspace.session(cohort, dict(depends), workers, overwrite=overwrite), progress_bars(progress) as bars:
        found = workspace.over(step, cohort, workers, bars, left_out)
        done = usable(cohort, found)
        rows = [{**participant(subject.label, subject.source), **found[subject.label]} for subject in done]
        for row in rows:
            row["remarks"] = "; ".join(row["remarks"])
        workspace.write_tables({"summary.tsv": [*rows, *left_out.rows()], TABLE: _table(step, done)})
    results = tuple(
        SubjectResult(
            subject.label,
            subject.source,
            workspace.out.brain_mask(subject.label),
            workspace.out.brain_mask(subject.label),
            remarks=tuple(found[subject.label]["remarks"]),
        )
        for subject in done
    )
    return Run(workspace.out.root, results, left_out=left_out.reasons())


def _table(step: PrepareStep, subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """A row for each subject, as tables of cohorts have it; paths are from the folder."""
    root = step.out.root
    return [
        {
            "subject": subject.source,
            **{
                name: step.out.preparation(subject.label, name).relative_to(root).as_posix()
                if name in subject.modalities
                else None
                for name in step.modalities
            },
            "brain_mask": step.out.brain_mask(subject.label).relative_to(root).as_posix(),
        }
        for subject in subjects
    ]


@dataclass(frozen=True)
class PrepareStep(Step[tuple[dict[str, Volume], Prepared]]):
    """The scans of a subject on the grid of the first, 0 outside the brain (CT: air), and the brain mask.

    Attributes:
        out: where they go.
        how: prepares them.
        modalities: of the cohort.
    """

    stage = "preparation"

    out: Derivatives
    how: Preparation
    modalities: tuple[str, ...]

    def files(self, subject: Subject) -> list[Path]:
        scans = [self.out.preparation(subject.label, name) for name in self.modalities if name in subject.modalities]
        return [self.out.brain_mask(subject.label), *scans]

    def read(self, subject: Subject) -> tuple[dict[str, Volume], Prepared]:
        with of_a_subject():
            return self.how.scans(subject, self.modalities)

    def write(self, subject: Subject, given: tuple[dict[str, Volume], Prepared]) -> dict[str, Any]:
        """Row of `summary.tsv`: the brain's volume, how far scans were moved, and remarks."""
        volumes, prepared = given
        native = next(iter(volumes.values())).grid
        self.out.write_brain(subject.label, prepared.brain, subject.frame)
        for name, volume in volumes.items():
            array = np.where(prepared.brain, _on(native, volume), _around(volume))
            about: dict[str, object] = {"SkullStripped": True}
            if name in prepared.moves:
                about["WorldToReference"] = prepared.moves[name].tolist()
            self.out.write_preparation(subject.label, name, array, native, subject.files[name], about)
        moved = {f"{name}_mm": round(distance(matrix, native), 2) for name, matrix in prepared.moves.items()}
        turned = {f"{name}_degrees": round(angle(matrix), 2) for name, matrix in prepared.moves.items()}
        volume_ml = float(prepared.brain.sum() * np.prod(native.spacing)) / 1000
        remarks = [*subject.remarks, *prepared.notes]
        return {"brain_ml": round(volume_ml, 1), **moved, **turned, "remarks": remarks}


def _on(grid: Grid, volume: Volume) -> FloatArray:
    """A scan on another grid; on its own as it is."""
    return volume.array if volume.grid.matches(grid) else resample(volume.array, volume.grid, grid)


def _around(volume: Volume) -> float:
    """What is written outside the brain."""
    return _AIR if float(volume.array.min()) < _HOUNSFIELD else 0.0
