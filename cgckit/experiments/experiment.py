"""`Experiment`: trains arms on a cohort and scores what they find, one unit of work after the other."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from cgckit.arrays import BoolArray
from cgckit.cgc.inference import without_network
from cgckit.cgc.model import Model
from cgckit.cgc.settings import Settings, choose_settings
from cgckit.derivatives import Derivatives, write_volume
from cgckit.errors import UsageError
from cgckit.evaluation.scoring import choose_metrics, score
from cgckit.experiments.arms import APPEARANCE, Arm
from cgckit.experiments.folds import Fold, Unit, held_out, whole
from cgckit.experiments.references import References, best_threshold
from cgckit.experiments.results import NETWORK_ALONE, OUTPUT, Outcome, Results, Scored
from cgckit.images.brain import BrainExtractor, resolve_brain
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.grid import Grid
from cgckit.images.preparation import Preparation
from cgckit.jobs.console import log_file, progress_bars
from cgckit.lock import locked
from cgckit.nets.loop import check_seeds
from cgckit.pipeline.engine import Engine
from cgckit.pipeline.inputs import check_needs, choose_device, find_cohort, output_folder
from cgckit.pipeline.prior_maps import PriorMaps
from cgckit.pipeline.provenance import dependencies, machine, run_key
from cgckit.pipeline.workspace import RECORD, RESULTS
from cgckit.priors.base import Prior
from cgckit.priors.resolve import resolve_prior


class Experiment:
    """A cohort with references, a prior, and the settings that arms change; outcomes go to `out/results.jsonl`.

    A unit is not done again once it is in that file. Priors are computed once and shared by the arms; a prior that
    learns is fitted on the training subjects of each fold. References reach the bounds (`Arm.uses_labels`) and no
    other arm; what is trained on them is always scored on held-out subjects.

    Args:
        cohort: the subjects.
        references: of each of them.
        prior: the source of the pseudo-labels; None where only the supervised arm is run, which needs none.
        settings: of the network, its training and its application.
        out: folder of `results.jsonl` and of `work/` (preparation, priors, trained models), which may be removed when
            all is done.
        brain: how brains are found where no mask is given.
        folds: of cross-validation, see `held_out`.
        hold_out: cross-validate the arms without labels too; else they are trained on all subjects and scored on the
            same, as in `refine`.
        device: to train on.
        keep_masks: keep the mask of each subject in `work/masks`, to be drawn.

    Attributes:
        description: all that the outcomes depend on, as plain JSON values.
        key: its digest.
        results: what is known already; there once `claim` was called.
    """

    results: Results

    def __init__(
        self,
        cohort: Cohort,
        references: References,
        prior: Prior | None,
        settings: Settings,
        out: Path,
        *,
        brain: BrainExtractor,
        folds: int = 5,
        hold_out: bool = False,
        device: torch.device,
        keep_masks: bool = False,
    ) -> None:
        self.cohort, self.references, self.settings = cohort, references, settings
        self.out, self.folds, self.hold_out = out, folds, hold_out
        self.work, self.keep_masks = out / "work", keep_masks
        self.metrics = choose_metrics()
        preparation = Preparation.of(brain).kept_in(self.work / "prepared")
        self.engine = Engine(cohort.modalities, preparation, device)
        self._take(prior)

    def _take(self, prior: Prior | None) -> None:
        """Make it an experiment with this prior."""
        self.prior = prior
        depends = dependencies(self.cohort, self.engine.preparation, prior)
        self.material = {
            **depends.pop("options"),
            **depends,
            "references": self.references.fingerprint(),
            "labels": list(self.references.labels),
        }
        protocol = {"folds": self.folds, "hold_out": self.hold_out}
        self.description = {**self.material, "settings": self.settings.to_json(), "protocol": protocol}
        self.key = run_key(self.description)

    def with_prior(self, prior: Prior) -> Experiment:
        """The same experiment with another prior, whose outcomes go to the same file.

        Raises:
            BadInputError: the prior needs other modalities, or a file that is not there.
            PluginError: the prior failed.
        """
        check_needs(prior, self.cohort.modalities)
        other = copy.copy(self)
        other._take(prior)
        return other

    def claim(self, overwrite: bool = False) -> None:
        """Make the folder this experiment's, and take up what it has found already.

        Args:
            overwrite: replace another experiment's results.

        Raises:
            UsageError: the folder holds another experiment or a run.
            BadInputError: it cannot be written.
        """
        # Results are made to be shown: without the command, which names folders of whoever ran it.
        where = {name: value for name, value in machine(self.engine.device).items() if name != "command"}
        root = Derivatives.create(self.out).root
        if (root / RECORD).exists():
            raise UsageError(f"{self.out}: holds a run, not an experiment; choose another --out")
        self.results = Results(root / RESULTS, {"key": self.key, **self.description, "machine": where}, overwrite)

    @classmethod
    def find(
        cls,
        inputs: str | Path | Sequence[str | Path],
        references: str | Path,
        prior: str | Prior | None,
        out: str | Path,
        *,
        labels: Sequence[int] = (),
        prior_options: Sequence[str] = (),
        preset: str = "auto",
        settings: Mapping[str, object] | None = None,
        brain: str | BrainExtractor = "auto",
        modalities: Sequence[str] | None = None,
        device: str = "auto",
        folds: int = 5,
        hold_out: bool = False,
        keep_masks: bool = False,
        overwrite: bool = False,
    ) -> Experiment:
        """Put an experiment together from what the command line takes, and claim its folder.

        The arguments are those of `cgckit.refine` and `cgckit.evaluate`.

        Raises:
            UsageError: unknown prior, option, preset or setting, or `out` holds another experiment or an input.
            BadInputError: a file that cannot be used, a subject without reference, or an `out` that cannot be written.
        """
        source = None if prior is None else resolve_prior(prior, prior_options)
        where = choose_device(device)
        cohort = find_cohort(inputs, modalities, False, Preparation.of(brain), prior=source)
        folder = output_folder(out, inputs, cohort, source)
        _, chosen = choose_settings(preset, settings, cohort_size=len(cohort))
        experiment = cls(
            cohort,
            References.find(cohort, references, labels),
            source,
            chosen,
            folder,
            brain=resolve_brain(brain),
            folds=folds,
            hold_out=hold_out,
            device=where,
            keep_masks=keep_masks,
        )
        experiment.claim(overwrite)
        return experiment

    def run(self, arms: Sequence[Arm], seeds: Sequence[int] = (0,), *, progress: bool = False) -> list[Outcome]:
        """Do what is not in the results yet: each arm in each of its folds with each seed (the prior has none).

        Returns:
            All outcomes in the results, those of other calls included.

        Raises:
            UsageError: a seed below 0, too few subjects for folds, or another experiment is at work in the folder.
            DegeneratePriorError: no training subject has a usable prior.
        """
        check_seeds(seeds)
        with locked(self.out), log_file(self.out / "cgckit.log"), progress_bars(progress) as bars:
            self.results.reload()  # another process may have been at work here since `claim`
            units = [unit for seed in seeds for unit in self.units(arms, seed) if unit.arm.trained or seed == seeds[0]]
            task = bars.add_task("experiment", total=len(units), note="")
            for unit in units:
                bars.update(task, note=str(unit))
                if self.known(unit) is None:
                    self.results.add(self.compute(unit, bars))
                bars.advance(task)
        return self.results.outcomes

    def units(self, arms: Sequence[Arm], seed: int = 0) -> list[Unit]:
        """The units of some arms; UsageError if there are too few subjects for their folds."""
        return [Unit(arm, fold, seed) for arm in arms for fold in self._folds(arm)]

    def known(self, unit: Unit) -> Outcome | None:
        """The outcome of a unit, if it is in the results, under another arm's name too: that adds a line."""
        known = self.results.find(self.digest(unit), unit.arm.name)
        if known is not None and known.arm != unit.arm.name:
            known = dataclasses.replace(known, arm=unit.arm.name)
            self.results.add(known)
        return known

    def _folds(self, arm: Arm) -> list[Fold]:
        crossed = arm.learns_labels or self.hold_out
        if crossed and not self.hold_out and len(self.cohort) == 1:
            raise UsageError(f"{arm.name} is scored on held-out subjects, of which one has none: leave it out")
        return held_out(self.cohort, self.folds) if crossed else whole(self.cohort)

    def digest(self, unit: Unit) -> str:
        """The same for arms of equal settings, which are trained once."""
        arm, fold = unit.arm, unit.fold
        return run_key(
            {
                "experiment": self.key,
                "target": arm.target,
                **({"epochs": arm.epochs} if arm.epochs else {}),
                "settings": self.settings.override(arm.changes).to_json() if arm.trained else None,
                "seed": unit.seed if arm.trained else None,
                "train": [subject.label for subject in fold.train],
                "test": [subject.label for subject in fold.test],
            }
        )

    def compute(self, unit: Unit, bars: Progress) -> Outcome:
        """Do a unit, which adds nothing to the results.

        Raises:
            DegeneratePriorError: no training subject has a usable prior.
            PluginError: the prior failed.
        """
        arm, fold = unit.arm, unit.fold
        settings = self.settings.override(arm.changes)
        started = time.monotonic()
        engine = self._engine(fold)
        model, training = self._train(engine, unit, settings, bars) if arm.trained else (None, {})
        trained = time.monotonic()
        scores = tuple(item for subject in fold.test for item in self._score(engine, unit, settings, model, subject))
        seconds = {"training": round(trained - started, 1), "scoring": round(time.monotonic() - trained, 1)}
        changes = {name: settings.to_json()[name] for name in arm.changes}
        digest = self.digest(unit)
        return Outcome(arm.name, arm.uses_labels, fold.index, unit.seed, digest, changes, training, seconds, scores)

    def mask(self, unit: Unit, subject: Subject) -> Path:
        """Where the mask of a subject is kept that a unit gave, on the grid of the subject's files."""
        return self.work / "masks" / self.digest(unit) / f"{subject.label}.nii.gz"

    def _engine(self, fold: Fold) -> Engine:
        """The engine with the prior's maps, for which a prior that learns sees the fold's training subjects alone."""
        if self.prior is None:
            return self.engine
        fitted = Cohort(fold.train, self.cohort.modalities)
        files = self.material.get("prior_files", {})
        maps = PriorMaps(self.prior, fitted, self.work / "priors", self.engine.preparation, files=files)
        return dataclasses.replace(self.engine, maps=maps)

    def _train(self, engine: Engine, unit: Unit, settings: Settings, bars: Progress) -> tuple[Model, dict[str, Any]]:
        """Train an arm, or take a model that was trained alike: inference settings may have been others then."""
        arm, fold, seed = unit.arm, unit.fold, unit.seed
        other = ("prior", "prior_files") if arm.uses_labels else ("references", "labels")
        key = run_key(
            {
                "material": {name: value for name, value in self.material.items() if name not in other},
                "target": arm.target,
                "training": settings.training.to_json(),
                "seed": seed,
                "train": [subject.label for subject in fold.train],
            }
        )
        scratch = self.work / "training" / key
        model, training, _ = engine.train(
            fold.train,
            settings,
            seed=seed,
            key=key,
            folder=self.work / "models" / key,
            scratch=scratch,
            bars=bars,
            target=(lambda _, case: self.references.target(case)) if arm.uses_labels else None,
        )
        shutil.rmtree(scratch, ignore_errors=True)
        return model, training

    def _score(
        self, engine: Engine, unit: Unit, settings: Settings, model: Model | None, subject: Subject
    ) -> Iterator[Scored]:
        """Score the arm's output and, where it is mixed with prior and appearance, the network's own map."""
        arm = unit.arm
        case = engine.case(subject)
        reference, grid = self.references.read(case)
        # What is trained on references is scored without the prior.
        prior = None if arm.target == "references" else engine.prior(subject, case)
        if model is not None:
            found = {OUTPUT: engine.segment(model, case, prior)}
            if settings.prior_weight > 0 or settings.appearance_weight > 0:
                alone = model.with_settings({"prior_weight": 0.0, "appearance_weight": 0.0})
                found[NETWORK_ALONE] = engine.segment(alone, case, None)
        else:
            assert prior is not None  # an arm without a network has the prior
            guided = arm.target == APPEARANCE and prior.guide is not None
            probability = without_network(settings, case, prior.probability) if guided else prior.probability
            found = {OUTPUT: case.to_native(probability)}
        for name, native in found.items():
            threshold = best_threshold(native, reference) if arm.target == "threshold" else 0.5
            yield self.judge(unit, subject, name, native >= threshold, reference, grid)

    def judge(
        self, unit: Unit, subject: Subject, name: str, mask: BoolArray, reference: BoolArray, grid: Grid
    ) -> Scored:
        """Score a map of a subject, and keep it if it is the output and masks are kept.

        Args:
            unit: what gave it.
            subject: whose it is.
            name: of the map.
            mask: [H, W, L].
            reference: [H, W, L].
            grid: of both.
        """
        if self.keep_masks and name == OUTPUT:
            write_volume(self.mask(unit, subject), mask.astype(np.uint8), grid)
        return Scored(subject.source, name, score(mask, reference, grid.spacing, self.metrics, forgiving=True))
