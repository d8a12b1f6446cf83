"""Prior maps alone, without training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cgckit.images.cohort import Cohort, Subject
from cgckit.images.preparation import IMAGE_SPACING, prepare
from cgckit.pipeline.console import progress_bars
from cgckit.pipeline.prior_maps import PriorMaps, prior_files
from cgckit.pipeline.provenance import run_key, versions
from cgckit.pipeline.segmentation import find_cohort
from cgckit.pipeline.workspace import Workspace
from cgckit.plugins.registry import prior_identity, prior_name, resolve_prior
from cgckit.priors.base import Prior


def compute_priors(
    inputs: Cohort | str | Path | Sequence[str | Path],
    prior: str | Prior = "gmm",
    out: str | Path = "cgckit-out",
    *,
    prior_options: Sequence[str] = (),
    modalities: Sequence[str] | None = None,
    allow_missing: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Path]:
    """Write each subject's prior probability and brain mask on the input's grid, and a table of the priors' health.

    The arguments are those of `refine`, and the errors too, except that a degenerate prior is reported and not
    an error.

    Returns:
        The path of each subject's prior probability, by label.
    """
    source = prior if isinstance(prior, Prior) else resolve_prior(prior, prior_options)
    cohort = find_cohort(inputs, modalities, allow_missing)
    depends: dict[str, Any] = {
        "options": {"prior": prior_identity(source), "modalities": list(cohort.modalities)},
        "inputs": {subject.label: subject.fingerprint() for subject in cohort},
        "prior_files": prior_files(source, cohort),
        "versions": versions(),
    }
    workspace = Workspace(Path(out), run_key(depends), overwrite)
    maps = PriorMaps(source, cohort, workspace.priors, IMAGE_SPACING)

    def compute(subject: Subject) -> dict[str, Any]:
        case = prepare(subject, cohort.modalities, IMAGE_SPACING)
        found = maps(subject, case)
        maps.write(workspace.out, subject, case, found)
        return found.report()

    with workspace.session(cohort, depends), progress_bars(progress) as bars:
        task = bars.add_task("priors", total=len(cohort), note="")
        rows = []
        for subject in cohort:
            bars.update(task, note=subject.label)
            report = workspace.once("priors", subject.label, partial(compute, subject))
            rows.append(
                {
                    "participant_id": f"sub-{subject.label}",
                    "source": subject.source,
                    **report,
                    "remarks": "; ".join(report["remarks"]),
                }
            )
            bars.advance(task)
        workspace.out.write_table("summary.tsv", rows)
    name = prior_name(source)
    return {subject.label: workspace.out.prior_probability(subject.label, name) for subject in cohort}
