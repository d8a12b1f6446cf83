"""`AutoencoderPrior`: the residual of a reconstruction as anomaly map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn
from typing_extensions import Self

from cgckit import Case, Prediction, Prior, UsageError
from cgckit.images.grid import Grid, resample
from cgckit.images.preparation import resample_case
from cgckit.nets import train
from cgckit.options import POSITIVE, at_least
from cgckit_autoencoder.network import STRIDE, Autoencoder, fit_into

# At least this is seen of each subject: enough for any human brain.
_FIELD_MM = (192.0, 224.0, 192.0)
_BATCH = 2
_MAD_TO_STD = 1.4826


@dataclass
class AutoencoderPrior(Prior):
    """What an auto-encoder of the whole cohort cannot reconstruct, where it is brighter than expected.

    The network sees every subject at low resolution and learns what they have in common, lesions at ever different
    places do not belong to it. The residual `r = x - x_hat` of FLAIR (or the first channel), smoothed, becomes
    `P = clip(z / (2 cut), 0, 1)` with `z = (r - median(r)) / (1.4826 MAD(r))` inside the brain: 0.5 at `cut` robust
    standard deviations. It is the baseline "AE" of Yu, Zhao et al., trained on the cohort itself instead of healthy
    subjects.

    Attributes:
        steps: of the training, each on two subjects.
        learning_rate: Adam's.
        spacing: of the grid that the network works on, in mm.
        latent: channels of the code.
        smoothing: standard deviation of the Gaussian on the residual, in mm.
        cut: robust standard deviations of the residual from which a voxel is lesion rather than not.
        seed: of the initial weights and the training.
    """

    summary: ClassVar[str] = "Residual of a convolutional auto-encoder trained on the cohort"

    steps: Annotated[int, at_least(1)] = 300
    learning_rate: Annotated[float, POSITIVE] = 2e-3
    spacing: Annotated[float, POSITIVE] = 6.0
    latent: Annotated[int, at_least(1)] = 8
    smoothing: Annotated[float, at_least(0)] = 2.0
    cut: Annotated[float, POSITIVE] = 3.0
    seed: Annotated[int, at_least(0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._model: Autoencoder | None = None

    def fit(self, cases: Sequence[Case]) -> Self:
        """Train the auto-encoder to reconstruct all cases, without labels."""
        images, brains = zip(*(self._coarse(case) for case in cases), strict=True)
        if len({image.shape for image in images}) > 1:
            raise UsageError("the auto-encoder needs the same modalities for all subjects")

        def step(model: nn.Module, index: int) -> dict[str, Tensor]:
            picked = torch.randint(len(images), (_BATCH,))
            image = torch.stack([images[i] for i in picked])
            brain = torch.stack([brains[i] for i in picked])
            # Brains are nearly symmetric: the mirror image of one is a further subject.
            flipped = bool(torch.rand(()) < 0.5)
            image, brain = (image.flip(2), brain.flip(2)) if flipped else (image, brain)
            # The absolute error leaves rare bright voxels aside, where the squared one would chase them.
            error = (model(image) - image).abs() * brain
            return {"loss": error.sum() / (brain.sum() * image.shape[1])}

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = Autoencoder(images[0].shape[0], self.latent)
            train(
                model,
                step,
                steps=self.steps,
                learning_rate=self.learning_rate,
                schedule="cosine",
                seed=self.seed,
            )
        self._model = model
        return self

    def predict(self, case: Case) -> Prediction:
        """Return the probability of lesion, [H, W, L] float32, 0 outside the brain.

        Raises:
            RuntimeError: if neither `fit` nor `load_state` was called before.
            UsageError: if the model was fitted on other modalities.
        """
        channel = case.modalities.index("flair") if "flair" in case.modalities else 0
        expected = self._reconstruct(case, channel)
        brain = case.brain.numpy()
        residual = (case.image[channel].numpy() - expected) * brain
        sigma = [self.smoothing / edge for edge in case.spacing]
        weight = ndimage.gaussian_filter(brain.astype(np.float32), sigma)
        residual = np.divide(ndimage.gaussian_filter(residual, sigma), weight, out=np.zeros_like(residual), where=brain)
        inside = residual[brain]
        centre = np.median(inside)
        spread = _MAD_TO_STD * np.median(np.abs(inside - centre))
        score = (residual - centre) / max(spread, np.finfo(np.float32).eps)
        probability = np.where(brain, np.clip(score / (2 * self.cut), 0, 1), 0).astype(np.float32)
        note = f"residual of {case.modalities[channel]} above {centre + self.cut * spread:.2f}"
        return Prediction(torch.from_numpy(probability), note)

    def state(self) -> Mapping[str, Tensor]:
        """The network's weights."""
        return {} if self._model is None else self._model.state_dict()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back the weights that `state` returned."""
        channels = state["decoder.6.bias"].numel()
        with torch.random.fork_rng(devices=[]):
            self._model = Autoencoder(channels, self.latent)
        self._model.load_state_dict(dict(state))
        self._model.eval()

    def _coarse(self, case: Case) -> tuple[Tensor, Tensor]:
        """Image [C, h, w, l] and brain [1, h, w, l] on the network's grid, in a box of one size for all subjects."""
        coarse = resample_case(case, self.spacing)
        height, width, length = (STRIDE * math.ceil(field / self.spacing / STRIDE) for field in _FIELD_MM)
        box = (height, width, length)
        return fit_into(coarse.image, box), fit_into(coarse.brain[None].float(), box)

    @torch.no_grad()
    def _reconstruct(self, case: Case, channel: int) -> npt.NDArray[np.float32]:
        """The network's idea of one channel, [H, W, L] on the case's own grid."""
        if self._model is None:
            raise RuntimeError("the auto-encoder has learned nothing yet: call fit first")
        image, _ = self._coarse(case)
        if len(image) != self._model.channels:
            raise UsageError(
                f"{case.subject} has {len(image)} modalities, the auto-encoder was fitted on {self._model.channels}"
            )
        height, width, length = case.brain.shape
        fine = Grid((height, width, length), np.diag([*case.spacing, 1.0]))
        coarse = fine.isotropic(self.spacing)
        expected = fit_into(self._model(image[None])[0, channel], coarse.shape)
        return resample(expected.numpy(), coarse, fine)
