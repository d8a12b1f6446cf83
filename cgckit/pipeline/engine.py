"""`Engine`: how scans are worked on, the same for refinement, prediction, prior maps and experiments."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.progress import Progress
from torch import Tensor

from cgckit.arrays import FloatArray
from cgckit.cgc.crops import write_case
from cgckit.cgc.model import CARD, Model
from cgckit.cgc.settings import Settings, TrainingSettings
from cgckit.cgc.training import train_network
from cgckit.errors import DegeneratePriorError
from cgckit.images.brain import BrainExtractor
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.images.preparation import prepare
from cgckit.nets.loop import Checkpoint
from cgckit.pipeline.prior_maps import PriorMap, PriorMaps

T = TypeVar("T")
Target = Callable[[Subject, Case], Tensor | None]
"""What the network is to say of a subject, [H, W, L] on the case's grid; None leaves the subject out."""


@dataclass(frozen=True)
class Engine:
    """Decides who is trained on and how a subject is segmented.

    Attributes:
        modalities: the channels that are worked with.
        brain: how brains are found.
        device: where networks are trained and applied.
        maps: the priors of the subjects; None where a trained model works alone.
    """

    modalities: tuple[str, ...]
    brain: BrainExtractor
    device: torch.device
    maps: PriorMaps | None = None

    def case(self, subject: Subject) -> Case:
        """The subject on its working grid."""
        return prepare(subject, self.modalities, self.brain)

    def prior(self, subject: Subject, case: Case) -> PriorMap | None:
        """The subject's prior, if there is one."""
        return None if self.maps is None else self.maps(subject, case)

    def write_example(
        self, scratch: Path, subject: Subject, case: Case, target: Tensor, settings: TrainingSettings
    ) -> Path:
        """Write what a subject adds to the training; `train` finds it there."""
        path = scratch / "examples" / f"{subject.label}.safetensors"
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
        card = _read_card(folder)
        if card.get("key") == key:
            return Model.load(folder, self.device).with_settings(settings.inference), card["training"], False
        reasons: dict[str, str] = {}
        examples = []
        for subject in subjects:
            path = scratch / "examples" / f"{subject.label}.safetensors"
            if not path.exists():
                case = self.case(subject)
                wanted = self._prior_target(subject, case, reasons) if target is None else target(subject, case)
                if wanted is None:
                    continue
                self.write_example(scratch, subject, case, wanted, settings)
            examples.append(path)
        if not examples:
            why = "; ".join(f"{label}: {reason}" for label, reason in reasons.items())
            raise DegeneratePriorError(f"no subject has a usable prior ({why}); try another --prior or its options")
        task = bars.add_task("training", total=settings.total_steps(len(examples)), note="")
        checkpoint = Checkpoint(scratch / "checkpoint.safetensors", key=key)
        network, training = train_network(
            examples,
            settings.training,
            self.modalities,
            seed=seed,
            device=self.device,
            checkpoint=checkpoint,
            on_step=lambda index, scalars: bars.update(task, completed=index + 1, note=f"loss {scalars['loss']:.3f}"),
        )
        training = {"subjects": len(examples), **training}
        trained = Model(network, settings, self.modalities)
        trained.save(folder, {"key": key, **(provenance or {}), "training": training})
        checkpoint.path.unlink(missing_ok=True)
        shutil.rmtree(scratch / "examples", ignore_errors=True)
        # From the disk, as a run that is taken up here gets it: equal weights in another memory layout round otherwise.
        return Model.load(folder, self.device), training, True

    def segment(self, model: Model, case: Case, prior: PriorMap | None) -> FloatArray:
        """Probability of lesion on the grid of the subject's files, [H, W, L]; a prior is weighed if it may be."""
        return model.segment(case, prior.guide if prior else None)

    def uncertainty(self, model: Model, case: Case, prior: PriorMap | None) -> FloatArray:
        """How much that probability hangs on what should not matter, see `Model.uncertainty`."""
        return model.uncertainty(case, prior.guide if prior else None)

    def _prior_target(self, subject: Subject, case: Case, reasons: dict[str, str]) -> Tensor | None:
        prior = self.prior(subject, case)
        if prior is None or prior.target is None:
            reasons[subject.label] = (prior.health.degenerate if prior else None) or "there is none"
            return None
        return prior.target


def over_subjects(subjects: Sequence[Subject], do: Callable[[Subject], T], bars: Progress, title: str) -> dict[str, T]:
    """What `do` gives for each subject, by label, one after the other, with a bar that shows how far it is."""
    task = bars.add_task(title, total=len(subjects), note="")
    found = {}
    for subject in subjects:
        bars.update(task, note=subject.label)
        found[subject.label] = do(subject)
        bars.advance(task)
    return found


def _read_card(folder: Path) -> dict[str, Any]:
    """What is beside the model in a folder; nothing if there is none that can be read."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}
