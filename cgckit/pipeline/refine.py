"""The main job: scans and a prior in, refined masks and probability maps out."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.progress import Progress

from cgckit.arrays import BoolArray
from cgckit.cgc.crops import write_case
from cgckit.cgc.model_files import CARD, TrainedModel, load_model, save_model
from cgckit.cgc.parts import parts_gone
from cgckit.cgc.presets import Settings, choose_preset
from cgckit.cgc.training import train_network
from cgckit.derivatives import Derivatives
from cgckit.errors import DegeneratePriorError
from cgckit.images.case import to_native
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.preparation import IMAGE_SPACING, prepare
from cgckit.nets.loop import Checkpoint, check_seeds
from cgckit.pipeline.console import progress_bars
from cgckit.pipeline.prior_maps import PriorMaps, prior_files
from cgckit.pipeline.provenance import choose_device, machine, run_key, versions
from cgckit.pipeline.segmentation import Refined, find_cohort, write_refined
from cgckit.pipeline.workspace import Workspace
from cgckit.plugins.registry import prior_identity, resolve_prior
from cgckit.priors.base import Prior

logger = logging.getLogger(__name__)
T = TypeVar("T")

_WORTH_A_REMARK_ML = 0.1
_HEALTH_COLUMNS = ("fraction", "contrast", "components", "largest_ml", "edge_share", "choice")


@dataclass(frozen=True)
class SubjectSummary:
    """One row of `summary.tsv`: volumes in ml on the input's grid, and the prior's label-free `Health`.

    `degenerate` is why the prior was excluded from training, empty if it was not.
    """

    participant_id: str
    source: str
    prior_ml: float
    refined_ml: float
    changed_ml: float
    dice_prior_refined: float
    degenerate: str
    remarks: str
    fraction: float
    contrast: float | None
    components: int
    largest_ml: float
    edge_share: float
    choice: str


@dataclass(frozen=True)
class RefineResult:
    """Where the outputs are, what happened to each subject, and how training ended."""

    out: Path
    subjects: tuple[SubjectSummary, ...]
    training: Mapping[str, Any]

    def mask(self, label: str) -> Path:
        """The refined mask of the subject with that label."""
        return Derivatives(self.out).refined_mask(label)

    def probability(self, label: str) -> Path:
        """The refined probability of the subject with that label."""
        return Derivatives(self.out).refined_probability(label)


def refine(
    inputs: Cohort | str | Path | Sequence[str | Path],
    prior: str | Prior = "gmm",
    out: str | Path = "cgckit-out",
    *,
    preset: str = "auto",
    settings: Mapping[str, object] | None = None,
    prior_options: Sequence[str] | Mapping[str, object] = (),
    modalities: Sequence[str] | None = None,
    allow_missing: bool = False,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    progress: bool = False,
) -> RefineResult:
    """Train the CGC network on a prior's pseudo-labels and write refined masks for every scan. No label is used.

    An interrupted call continues when it is made again with the same arguments, to the same masks: priors are
    cached, training is checkpointed, finished subjects are kept.

    Args:
        inputs: a cohort, or what `Cohort.find` takes: files, a folder of subjects, a table.
        prior: a `Prior`, or a name as on the command line: "gmm", "mumford-shah", "mask:PATTERN", "FILE.py:Class",
            "a+b".
        out: folder of the outputs, named as BIDS derivatives.
        preset: "light", "paper", or "auto", which is "light" with more steps for large cohorts.
        settings: values that replace the preset's, see `cgckit.Settings`.
        prior_options: options of a prior given by name.
        modalities: use only these, in this order.
        allow_missing: accept subjects that lack a modality; the channel is zero then.
        seed: of initialisation and sampling; equal seeds give equal masks on a CPU.
        device: "auto", "cpu", "cuda" or "cuda:N".
        overwrite: replace what another run left in `out`.
        progress: show progress bars on stderr.

    Raises:
        UsageError: unknown prior, option, preset or setting, a seed below 0, or `out` holds another run.
        BadInputError: a file that cannot be used, or an `out` that cannot be written.
        DegeneratePriorError: no subject has a usable prior.
        CgckitError: training diverged.
        PluginError: the prior itself failed.
    """
    check_seeds([seed])
    source = prior if isinstance(prior, Prior) else resolve_prior(prior, prior_options)
    where = choose_device(device)
    cohort = find_cohort(inputs, modalities, allow_missing)
    preset, chosen = choose_preset(preset, cohort_size=len(cohort))
    chosen = chosen.override(settings or {})
    run = _Run(cohort, source, Path(out), preset, chosen, seed, where, overwrite)
    with run.workspace.session(cohort, run.facts), progress_bars(progress) as bars:
        return run.execute(bars)


class _Run:
    """One run: what its result depends on, and its steps in order."""

    def __init__(
        self,
        cohort: Cohort,
        prior: Prior,
        out: Path,
        preset: str,
        settings: Settings,
        seed: int,
        device: torch.device,
        overwrite: bool,
    ) -> None:
        self.cohort, self.settings, self.seed, self.device = cohort, settings, seed, device
        depends: dict[str, Any] = {
            "options": {
                "preset": preset,
                "prior": prior_identity(prior),
                "settings": settings.to_json(),
                "modalities": list(cohort.modalities),
                "image_spacing_mm": IMAGE_SPACING,
                "seed": seed,
            },
            "inputs": {subject.label: subject.fingerprint() for subject in cohort},
            "prior_files": prior_files(prior, cohort),
            "versions": versions(),
        }
        self.workspace = Workspace(out, run_key(depends), overwrite)
        self.out = self.workspace.out
        self.maps = PriorMaps(prior, cohort, self.workspace.priors, IMAGE_SPACING)
        self.facts: dict[str, Any] = {**depends, "machine": machine(device), "training": {}, "seconds": {}}

    def execute(self, bars: Progress) -> RefineResult:
        """Take every step that is not done yet."""
        noun = "subject" if len(self.cohort) == 1 else "subjects"
        logger.info("%d %s with %s", len(self.cohort), noun, ", ".join(self.cohort.modalities))
        reports = self._timed("priors", self._compute_priors, bars)
        usable = [subject for subject in self.cohort if not reports[subject.label]["degenerate"]]
        if not usable:
            reasons = "; ".join(f"{label}: {report['degenerate']}" for label, report in reports.items())
            raise DegeneratePriorError(f"no subject has a usable prior ({reasons}); try another --prior or its options")
        model, training = self._timed("training", self._train, usable, bars)
        self.facts["training"] = training
        rows = self._timed("inference", self._segment, model, reports, bars)
        self.out.write_table("summary.tsv", [dataclasses.asdict(row) for row in rows])
        shutil.rmtree(self.workspace.scratch / "examples", ignore_errors=True)
        return RefineResult(self.out.root, tuple(rows), training)

    def _timed(self, name: str, do: Callable[..., T], *arguments: Any) -> T:
        started = time.monotonic()
        result = do(*arguments)
        self.facts["seconds"][name] = round(time.monotonic() - started, 2)
        return result

    def _compute_priors(self, bars: Progress) -> dict[str, dict[str, Any]]:
        """Prior map, brain mask and training example of each subject; gives each prior's report."""
        reports: dict[str, dict[str, Any]] = {}
        task = bars.add_task("priors", total=len(self.cohort), note="")
        for subject in self.cohort:
            bars.update(task, note=subject.label)
            reports[subject.label] = self.workspace.once("priors", subject.label, partial(self._compute_prior, subject))
            bars.advance(task)
        return reports

    def _compute_prior(self, subject: Subject) -> dict[str, Any]:
        case = prepare(subject, self.cohort.modalities, IMAGE_SPACING)
        prior = self.maps(subject, case)
        self.maps.write(self.out, subject, case, prior)
        write_case(self._example(subject), case, prior.probability, self.settings)
        return prior.report()

    def _example(self, subject: Subject) -> Path:
        return self.workspace.scratch / "examples" / f"{subject.label}.safetensors"

    def _train(self, usable: Sequence[Subject], bars: Progress) -> tuple[TrainedModel, dict[str, Any]]:
        """Train on the subjects with a usable prior, or take the model that this run trained before."""
        folder = self.workspace.model
        card = self.workspace.read(folder / CARD)
        if card is not None:
            return load_model(folder, self.device), card["training"]
        for subject in usable:
            if not self._example(subject).exists():
                case = prepare(subject, self.cohort.modalities, IMAGE_SPACING)
                write_case(self._example(subject), case, self.maps(subject, case).probability, self.settings)
        task = bars.add_task("training", total=self.settings.total_steps(len(usable)), note="")

        def show(index: int, scalars: dict[str, float]) -> None:
            bars.update(task, completed=index + 1, note=f"loss {scalars['loss']:.3f}")

        checkpoint = Checkpoint(self.workspace.checkpoint, key=self.workspace.key)
        model, training = train_network(
            [self._example(subject) for subject in usable],
            self.settings,
            self.cohort.modalities,
            seed=self.seed,
            device=self.device,
            checkpoint=checkpoint,
            on_step=show,
        )
        save_model(
            folder,
            model,
            {
                "key": self.workspace.key,
                "versions": versions(),
                "prior": self.facts["options"]["prior"],
                "training": training,
            },
        )
        checkpoint.path.unlink(missing_ok=True)
        # From the disk, as a run that is taken up here gets it: equal weights in another memory layout round otherwise.
        return load_model(folder, self.device), training

    def _segment(
        self, model: TrainedModel, reports: Mapping[str, Mapping[str, Any]], bars: Progress
    ) -> list[SubjectSummary]:
        """Refined probability and mask of each subject, and its row of the summary."""
        rows: list[SubjectSummary] = []
        task = bars.add_task("inference", total=len(self.cohort), note="")
        for subject in self.cohort:
            bars.update(task, note=subject.label)
            row = self.workspace.once(
                "refined", subject.label, partial(self._refine_subject, model, subject, reports[subject.label])
            )
            rows.append(SubjectSummary(**row))
            bars.advance(task)
        return rows

    def _refine_subject(self, model: TrainedModel, subject: Subject, report: Mapping[str, Any]) -> dict[str, Any]:
        case = prepare(subject, self.cohort.modalities, IMAGE_SPACING)
        found = self.maps(subject, case)
        refined = write_refined(self.out, model, subject, case, found.evidence)
        prior = to_native(found.probability.numpy(), case) >= 0.5
        millilitres = refined.voxel_ml
        remarks = [*report["remarks"], *_dropped(prior, refined)]
        overlap, both = int((prior & refined.mask).sum()), int(prior.sum()) + int(refined.mask.sum())
        row = SubjectSummary(
            participant_id=f"sub-{subject.label}",
            source=subject.source,
            prior_ml=round(int(prior.sum()) * millilitres, 3),
            refined_ml=round(int(refined.mask.sum()) * millilitres, 3),
            changed_ml=round(int((prior != refined.mask).sum()) * millilitres, 3),
            dice_prior_refined=round(2 * overlap / both, 4) if both else 1.0,
            degenerate=report["degenerate"] or "",
            remarks="; ".join(remarks),
            **{name: report[name] for name in _HEALTH_COLUMNS},
        )
        return dataclasses.asdict(row)


def _dropped(prior: BoolArray, refined: Refined) -> list[str]:
    """A remark on the parts of the prior's mask that refinement dropped as a whole; specks are not worth one."""
    gone = [voxels for voxels in parts_gone(prior, refined.mask) if voxels * refined.voxel_ml >= _WORTH_A_REMARK_ML]
    if not gone:
        return []
    noun = "part" if len(gone) == 1 else "parts"
    return [f"{len(gone)} {noun} of the prior dropped, {sum(gone) * refined.voxel_ml:.1f} ml"]
