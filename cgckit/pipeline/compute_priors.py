"""Prior maps alone, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cgckit.images.brain import BrainExtractor, resolve_brain
from cgckit.jobs import LeftOut, Workers
from cgckit.pipeline.console import progress_bars
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
    brain: str | BrainExtractor = "coarse",
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
    finder = resolve_brain(brain)
    left_out = LeftOut(strict)
    cohort = find_cohort(inputs, modalities, allow_missing, left_out=left_out, prior=source, brain=finder)
    folder = output_folder(out, inputs, cohort, source, left_out)
    depends = dependencies(cohort, finder, source)
    workspace = Workspace(folder, run_key(depends))
    maps = PriorMaps(source, cohort, workspace.priors, finder, files=depends["prior_files"])
    engine = Engine(cohort.modalities, finder, choose_device("cpu"), maps)

    step = PriorStep(workspace.out, engine, maps, workspace.scratch)
    workers = workers.for_subjects(cohort)
    with workspace.session(cohort, dict(depends), workers, overwrite=overwrite), progress_bars(progress) as bars:
        found = workspace.over(step, cohort, workers, bars, left_out)
        subjects = prior_results(workspace.out, maps.name, cohort, found)
        workspace.write_tables(tables_of(cohort, subjects, left_out))
    return Run(workspace.out.root, subjects, left_out=left_out.reasons())
