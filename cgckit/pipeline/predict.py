"""Segmenting new scans with a model that is already trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cgckit.cgc.model_files import load_model
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.preparation import IMAGE_SPACING, prepare
from cgckit.pipeline.console import progress_bars
from cgckit.pipeline.provenance import choose_device, machine, run_key, versions
from cgckit.pipeline.segmentation import find_cohort, write_refined
from cgckit.pipeline.workspace import Workspace


def predict(
    inputs: Cohort | str | Path | Sequence[str | Path],
    model: str | Path,
    out: str | Path,
    *,
    allow_missing: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Path]:
    """Segment new scans with a model that `refine` trained; neither prior nor training is needed.

    An interrupted call continues when it is made again: finished subjects are kept.

    Args:
        inputs: a cohort, or what `Cohort.find` takes. It needs the modalities that the model was trained on.
        model: the output folder of `refine`, or the model folder in it.
        out: folder of the outputs, named as BIDS derivatives.
        allow_missing: accept subjects that lack a modality; the channel is zero then.
        device: "auto", "cpu", "cuda" or "cuda:N".
        overwrite: replace what another run left in `out`.
        progress: show a progress bar on stderr.

    Returns:
        The path of each subject's mask, by label.

    Raises:
        BadInputError: a file or model that cannot be used, or an `out` that cannot be written.
        UsageError: unknown device, or `out` holds another run.
    """
    where = choose_device(device)
    trained = load_model(Path(model), where)
    cohort = find_cohort(inputs, trained.modalities, allow_missing)
    depends = {
        "options": {"model": trained.fingerprint(), "modalities": list(cohort.modalities)},
        "inputs": {subject.label: subject.fingerprint() for subject in cohort},
        "versions": versions(),
    }
    workspace = Workspace(Path(out), run_key(depends), overwrite)

    def segment_subject(subject: Subject) -> dict[str, Any]:
        case = prepare(subject, cohort.modalities, IMAGE_SPACING)
        refined = write_refined(workspace.out, trained, subject, case)
        name = f"sub-{subject.label}"
        return {"participant_id": name, "source": subject.source, "refined_ml": round(refined.volume_ml, 3)}

    facts = {**depends, "machine": machine(where)}
    with workspace.session(cohort, facts), progress_bars(progress) as bars:
        task = bars.add_task("inference", total=len(cohort), note="")
        rows = []
        for subject in cohort:
            bars.update(task, note=subject.label)
            rows.append(workspace.once("refined", subject.label, partial(segment_subject, subject)))
            bars.advance(task)
        workspace.out.write_table("summary.tsv", rows)
    return {subject.label: workspace.out.refined_mask(subject.label) for subject in cohort}
