"""Segmenting new scans with a model that is already trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cgckit.cgc.model import Model
from cgckit.cgc.settings import InferenceSettings
from cgckit.errors import UsageError
from cgckit.images.brain import BrainExtractor
from cgckit.images.preparation import Preparation
from cgckit.images.registration import Registration
from cgckit.jobs import LeftOut, Workers, usable
from cgckit.jobs.console import progress_bars
from cgckit.pipeline.engine import Engine, PredictStep
from cgckit.pipeline.inputs import Inputs, choose_device, find_cohort, output_folder
from cgckit.pipeline.provenance import dependencies, machine, run_key
from cgckit.pipeline.result import Run, SubjectResult, tables_of
from cgckit.pipeline.workspace import Workspace


def predict(
    inputs: Inputs,
    model: str | Path | Model,
    out: str | Path,
    *,
    settings: InferenceSettings | Mapping[str, object] | None = None,
    brain: str | BrainExtractor = "auto",
    registration: str | Registration = "rigid",
    prepared: str | Path | Mapping[str, str] = "auto",
    own_grids: bool = False,
    allow_missing: bool = False,
    device: str = "auto",
    jobs: int = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    strict: bool = True,
    progress: bool = False,
) -> Run:
    """Segment new scans with a model that `refine` trained; neither prior nor training is needed.

    An interrupted call continues when it is made again: finished subjects are kept.

    Args:
        inputs: a cohort, or what `Cohort.find` takes. It needs the modalities that the model was trained on.
        model: the output folder of `refine`, the model folder in it, or a model.
        out: folder of the outputs, named as BIDS derivatives.
        settings: inference settings in place of the model's, or values that replace some of them.
        brain: how the brain is found where no mask is given, see `refine`; so `registration`, `prepared` and
            `own_grids`.
        allow_missing: accept subjects that lack a modality; the channel is zero then.
        device: "auto", "cpu", "cuda" or "cuda:N"; a model that is given itself stays where it is.
        jobs: number of processes that subjects are worked on with, see `refine`; on a GPU this one does it.
        scheduler: address of a dask scheduler whose workers do it, see `refine`.
        overwrite: start over: remove what runs left in `out`, cached priors too.
        strict: let a subject that cannot be used end the run; else it is left out, see `Run.left_out`.
        progress: show a progress bar on stderr.

    Raises:
        BadInputError: a file or model that cannot be used, or an `out` that cannot be written.
        UsageError: unknown device or setting, jobs below 1, no scheduler; or `out` holds another run, an input, the
            model, or files that are not cgckit's, or another run is at work there.
        PluginError: a plug-in failed.
    """
    workers = Workers.of(jobs, scheduler)
    where = choose_device(device)
    preparation = Preparation.of(brain, registration, prepared)
    if not isinstance(model, Model) and _lies_in(Path(model), Path(out)):
        raise UsageError(f"{model}: the model lies in --out, where predictions would replace it; choose another --out")
    trained = model if isinstance(model, Model) else Model.load(Path(model), where)
    trained = trained.with_settings(settings or {})
    left_out = LeftOut(strict)
    cohort = find_cohort(inputs, trained.modalities, allow_missing, preparation, left_out=left_out, name_channels=False)
    folder = output_folder(out, inputs, cohort, left_out=left_out)
    depends = dependencies(cohort, preparation, model=trained.fingerprint())
    key, inference = run_key(depends), trained.settings.inference.to_json()
    made_of = {"run": key, "inference": inference} | ({"own_grids": True} if own_grids else {})
    workspace = Workspace(folder, key, run_key(made_of))
    depends["options"]["inference"] = inference
    engine = Engine(trained.modalities, preparation.kept_in(workspace.prepared), where, own_grids=own_grids)
    on_cpu = next(trained.network.parameters()).device.type == "cpu"
    workers = workers.for_subjects(cohort) if on_cpu else Workers.of(1)
    facts = {**depends, "machine": machine(where)}
    with workspace.session(cohort, facts, workers, overwrite=overwrite), progress_bars(progress) as bars:
        step = PredictStep(workspace.out, engine, trained)
        found = workspace.over(step, cohort, workers, bars, left_out, workspace.maps_key)
        subjects = tuple(
            SubjectResult(
                subject.label,
                subject.source,
                workspace.out.refined_probability(subject.label),
                workspace.out.refined_mask(subject.label),
                refined_ml=found[subject.label]["refined_ml"],
                remarks=(*subject.remarks, *found[subject.label]["remarks"]),
            )
            for subject in usable(cohort, found)
        )
        workspace.write_tables(tables_of(cohort, subjects, left_out))
    return Run(workspace.out.root, subjects, left_out=left_out.reasons())


def _lies_in(model: Path, out: Path) -> bool:
    """Whether an output folder is that of a model, holds it, or is the model's own folder in the output of `refine`."""
    model, out = model.resolve(), out.resolve()
    return out in (model / "model", model, *model.parents)
