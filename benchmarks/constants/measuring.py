"""`Measuring`: what prior and refinement reach on a cohort, while a constant has another value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

import cgckit
from benchmarks.constants.inspection import IMAGES, Constant, Value, calls_noted, holders, replaced
from benchmarks.given import Given
from cgckit.arrays import BoolArray
from cgckit.cgc import inference
from cgckit.cgc.model import Model
from cgckit.cgc.settings import Settings
from cgckit.evaluation.scoring import choose_metrics, score
from cgckit.experiments.arms import Arm
from cgckit.experiments.experiment import Experiment
from cgckit.experiments.results import OUTPUT
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.images.preparation import prepare, resample_case
from cgckit.pipeline.health import Health, assess
from cgckit.pipeline.inputs import choose_device
from cgckit.priors.base import Prior, predict_noted
from cgckit.priors.fusion import learns

Dice = dict[str, float]
"""Of every subject, by name."""
PRIOR, WITHOUT, REFINED = "prior", "without network", "refined"
_READ_BY_NETWORK = ("overlap", "mirror")
"""Settings of inference that the network's log-odds depend on; the rest takes them as they are."""


@dataclasses.dataclass
class _Known:
    """One subject, and what no constant of the refinement changes.

    Attributes:
        subject: its files.
        case: as prepared.
        reference: bool [H, W, L], on the files' grid.
        prior: [H, W, L] on the case's grid.
        health: of the prior.
        logits: the network's log-odds, on the network's grid.
    """

    subject: Subject
    case: Case
    reference: BoolArray
    prior: Tensor
    health: Health
    logits: Tensor | None = None


class Measuring:
    """Measures one variation after the other on the same subjects, which stay in memory.

    Args:
        given: cohort, prior and settings.

    Attributes:
        baseline: Dice of the prior, of refinement without network, and of refinement, with all constants as they are.
        called: the modules that had something to do for it.
    """

    def __init__(self, given: Given) -> None:
        self.given = given
        self.metrics = choose_metrics("dice")
        self._known: dict[str, _Known] = {}
        self._model: Model | None = None
        with calls_noted() as self.called:
            prior, without = self._priors(given.prior, remember=True)
        self.baseline = {PRIOR: prior, WITHOUT: without}

    def train(self) -> None:
        """Train the network that refines, or take the one that was trained by an earlier call; measure it."""
        given, out = self.given, self.given.work / "refined"
        cgckit.refine(
            given.cohort, given.prior, out, settings=given.changes, seed=given.seed, overwrite=True, progress=True
        )
        self._model = cgckit.load_model(out, choose_device("auto"))
        for known in self._known.values():
            coarse = resample_case(known.case, self._model.settings.spacing)
            known.logits = inference.network_log_odds(self._model.network, self._model.settings, coarse.image)
        with calls_noted() as called:
            self.baseline[REFINED] = self._refined(self._model)
        self.called |= called

    def vary(self, constant: Constant, value: Value) -> Mapping[str, Dice]:
        """What is reached while a constant has this value: prior and refinement without network, or refinement.

        Raises:
            UsageError: the option or setting may not be that.
            ValueError: a map is no probability any more.
        """
        if constant.kind == "training":
            return {REFINED: self._trained(constant, value)}
        with replaced(constant, value) if constant.in_module else nullcontext():
            if constant.kind == "refinement":
                assert self._model is not None  # `train` was called
                changes = {} if constant.in_module else {constant.name: value}
                return {REFINED: self._refined(self._model.with_settings(changes))}
            prior = self.given.prior
            if not constant.in_module:
                prior = dataclasses.replace(prior, **{constant.name: value})  # type: ignore[type-var]
            again = any(module in IMAGES for module, _ in holders(constant)) if constant.in_module else False
            found, without = self._priors(prior, prepared=not again, anew=constant.in_module)
            return {PRIOR: found, WITHOUT: without}

    def matters(self, constant: Constant) -> bool:
        """Whether a module that holds the constant had anything to do; an option or setting always matters."""
        return not constant.in_module or any(module in self.called for module, _ in holders(constant))

    def _priors(
        self, prior: Prior, *, prepared: bool = True, remember: bool = False, anew: bool = False
    ) -> tuple[Dice, Dice]:
        """Dice of the prior, and of what refinement makes of it without network.

        What is known of a case, as its mid-sagittal plane, is kept with it: it is found `anew` on a copy.
        """
        given, found, without = self.given, {}, {}
        settings: Settings = given.settings
        cases = {}
        for subject in given.cohort:
            if remember or not prepared:
                cases[subject.source] = prepare(subject, given.cohort.modalities, given.brain)
            else:
                case = self._known[subject.source].case
                cases[subject.source] = dataclasses.replace(case) if anew else case
        if learns(prior):
            prior.fit(list(cases.values()))
        for subject in given.cohort:
            name, case = subject.source, cases[subject.source]
            probability = checked(predict_noted(prior, case).probability * case.brain)
            health = assess(case, probability)
            if remember:
                reference, _ = given.references.read(case)
                self._known[name] = _Known(subject, case, reference, probability, health)
            found[name] = self._dice(name, case.to_native(probability))
            # As in refinement, a prior of which nothing can be made stays as it is.
            refined = inference.without_network(settings, case, probability) if health.weighable else probability
            without[name] = self._dice(name, case.to_native(checked(refined)))
        return found, without

    def _refined(self, model: Model) -> Dice:
        """Dice of what the trained network makes of the priors as they are, with its log-odds if they are the same."""
        assert self._model is not None
        same = all(getattr(model.settings, name) == getattr(self._model.settings, name) for name in _READ_BY_NETWORK)
        found = {}
        for name, known in self._known.items():
            doubtful = known.health.degenerate is not None
            guide = known.prior if known.health.weighable else None
            logits = known.logits
            with (
                patch.object(inference, "network_log_odds", lambda *_, logits=logits: logits) if same else nullcontext()
            ):
                probability = model.segment(known.case, guide, doubtful=doubtful)
            found[name] = self._dice(name, checked(torch.from_numpy(probability)).numpy())
        return found

    def _trained(self, constant: Constant, value: Value) -> Dice:
        """Dice of refinement with a network that is trained with another setting; priors are kept for the next one."""
        given = self.given
        experiment = Experiment(
            given.cohort,
            given.references,
            given.prior,
            given.settings,
            given.work / "training",
            brain=given.brain,
            device=choose_device("auto"),
        )
        experiment.metrics = self.metrics
        experiment.claim(overwrite=True)
        # The name is of the value too: an arm that has been run is not run again.
        arm = Arm(f"{constant.name}={value}", changes={constant.name: value})
        outcomes = experiment.run([arm], [given.seed])
        scored = next(outcome for outcome in outcomes if outcome.arm == arm.name).scores
        return {item.subject: round(item.scores["dice"], 6) for item in scored if item.map == OUTPUT}

    def _dice(self, name: str, native: Any) -> float:
        known = self._known[name]
        mask = np.asarray(native) >= 0.5
        return round(score(mask, known.reference, known.case.native.spacing, self.metrics)["dice"], 6)


def checked(probability: Tensor) -> Tensor:
    """The map; ValueError if it is no probability."""
    if not bool(((probability >= 0) & (probability <= 1)).all()):
        raise ValueError("the map is no probability")
    return probability
