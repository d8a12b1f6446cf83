"""Prior maps alone, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cgckit.images.brain import BrainExtractor, resolve_brain
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.pipeline.console import progress_bars
from cgckit.pipeline.engine import Engine, LeftOut, over_subjects, usable
from cgckit.pipeline.health import Health
from cgckit.pipeline.inputs import Inputs, choose_device, find_cohort, output_folder
from cgckit.pipeline.prior_maps import PriorMap, PriorMaps
from cgckit.pipeline.provenance import dependencies, run_key
from cgckit.pipeline.result import Run, SubjectResult, tables_of
from cgckit.pipeline.workspace import Workspace
from cgckit.priors.base import Prior
from cgckit.priors.resolve import prior_name, resolve_prior


def compute_priors(
    inputs: Inputs,
    prior: str | Prior = "gmm",
    out: str | Path = "cgckit-out",
    *,
    prior_options: Sequence[str] | Mapping[str, object] = (),
    brain: str | BrainExtractor = "coarse",
    modalities: Sequence[str] | None = None,
    allow_missing: bool = False,
    overwrite: bool = False,
    strict: bool = True,
    progress: bool = False,
) -> Run:
    """Write each subject's prior probability and brain mask on the input's grid, and a table of the priors' health.

    The arguments are those of `refine`, and the errors too, except that a degenerate prior is reported and not
    an error. Masks and probabilities of the result are the prior's.
    """
    source = resolve_prior(prior, prior_options)
    finder = resolve_brain(brain)
    left_out = LeftOut(strict)
    cohort = find_cohort(inputs, modalities, allow_missing, left_out=left_out, prior=source, brain=finder)
    folder = output_folder(out, inputs, cohort, source, left_out)
    depends = dependencies(cohort, finder, source)
    workspace = Workspace(folder, run_key(depends))
    maps = PriorMaps(source, cohort, workspace.priors, finder, files=depends["prior_files"])
    engine = Engine(cohort.modalities, finder, choose_device("cpu"), maps)

    def write(subject: Subject, case: Case, found: PriorMap) -> dict[str, Any]:
        maps.write(workspace.out, subject, case, found)
        voxels = int((case.to_native(found.probability) >= 0.5).sum())
        return {**found.report(), "prior_ml": round(voxels * float(np.prod(case.native.spacing)) / 1000, 3)}

    with workspace.session(cohort, dict(depends), overwrite=overwrite), progress_bars(progress) as bars:
        found = over_subjects(
            cohort,
            lambda subject: workspace.once(
                "priors",
                subject,
                lambda: engine.case_and_prior(subject, maps),
                lambda found: write(subject, *found),
                writes=maps.files(workspace.out, subject),
            ),
            bars,
            "priors",
            left_out,
        )
        subjects = []
        for subject in usable(cohort, found):
            report = found[subject.label]
            health = Health.from_json(report["health"])
            path = workspace.out.prior_probability(subject.label, prior_name(source))
            subjects.append(
                SubjectResult(
                    subject.label,
                    subject.source,
                    path,
                    prior_ml=report["prior_ml"],
                    health=health,
                    note=report["note"],
                    remarks=health.remarks,
                )
            )
        workspace.write_tables(tables_of(subjects, left_out))
    return Run(workspace.out.root, tuple(subjects), left_out=left_out.reasons())
