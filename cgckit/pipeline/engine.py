"""`Engine`: how scans are worked on, the same for refinement, prediction, prior maps and experiments."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from cgckit.arrays import BoolArray, FloatArray
from cgckit.cgc.crops import write_case
from cgckit.cgc.model import CARD, Model
from cgckit.cgc.parts import parts_gone
from cgckit.cgc.settings import Settings, TrainingSettings
from cgckit.cgc.training import train_network
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError, DegeneratePriorError
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.images.grid import resample
from cgckit.images.preparation import Preparation
from cgckit.jobs import Step
from cgckit.nets.loop import ALONE, Checkpoint
from cgckit.nets.team import Team
from cgckit.pipeline.prior_maps import PriorMap, PriorMaps, of_a_subject
from cgckit.sealed import DamagedError, is_whole, read_json

logger = logging.getLogger(__name__)

_WORTH_A_REMARK_ML = 0.1
_MUCH_CHANGED = 0.7
_EXAMPLES, _CHECKPOINT = "examples", "checkpoint.safetensors"
WARNING = "warning: "
"""How a remark begins that says that something went wrong, rather than that something is unusual."""
Target = Callable[[Subject, Case], Tensor | None]
"""What the network is to say of a subject, [H, W, L] on the case's grid; None leaves the subject out."""


@dataclass(frozen=True)
class Engine:
    """Decides who is trained on and how a subject is segmented.

    Attributes:
        modalities: the channels that are worked with.
        preparation: how scans become cases.
        device: where networks are trained and applied.
        maps: the priors of the subjects; None where a trained model works alone.
        team: the processes that train together, of which this is the first.
        own_grids: write the refined mask on the grid of every other scan of a subject too.
    """

    modalities: tuple[str, ...]
    preparation: Preparation
    device: torch.device
    maps: PriorMaps | None = None
    team: Team = ALONE
    own_grids: bool = False

    def case(self, subject: Subject) -> Case:
        """The subject on its working grid; UnusableSubjectError if its images cannot be brought there."""
        with of_a_subject():
            return self.preparation.case(subject, self.modalities)

    def prior(self, subject: Subject, case: Case) -> PriorMap | None:
        """The subject's prior, if there is one."""
        return None if self.maps is None else self.maps(subject, case)

    def case_and_prior(self, subject: Subject, maps: PriorMaps) -> tuple[Case, PriorMap]:
        """The subject on its working grid, and its prior; errors as `case`."""
        case = self.case(subject)
        return case, maps(subject, case)

    def write_example(
        self, scratch: Path, subject: Subject, case: Case, target: Tensor, settings: TrainingSettings
    ) -> Path:
        """Write what a subject adds to the training; `train` finds it there."""
        path = scratch / _EXAMPLES / f"{subject.label}.safetensors"
        write_case(path, case, target, settings)
        return path

    def train(
        self,
        subjects: Sequence[Subject],
        settings: Settings,
        *,
        seed: int,
        key: str,
        folder: Path,
        scratch: Path,
        bars: Progress,
        target: Target | None = None,
        provenance: Mapping[str, object] | None = None,
    ) -> tuple[Model, dict[str, Any], bool]:
        """The model in `folder`, if it was trained under `key`; else a new one, trained on who has a target.

        What was damaged on disk, the model or an example, is made anew, with a warning.

        Args:
            subjects: whom to train on.
            settings: of the training, and those that the model is applied with.
            seed: of initialisation and sampling.
            key: digest of everything that the training depends on.
            folder: of the model.
            scratch: for examples and checkpoint, with which an interrupted training goes on.
            bars: shows how far it is.
            target: by default the subject's prior, unless it is degenerate.
            provenance: written beside the model.

        Returns:
            The model, what `cgckit.cgc.training.train_network` says of its training, and whether it was trained now.

        Raises:
            DegeneratePriorError: nobody has a target.
            CgckitError: training diverged.
        """
        if (found := self.trained(settings, key, folder)) is not None:
            _tidy(scratch)  # a call that was killed may have saved the model and no more
            return *found, False
        reasons: dict[str, str] = {}
        examples = []
        for subject in subjects:
            path = scratch / _EXAMPLES / f"{subject.label}.safetensors"
            if not is_whole(path):
                if path.exists():
                    logger.warning("%s is damaged and is made again", path)
                case = self.case(subject)
                wanted = self._prior_target(subject, case, reasons) if target is None else target(subject, case)
                if wanted is None:
                    continue
                self.write_example(scratch, subject, case, wanted, settings)
            examples.append(path)
        if not examples:
            why = "; ".join(f"{label}: {reason}" for label, reason in reasons.items())
            raise DegeneratePriorError(f"no subject has a usable prior ({why}); try another --prior or its options")
        task = bars.add_task("training", total=settings.total_steps(len(examples), self.team.size), note="")
        # By another number of processes it would be another training: that one starts over.
        own = key if self.team.size == 1 else f"{key}-{self.team.size}"
        checkpoint = Checkpoint(scratch / _CHECKPOINT, key=own)
        order: dict[str, Any] = {
            "examples": examples,
            "settings": settings.training,
            "modalities": self.modalities,
            "seed": seed,
            "checkpoint": checkpoint,
        }
        with self.team.at_work(order):
            network, training = train_network(
                **order,
                device=self.device,
                team=self.team,
                on_step=lambda index, scalars: bars.update(
                    task, completed=index + 1, note=f"loss {scalars['loss']:.3f}"
                ),
            )
        training = {"subjects": len(examples), **training}
        trained = Model(network, settings, self.modalities)
        trained.save(folder, {"key": key, **(provenance or {}), "training": training})
        _tidy(scratch)
        # From the disk, as a run that is taken up here gets it: equal weights in another memory layout round otherwise.
        return Model.load(folder, self.device), training, True

    def trained(self, settings: Settings, key: str, folder: Path) -> tuple[Model, dict[str, Any]] | None:
        """The model in `folder`, to be applied with `settings`, and what is said of its training under `key`.

        None if there is none, or it is damaged. Whoever takes the model up applies it with these settings too.
        """
        found = self.kept(settings, key, folder)
        if found is None:
            return None
        model, card, is_other = found
        if is_other:
            model.save(folder, card)
        return model, card["training"]

    def kept(self, settings: Settings, key: str, folder: Path) -> tuple[Model, dict[str, Any], bool] | None:
        """The model of `trained`, its card, and whether it has other settings there; nothing is written."""
        card = _read_card(folder)
        known = self._known(folder) if card.get("key") == key and "training" in card else None
        if known is None:
            return None
        model = known.with_settings(settings.inference)
        return model, card, model.settings != known.settings

    def _known(self, folder: Path) -> Model | None:
        """The model in a folder, unless it is damaged."""
        try:
            return Model.load(folder, self.device)
        except BadInputError as error:
            logger.warning("%s: it is trained again", error)
            return None

    def segment(self, model: Model, case: Case, prior: PriorMap | None) -> FloatArray:
        """Probability of lesion on the grid of the subject's files, [H, W, L]; a prior is weighed if it may be."""
        return model.segment(case, prior.guide if prior else None, doubtful=_is_doubtful(prior))

    def write_refined(
        self, out: Derivatives, model: Model, subject: Subject, case: Case, prior: PriorMap | None = None
    ) -> Refined:
        """Segment one subject and write its probability and its mask (probability of 0.5 or more).

        With the setting `uncertainty_views` its uncertainty is written too; without, what an earlier call left is
        removed.
        """
        probability, judged = model.judge(case, prior.guide if prior else None, doubtful=_is_doubtful(prior))
        mask = probability >= 0.5
        out.write_probability(subject.label, probability, subject.frame)
        out.write_mask(subject.label, mask, subject.frame)
        for name in list(subject.files)[1:]:
            if name in self._others(subject):
                there = resample(probability, case.native, case.places[name])
                out.write_mask_on(subject.label, name, there >= 0.5, subject.files[name])
            else:  # what an earlier call left
                out.remove(out.refined_mask_on(subject.label, name))
        if model.settings.uncertainty_views:
            deviation = model.uncertainty(case, prior.guide if prior else None, doubtful=_is_doubtful(prior))
            out.write_uncertainty(subject.label, deviation, subject.frame)
        else:
            out.remove(out.refined_uncertainty(subject.label))
        return Refined(mask, float(np.prod(case.native.spacing)) / 1000, judged.doubted_ml, judged.learnt)

    def refined_files(self, out: Derivatives, model: Model, subject: Subject) -> list[Path]:
        """The images that `write_refined` writes."""
        files = [out.refined_probability(subject.label), out.refined_mask(subject.label)]
        files += [out.refined_mask_on(subject.label, name) for name in self._others(subject)]
        return files + [out.refined_uncertainty(subject.label)] * bool(model.settings.uncertainty_views)

    def _others(self, subject: Subject) -> list[str]:
        """The scans whose own grids masks are wanted on besides that of the first."""
        return [name for name in self.modalities if name in subject.files][1:] if self.own_grids else []

    def _prior_target(self, subject: Subject, case: Case, reasons: dict[str, str]) -> Tensor | None:
        prior = self.prior(subject, case)
        if prior is None or prior.target is None:
            reasons[subject.label] = (prior.health.degenerate if prior else None) or "there is none"
            return None
        return prior.target


@dataclass(frozen=True)
class _WithPrior(Step[tuple[Case, PriorMap]]):
    """A step that takes a subject's prior.

    Attributes:
        out: where the images go.
        engine: makes the case.
        maps: make the prior.
    """

    out: Derivatives
    engine: Engine
    maps: PriorMaps

    def prepare(self, subjects: Sequence[Subject]) -> None:
        self.maps.learn_for(subjects)

    def read(self, subject: Subject) -> tuple[Case, PriorMap]:
        return self.engine.case_and_prior(subject, self.maps)


@dataclass(frozen=True)
class PriorStep(_WithPrior):
    """Prior map and brain mask of a subject and, where a network is to learn from them, its training example.

    Attributes:
        scratch: for the example.
        settings: of the training; None where there is none.
    """

    stage = "priors"

    scratch: Path
    settings: TrainingSettings | None = None

    def files(self, subject: Subject) -> list[Path]:
        return self.maps.files(self.out, subject)

    def write(self, subject: Subject, given: tuple[Case, PriorMap]) -> dict[str, Any]:
        """The prior's report, and its volume "prior_ml"."""
        case, prior = given
        self.maps.write(self.out, subject, case, prior)
        if self.settings is not None and prior.target is not None:
            self.engine.write_example(self.scratch, subject, case, prior.target, self.settings)
        voxels = int((case.to_native(prior.probability) >= 0.5).sum())
        return {
            **prior.report(),
            "notes": list(case.notes),
            "prior_ml": round(voxels * float(np.prod(case.native.spacing)) / 1000, 3),
        }


@dataclass(frozen=True)
class RefineStep(_WithPrior):
    """Refined probability and mask of a subject, weighed with its prior by the trained network `model`."""

    stage = "inference"

    model: Model

    def files(self, subject: Subject) -> list[Path]:
        return self.engine.refined_files(self.out, self.model, subject)

    def write(self, subject: Subject, given: tuple[Case, PriorMap]) -> dict[str, Any]:
        """Figures and remarks of `SubjectResult`."""
        case, prior = given
        refined = self.engine.write_refined(self.out, self.model, subject, case, prior)
        return refined.compare(case.to_native(prior.probability) >= 0.5, doubtful=_is_doubtful(prior))


@dataclass(frozen=True)
class PredictStep(Step[Case]):
    """Probability and mask of a subject by the network alone; attributes as those of `RefineStep`."""

    stage = "inference"

    out: Derivatives
    engine: Engine
    model: Model

    def files(self, subject: Subject) -> list[Path]:
        return self.engine.refined_files(self.out, self.model, subject)

    def read(self, subject: Subject) -> Case:
        return self.engine.case(subject)

    def write(self, subject: Subject, given: Case) -> dict[str, Any]:
        """Volume "refined_ml" and remarks."""
        refined = self.engine.write_refined(self.out, self.model, subject, given)
        return {"refined_ml": refined.volume_ml, "remarks": [*given.notes, *refined.doubts()]}


@dataclass(frozen=True)
class Refined:
    """A refined mask on the input's own grid.

    Attributes:
        mask: bool [H, W, L].
        voxel_ml: volume of a voxel.
        doubted_ml: volumes of the parts that the network doubts.
        learnt: share of what the network was taught here to call lesion, and does.
    """

    mask: BoolArray
    voxel_ml: float
    doubted_ml: Sequence[float]
    learnt: float | None = None

    @property
    def volume_ml(self) -> float:
        """Lesion volume in ml, to three digits."""
        return round(int(self.mask.sum()) * self.voxel_ml, 3)

    def compare(self, prior: BoolArray, *, doubtful: bool = False) -> dict[str, Any]:
        """What became of a prior's mask [H, W, L]: figures and remarks of `SubjectResult`.

        Args:
            prior: the mask.
            doubtful: nothing was to be learnt from it, so that it is no surprise if little of it is left.
        """
        overlap, both = int((prior & self.mask).sum()), int(prior.sum()) + int(self.mask.sum())
        dice = round(2 * overlap / both, 4) if both else 1.0
        gone = [voxels for voxels in parts_gone(prior, self.mask) if voxels * self.voxel_ml >= _WORTH_A_REMARK_ML]
        warnings = [] if doubtful else self._warnings(prior, overlap)
        return {
            "prior_ml": round(int(prior.sum()) * self.voxel_ml, 3),
            "refined_ml": self.volume_ml,
            "changed_ml": round(int((prior != self.mask).sum()) * self.voxel_ml, 3),
            "dice_prior_refined": dice,
            "dropped_parts": len(gone),
            "dropped_ml": round(sum(gone) * self.voxel_ml, 3),
            "learnt": None if self.learnt is None else round(self.learnt, 4),
            "remarks": [*warnings, *self._dropped(gone), *([] if warnings else self._changed(dice)), *self.doubts()],
        }

    def doubts(self) -> list[str]:
        """A remark on the parts of the mask that the network doubts."""
        worth = [volume for volume in self.doubted_ml if volume >= _WORTH_A_REMARK_ML]
        if not worth:
            return []
        return [f"{len(worth)} {_parts(len(worth))} of {sum(worth):.1f} ml kept that the network doubts"]

    def _warnings(self, prior: BoolArray, overlap: int) -> list[str]:
        """Whether prior and refined mask have less in common than not, seen from either: then they are no one lesion.

        Args:
            prior: the prior's mask [H, W, L].
            overlap: voxels that both have.
        """
        before, after = int(prior.sum()), int(self.mask.sum())
        found = []
        if 2 * overlap < before:
            found.append(
                f"{WARNING}most of the prior is thrown away, {overlap * self.voxel_ml:.1f} of "
                f"{before * self.voxel_ml:.1f} ml are kept: if it was right, train longer or raise prior_weight"
            )
        if 2 * overlap < after:
            found.append(
                f"{WARNING}most of the refined mask is new, {(after - overlap) * self.voxel_ml:.1f} of "
                f"{after * self.voxel_ml:.1f} ml: if that is no lesion, raise prior_weight or exclude the subject"
            )
        return found

    def _changed(self, dice: float) -> list[str]:
        """A remark on a mask that has little in common with its prior: one of them is wrong."""
        return [f"refinement changed much: Dice with the prior {dice:.2f}"] if dice < _MUCH_CHANGED else []

    def _dropped(self, gone: Sequence[int]) -> list[str]:
        """A remark on the parts of the prior's mask, of so many voxels, that refinement dropped as a whole."""
        if not gone:
            return []
        return [f"{len(gone)} {_parts(len(gone))} of the prior dropped, {sum(gone) * self.voxel_ml:.1f} ml"]


def _parts(count: int) -> str:
    return "part" if count == 1 else "parts"


def _is_doubtful(prior: PriorMap | None) -> bool:
    """Whether a prior, if any, may be weighed but not be trained on."""
    return prior is not None and prior.target is None


def _tidy(scratch: Path) -> None:
    """Remove what only a training needs that is not over."""
    (scratch / _CHECKPOINT).unlink(missing_ok=True)
    shutil.rmtree(scratch / _EXAMPLES, ignore_errors=True)


def _read_card(folder: Path) -> dict[str, Any]:
    """What is beside the model in a folder; nothing if there is none that is whole."""
    try:
        return read_json(folder / CARD)
    except FileNotFoundError:
        return {}
    except DamagedError as error:
        logger.warning("%s is damaged (%s): the model is trained again", folder / CARD, error)
        return {}
