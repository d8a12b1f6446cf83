"""`Experiment`: trains arms on a cohort and scores what they find, one unit of work after the other."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from cgckit.cgc.crops import write_case
from cgckit.cgc.inference import segment, without_network
from cgckit.cgc.model_files import TrainedModel
from cgckit.cgc.presets import Settings, choose_preset
from cgckit.cgc.training import train_network
from cgckit.derivatives import Derivatives
from cgckit.errors import DegeneratePriorError, UsageError
from cgckit.evaluation.scoring import choose_metrics, score
from cgckit.experiments.arms import APPEARANCE, Arm
from cgckit.experiments.folds import Fold, held_out, whole
from cgckit.experiments.references import References, best_threshold
from cgckit.experiments.results import NETWORK_ALONE, OUTPUT, Outcome, Results, Scored
from cgckit.images.case import to_native
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.preparation import IMAGE_SPACING, prepare
from cgckit.nets.loop import Checkpoint, check_seeds
from cgckit.pipeline.console import log_file, progress_bars
from cgckit.pipeline.prior_maps import PriorMaps, prior_files
from cgckit.pipeline.provenance import choose_device, machine, run_key, versions
from cgckit.pipeline.segmentation import find_cohort
from cgckit.pipeline.workspace import RECORD, RESULTS
from cgckit.plugins.registry import prior_identity, resolve_prior
from cgckit.priors.base import Prior


class Experiment:
    """A cohort with references, a prior, and the settings that arms change; outcomes go to `out/results.jsonl`.

    A unit, which is one arm in one fold with one seed, is not done again once it is in that file. Priors are computed
    once and shared by the arms; a prior that learns is fitted on the training subjects of each fold. References reach
    the bounds (`Arm.uses_labels`) and no other arm; what is trained on them is always scored on held-out subjects.

    Args:
        cohort: the subjects.
        references: of each of them.
        prior: the source of the pseudo-labels.
        settings: of the network and its training.
        out: folder of `results.jsonl` and of `work/`, which may be removed when all is done.
        folds: of cross-validation, see `held_out`.
        hold_out: cross-validate the arms without labels too; else they are trained on all subjects and scored on the
            same, as in `refine`.
        device: to train on.
        overwrite: replace another experiment's results.

    Raises:
        UsageError: `out` holds another experiment or a run, or there are too few subjects for folds.
    """

    def __init__(
        self,
        cohort: Cohort,
        references: References,
        prior: Prior,
        settings: Settings,
        out: Path,
        *,
        folds: int = 5,
        hold_out: bool = False,
        device: torch.device,
        overwrite: bool = False,
    ) -> None:
        self.cohort, self.references, self.prior, self.settings = cohort, references, prior, settings
        self.out, self.device, self.folds, self.hold_out = out, device, folds, hold_out
        depends: dict[str, Any] = {
            "prior": prior_identity(prior),
            "modalities": list(cohort.modalities),
            "settings": settings.to_json(),
            "protocol": {"folds": folds, "hold_out": hold_out},
            "inputs": {subject.label: subject.fingerprint() for subject in cohort},
            "prior_files": prior_files(prior, cohort),
            "references": references.fingerprint(),
            "labels": list(references.labels),
            "versions": versions(),
        }
        self.key = run_key(depends)
        # Results are made to be shown: without the command, which names folders of whoever ran it.
        where = {name: value for name, value in machine(device).items() if name != "command"}
        description = {"key": self.key, **depends, "machine": where}
        root = Derivatives.create(out).root
        if (root / RECORD).exists():
            raise UsageError(f"{out}: holds a run, not an experiment; choose another --out")
        self.results = Results(root / RESULTS, description, overwrite)
        self.work = out / "work"
        self.metrics = choose_metrics()

    @classmethod
    def find(
        cls,
        inputs: str | Path | Sequence[str | Path],
        references: str | Path,
        prior: str | Prior,
        out: str | Path,
        *,
        labels: Sequence[int] = (),
        prior_options: Sequence[str] = (),
        preset: str = "auto",
        settings: Mapping[str, object] | None = None,
        modalities: Sequence[str] | None = None,
        device: str = "auto",
        folds: int = 5,
        hold_out: bool = False,
        overwrite: bool = False,
    ) -> Experiment:
        """Put an experiment together from what the command line takes; see `cgckit.refine` and `cgckit.evaluate`.

        Raises:
            UsageError: unknown prior, option, preset or setting, or `out` holds another experiment.
            BadInputError: a file that cannot be used, a subject without reference, or an `out` that cannot be written.
        """
        source = prior if isinstance(prior, Prior) else resolve_prior(prior, prior_options)
        where = choose_device(device)
        cohort = find_cohort(inputs, modalities, allow_missing=False)
        _, chosen = choose_preset(preset, cohort_size=len(cohort))
        return cls(
            cohort,
            References.find(cohort, references, labels),
            source,
            chosen.override(settings or {}),
            Path(out),
            folds=folds,
            hold_out=hold_out,
            device=where,
            overwrite=overwrite,
        )

    def run(self, arms: Sequence[Arm], seeds: Sequence[int] = (0,), *, progress: bool = False) -> list[Outcome]:
        """Do what is not in the results yet: each arm in each of its folds with each seed (the prior has none).

        Returns:
            All outcomes in the results, those of other calls included.

        Raises:
            UsageError: a seed below 0, or too few subjects for folds.
            DegeneratePriorError: no training subject has a usable prior.
        """
        check_seeds(seeds)
        with log_file(self.out / "cgckit.log"), progress_bars(progress) as bars:
            units = [
                (arm, fold, seed)
                for seed in seeds
                for arm in arms
                for fold in self._folds(arm)
                if arm.trained or seed == seeds[0]
            ]
            task = bars.add_task("experiment", total=len(units), note="")
            for arm, fold, seed in units:
                where = "" if fold.index is None else f", fold {fold.index + 1}"
                bars.update(task, note=f"{arm.name}{where}, seed {seed}")
                self._unit(arm, fold, seed, bars)
                bars.advance(task)
        return self.results.outcomes

    def _folds(self, arm: Arm) -> list[Fold]:
        crossed = arm.target == "references" or self.hold_out
        if crossed and not self.hold_out and len(self.cohort) == 1:
            raise UsageError(f"{arm.name} is scored on held-out subjects, of which one has none: choose other --arms")
        return held_out(self.cohort, self.folds) if crossed else whole(self.cohort)

    def _unit(self, arm: Arm, fold: Fold, seed: int, bars: Progress) -> None:
        unit = self._digest(arm, fold, seed)
        known = self.results.find(unit, arm.name)
        if known is None:
            self.results.add(self._compute(arm, fold, seed, unit, bars))
        elif known.arm != arm.name:
            self.results.add(dataclasses.replace(known, arm=arm.name))

    def _digest(self, arm: Arm, fold: Fold, seed: int) -> str:
        """The same for arms of equal settings, which are trained once."""
        return run_key(
            {
                "experiment": self.key,
                "target": arm.target,
                "settings": self.settings.override(arm.changes).to_json() if arm.trained else None,
                "seed": seed if arm.trained else None,
                "train": [subject.label for subject in fold.train],
                "test": [subject.label for subject in fold.test],
            }
        )

    def _compute(self, arm: Arm, fold: Fold, seed: int, unit: str, bars: Progress) -> Outcome:
        maps = PriorMaps(self.prior, Cohort(fold.train, self.cohort.modalities), self.work / "priors", IMAGE_SPACING)
        settings = self.settings.override(arm.changes)
        started = time.monotonic()
        model, training = self._train(arm, settings, fold, seed, unit, maps, bars) if arm.trained else (None, {})
        trained = time.monotonic()
        scores = tuple(item for subject in fold.test for item in self._score(arm, model, maps, subject))
        seconds = {"training": round(trained - started, 1), "scoring": round(time.monotonic() - trained, 1)}
        changes = {name: settings.to_json()[name] for name in arm.changes}
        return Outcome(arm.name, arm.uses_labels, fold.index, seed, unit, changes, training, seconds, scores)

    def _train(
        self, arm: Arm, settings: Settings, fold: Fold, seed: int, unit: str, maps: PriorMaps, bars: Progress
    ) -> tuple[TrainedModel, dict[str, Any]]:
        folder = self.work / "examples" / unit
        examples = self._examples(arm, settings, fold, maps, folder)
        task = bars.add_task("training", total=settings.total_steps(len(examples)), note="")
        checkpoint = Checkpoint(self.work / "checkpoint.safetensors", key=unit)
        model, training = train_network(
            examples,
            settings,
            self.cohort.modalities,
            seed=seed,
            device=self.device,
            checkpoint=checkpoint,
            on_step=lambda index, scalars: bars.update(task, completed=index + 1, note=f"loss {scalars['loss']:.3f}"),
        )
        bars.remove_task(task)
        checkpoint.path.unlink(missing_ok=True)
        shutil.rmtree(folder)
        return model, {"subjects": len(examples), **training}

    def _examples(self, arm: Arm, settings: Settings, fold: Fold, maps: PriorMaps, folder: Path) -> list[Path]:
        """Training examples of a fold; as in `refine`, subjects with a degenerate prior are left out."""
        examples = []
        for subject in fold.train:
            case = prepare(subject, self.cohort.modalities, IMAGE_SPACING)
            target = self.references.target(case) if arm.uses_labels else maps(subject, case).target
            if target is not None:
                examples.append(folder / f"{subject.label}.safetensors")
                write_case(examples[-1], case, target, settings)
        if not examples:
            raise DegeneratePriorError("no subject has a usable prior to train on; try another --prior or its options")
        return examples

    def _score(self, arm: Arm, model: TrainedModel | None, maps: PriorMaps, subject: Subject) -> Iterator[Scored]:
        """Score the arm's output and, where it is mixed with other evidence, the network's own map."""
        case = prepare(subject, self.cohort.modalities, IMAGE_SPACING)
        reference, grid = self.references.read(case)
        if model is None:
            prior = maps(subject, case)
            found = {OUTPUT: prior.probability}
            if arm.target == APPEARANCE and prior.evidence is not None:
                found = {OUTPUT: without_network(self.settings, case, prior.evidence)}
        else:
            found = {OUTPUT: segment(model, case, None if arm.uses_labels else maps(subject, case).evidence)}
            if model.settings.prior_weight > 0 or model.settings.appearance_weight > 0:
                found[NETWORK_ALONE] = segment(_alone(model), case)
        for name, probability in found.items():
            native = to_native(probability.numpy(), case)
            threshold = best_threshold(native, reference) if arm.target == "threshold" else 0.5
            yield Scored(subject.source, name, score(native >= threshold, reference, grid.spacing, self.metrics))


def _alone(model: TrainedModel) -> TrainedModel:
    """The same network, with nothing added to what it says."""
    return dataclasses.replace(model, settings=model.settings.override({"prior_weight": 0.0, "appearance_weight": 0.0}))
