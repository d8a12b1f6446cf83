"""`ReconstructionPrior`: the frame of all methods. Each adds a network, a loss and what it calls an anomaly."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from typing_extensions import Self

from cgckit import Case, Prediction, Prior, Subject, UsageError
from cgckit.nets import train
from cgckit.options import POSITIVE, SEED, SHARE, Range, at_least
from cgckit.priors.resolve import resolve_prior
from cgckit_reconstruction.networks import BOTTLENECK
from cgckit_reconstruction.residual import Residual, clean, without_specks
from cgckit_reconstruction.slices import Field, SliceStore, case_slices, main_modality

Draw = Callable[[], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]

_AT_ONCE = 32
_SAMPLED_VOXELS = 20_000
_LEAST_THRESHOLD = 1e-6


@dataclass
class ReconstructionPrior(Prior, ABC):
    """What a network of the cohort's axial slices does not expect, where it is brighter than expected.

    The frame is that of Baur et al., "Autoencoders for Unsupervised Anomaly Segmentation in Brain MR Images", Med.
    Image Anal. 2021, with two differences, as neither labels nor healthy subjects are at hand. They train on slices of
    healthy subjects; this trains on the cohort's own, lesions included, or with `exclude` on those in which another
    prior sees the least. They choose the threshold with labels; here it is a quantile of the residual over the cohort.

    Open choices, made here: FLAIR (or the first modality) alone; its robust z-scores are not rescaled; the absolute
    error; mirrored slices; slices of which less than 5 % is brain are not learned from. It runs on the CPU.

    Attributes:
        size: edge of a slice in pixels, 16, 32, 64, 128 or 256: the square around the brain is resized to it.
        latent: length of the code.
        steps: of the training.
        batch: slices a step.
        learning_rate: Adam's.
        quantile: of the residual over the cohort's brains; a voxel at this value gets probability 0.5.
        positive: only what is brighter than expected is an anomaly.
        erosion: mm at the brain's surface that are left out.
        median: edge of the median filter in voxels, 1 for none.
        specks: connected parts of fewer voxels are dropped.
        exclude: name of a prior; slices with the most of it are not trained on. Empty: all are.
        exclude_share: share of the slices that `exclude` leaves out.
        seed: of the initial weights, the training and what is drawn in prediction.
    """

    size: Annotated[int, Range(16, 256)] = 128
    latent: Annotated[int, at_least(1)] = 128
    steps: Annotated[int, at_least(1)] = 1000
    batch: Annotated[int, at_least(1)] = 8
    learning_rate: Annotated[float, POSITIVE] = 1e-3
    quantile: Annotated[float, SHARE] = 0.98
    positive: bool = True
    erosion: Annotated[float, at_least(0)] = 3.0
    median: Annotated[int, at_least(1)] = 5
    specks: Annotated[int, at_least(1)] = 8
    exclude: str = ""
    exclude_share: Annotated[float, SHARE] = 0.25
    seed: Annotated[int, SEED] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % BOTTLENECK or (self.size // BOTTLENECK).bit_count() != 1:
            raise UsageError(f"size {self.size}: choose 16, 32, 64, 128 or 256")
        self._network: nn.Module | None = None
        self._modality = ""
        self._threshold = 0.0

    @abstractmethod
    def network(self) -> nn.Module:
        """A fresh network, whose weights are all that is learned."""

    @abstractmethod
    def loss(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """What training minimises, for slices and brains [B, 1, size, size]."""

    def anomaly(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """The residual of slices [B, 1, size, size]; without other means, what the network does not reconstruct."""
        with torch.no_grad():
            residual: Tensor = (slices - network(slices)) * brain
        return residual

    def train_network(self, network: nn.Module, draw: Draw) -> None:
        """Train a network in place; methods with several stages have their own."""
        self.minimise(network, draw, lambda slices, brain: self.loss(network, slices, brain), "training")

    def minimise(self, network: nn.Module, draw: Draw, loss: Loss, stage: str) -> None:
        """Minimise a loss of drawn slices for `steps` steps, with a progress bar where there is a terminal."""
        with _progress() as progress:
            task = progress.add_task(f"{type(self).__name__}: {stage}", total=self.steps)
            train(
                network,
                lambda _, __: {"loss": loss(*draw())},
                steps=self.steps,
                learning_rate=self.learning_rate,
                schedule="cosine",
                seed=self.seed,
                on_step=lambda _, __: progress.advance(task),
            )

    def fit(self, cases: Sequence[Case]) -> Self:
        """Train on the cohort's slices and find the threshold, without labels."""
        self._modality = main_modality(cases[0])
        evidence = None
        if self.exclude:
            other = resolve_prior(self.exclude).fit(cases)

            def evidence(case: Case) -> Tensor:
                found = other.predict(case.copy())
                return found.probability if isinstance(found, Prediction) else found

        store = SliceStore(cases, self._modality, self.size, evidence, self.exclude_share)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self.network()
            self.train_network(network, lambda: store.draw(self.batch))
        self._network = network.eval()
        generator = np.random.default_rng(self.seed)
        values = []
        for case in cases:
            inside = self.residual(case)[case.brain.numpy()]
            values.append(generator.choice(inside, min(len(inside), _SAMPLED_VOXELS), replace=False))
        self._threshold = max(float(np.quantile(np.concatenate(values), self.quantile)), _LEAST_THRESHOLD)
        return self

    def residual(self, case: Case) -> Residual:
        """The residual of a case after post-processing, [H, W, L], 0 outside the brain.

        Raises:
            RuntimeError: if neither `fit` nor `load_state` was called before.
            UsageError: if the case lacks the modality that the network learned.
        """
        return clean(
            self._volume(case, self.anomaly),
            case.brain.numpy(),
            case.spacing,
            positive=self.positive,
            erosion=self.erosion,
            median=self.median,
        )

    def predict(self, case: Case) -> Prediction:
        """Return the probability of lesion, `clip(residual / (2 threshold), 0, 1)`, [H, W, L] float32."""
        found = without_specks(self.residual(case), self._threshold, self.specks)
        probability = np.clip(found / (2 * self._threshold), 0, 1).astype(np.float32)
        return Prediction(torch.from_numpy(probability), f"residual of {self._modality} above {self._threshold:.2f}")

    def fingerprint(self, subject: Subject) -> str:
        """That of the prior which leaves slices out, if there is one."""
        return resolve_prior(self.exclude).fingerprint(subject) if self.exclude else ""

    def state(self) -> Mapping[str, Tensor]:
        """The network's weights, the threshold, and the modality's name as bytes."""
        if self._network is None:
            return {}
        return {
            **{f"network.{name}": value for name, value in self._network.state_dict().items()},
            "threshold": torch.tensor(self._threshold, dtype=torch.float64),
            "modality": torch.tensor(list(self._modality.encode()), dtype=torch.uint8),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        with torch.random.fork_rng(devices=[]):
            network = self.network()
        start = "network."
        network.load_state_dict({name[len(start) :]: value for name, value in state.items() if name.startswith(start)})
        self._network = network.eval()
        self._threshold = float(state["threshold"])
        self._modality = bytes(state["modality"].tolist()).decode()

    def _volume(self, case: Case, measure: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Residual:
        """What `measure` says of each slice, as a volume [H, W, L] on the case's grid."""
        if self._network is None:
            raise RuntimeError("this prior has learned nothing yet: call fit first")
        slices, brains = case_slices(case, self._modality, self.size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            found = [
                measure(self._network, some, (brain > 0.5).float())
                for some, brain in zip(slices.split(_AT_ONCE), brains.split(_AT_ONCE), strict=True)
            ]
        volume = Field.of(case.brain).volume(torch.cat(found), case.brain.shape)
        return (volume * case.brain).numpy()


def _progress() -> Progress:
    console = Console(stderr=True)
    shown = console.is_terminal and logging.getLogger("cgckit").isEnabledFor(logging.INFO)
    return Progress(console=console, disable=not shown, transient=True)
