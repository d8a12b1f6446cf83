"""`Plan`: what `cgckit.refine` would do with the same arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgckit.arrays import Shape, Spacing
from cgckit.images.cohort import Subject
from cgckit.jobs import over_subjects, usable
from cgckit.jobs.console import progress_bars
from cgckit.jobs.memory import expected
from cgckit.pipeline.inputs import Inputs
from cgckit.pipeline.prior_maps import of_a_subject
from cgckit.pipeline.refinement.refinement import Refinement
from cgckit.priors.base import Prior


@dataclass(frozen=True)
class Planned:
    """One subject as it was found.

    Attributes:
        source: its name in the input.
        modalities: what it has images of.
        shape: of its first scan, on whose grid the maps will be.
        spacing: of the same [mm].
        preparation: what has to be done with its scans first, see `Preparation.outlook`.
        done: what an earlier call of the run did for it: "prior", "map".
    """

    source: str
    modalities: tuple[str, ...]
    shape: Shape
    spacing: Spacing
    preparation: tuple[str, ...]
    done: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        out: its folder.
        subjects: whom it would work on, and with what.
        left_out: who cannot be used, and why, by the name in the input; what only shows in the work is not among it.
        prior: name of the prior.
        preset: the preset that the settings begin with, if any.
        steps: of the training, if all are taken that can be used.
        device: where networks are trained.
        trained: whether the training is done.
        memory: what the processes that work on subjects need together, at the most [bytes]; training is not among it.
    """

    out: Path
    subjects: Sequence[Planned]
    left_out: Mapping[str, str]
    prior: str
    preset: str | None
    steps: int
    device: str
    trained: bool
    memory: float


def plan_refinement(
    inputs: Inputs,
    prior: str | Prior = "gmm",
    out: str | Path = "cgckit-out",
    *,
    overwrite: bool = False,
    progress: bool = False,
    **options: Any,
) -> Plan:
    """Find out what `cgckit.refine` would do; nothing is written.

    All scans are read, so that what is wrong with them is found.

    Args:
        inputs: as those of `cgckit.refine`; so all others.
        prior: the prior.
        out: folder of the outputs.
        overwrite: nothing counts as done.
        progress: show a progress bar on stderr.
        options: of `cgckit.refine`.

    Raises:
        CgckitError: as `cgckit.refine` does for the same arguments before it begins its work.
    """
    run = Refinement.of(inputs, prior, out, overwrite=overwrite, headers_only=True, **options)
    run.workspace.check(run.part.share(run.cohort), overwrite=overwrite)
    kept = None if overwrite else run.engine.kept(run.settings, run.workspace.key, run.workspace.model)

    def look(subject: Subject) -> Planned:
        with of_a_subject():
            needs = run.engine.preparation.outlook(subject, run.cohort.modalities)
        done = []
        if not overwrite and run.workspace.is_done(run.prior_step, subject):
            done.append("prior")
        if kept and run.workspace.is_done(run.refine_step(kept[0]), subject, run.workspace.maps_key):
            done.append("map")
        grid = subject.grid
        return Planned(subject.source, subject.modalities, grid.shape, grid.spacing, needs, tuple(done))

    with progress_bars(progress) as bars:
        found = over_subjects(run.cohort, look, bars, "looking", run.left_out)
    sound = usable(run.cohort, found)
    planned = [found[subject.label] for subject in sound]
    return Plan(
        run.workspace.out.root,
        planned,
        run.left_out.reasons(),
        run.maps.name,
        run.facts["options"]["preset"],
        run.settings.total_steps(len(planned), run.engine.team.size),
        str(run.engine.device),
        kept is not None,
        run.workers.jobs * max(map(expected, sound), default=0.0),
    )
