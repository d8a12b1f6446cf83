"""Prior maps alone, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cgckit.images.brain import BrainExtractor
from cgckit.images.preparation import Preparation
from cgckit.images.registration import Registration
from cgckit.jobs import LeftOut, Workers
from cgckit.jobs.console import progress_bars
from cgckit.pipeline.engine import Engine, PriorStep
from cgckit.pipeline.inputs import Inputs, choose_device, find_cohort, output_folder
from cgckit.pipeline.prior_maps import PriorMaps
from cgckit.pipeline.provenance import dependencies, run_key
from cgckit.pipeline.result import Run, prior_results, tables_of
from cgckit.pipeline.workspace import Workspace
from cgckit.priors.base import Prior
from cgckit.priors.resolve import resolve_prior


def compute_priors(
    inputs: Inputs,
    prior: str | Prior = "gmm",
    out: str | Path = "cgckit-out",
    *,
    prior_options: Sequence[str] | Mapping[str, object] = (),
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
    """Write each subject's prior probability and brain mask on the input's grid, and a table of the priors' health.

    The arguments are those of `refine`, and the errors too, except that a degenerate prior is reported and not
    an error. Masks and probabilities of the result are the prior's.
    """
    workers = Workers.of(jobs, scheduler)
    source = resolve_prior(prior, prior_options)
    preparation = Preparation.of(brain, registration, prepared)
    left_out = LeftOut(strict)
    cohort = find_cohort(inputs, modalities, allow_missing, preparation, left_out=left_out, prior=source)
    folder = output_folder(out, inputs, cohort, source, left_out)
    depends = dependencies(cohort, preparation, source)
    workspace = Workspace(folder, run_key(depends))
    preparation = preparation.kept_in(workspace.prepared)
    maps = PriorMaps(source, cohort, workspace.priors, preparation, files=depends["prior_files"])
    engine = Engine(cohort.modalities, preparation, choose_device("cpu"), maps)

    step = PriorStep(workspace.out, engine, maps, workspace.scratch)
    workers = workers.for_subjects(cohort)
    with workspace.session(cohort, dict(depends), workers, overwrite=overwrite), progress_bars(progress) as bars:
        found = workspace.over(step, cohort, workers, bars, left_out)
        subjects = prior_results(workspace.out, maps.name, cohort, found)
        workspace.write_tables(tables_of(cohort, subjects, left_out))
    return Run(workspace.out.root, subjects, left_out=left_out.reasons())
