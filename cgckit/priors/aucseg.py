"""`AucSegPrior`: the published mixture pipeline as it was, for its figures; `gmm` is the better prior."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from scipy import ndimage
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from cgckit.arrays import BoolArray, FloatArray
from cgckit.images.case import Case
from cgckit.images.components import Components
from cgckit.lesion_evidence.evidence import BRIGHT, main_channel
from cgckit.options import SEED, Range
from cgckit.priors.base import Prediction, Prior

_SAMPLES = 50_000
_LEAST = 0.51


@dataclass
class AucSegPrior(Prior):
    """Posterior of the brightest of K Gaussians of FLAIR, background included (the pipeline of AUCseg).

        p(x) = sum_k w_k N(x; mu_k, sigma_k^2),     P = w_K N(x; mu_K, sigma_K^2) / p(x),   mu_K the largest

    over all voxels of the case's box, those outside the brain at the brain's lowest value; then connected parts of
    `P > .5` above `min_component` of the largest are kept, dilated by a voxel, and their holes filled. Nothing adapts
    to the subject: whether the brightest of K components is the lesion depends on K, and the result is weak for many.
    It is here as the weak prior of the published comparison.

    Attributes:
        components: K.
        min_component: connected parts of this share of the largest one's volume or less are dropped.
        seed: of the voxel sample and of the start of EM.
    """

    summary: ClassVar[str] = "brightest of K Gaussians of FLAIR, the published pipeline: a weak prior"
    needs: ClassVar[tuple[str, ...]] = BRIGHT
    cost: ClassVar[str] = "seconds a subject"

    components: Annotated[int, Range(2, 100)] = 5
    min_component: Annotated[float, Range(0, 1, open_high=True)] = 0.3
    seed: Annotated[int, SEED] = 0

    def predict(self, case: Case) -> Prediction:
        """Return the posterior of the brightest component, cleaned, [H, W, L] float32, 0 outside the brain."""
        brain = case.brain.numpy()
        image = case.image[main_channel(case)].numpy()
        lowest = image[brain].min() if brain.any() else 0.0
        image = np.where(brain, image, lowest).astype(np.float32)
        sample = np.random.default_rng(self.seed).permutation(image.ravel())[:_SAMPLES, None].astype(np.float64)
        if len(np.unique(sample)) < 2 * self.components:
            note = "too few different values for the components: the map is empty"
            return Prediction(torch.zeros(brain.shape), note)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # what EM has reached then is the published result too
            mixture = GaussianMixture(self.components, random_state=self.seed).fit(sample)
        brightest = int(np.argmax(mixture.means_))
        posterior = np.zeros(image.shape, np.float32)
        posterior[brain] = mixture.predict_proba(image[brain][:, None])[:, brightest]
        note = f"brightest of {self.components} components, mean {mixture.means_[brightest, 0]:.1f}"
        return Prediction(torch.from_numpy(self._clean(posterior, brain)), note)

    def _clean(self, posterior: FloatArray, brain: BoolArray) -> FloatArray:
        parts = Components.of(posterior > 0.5, 6)
        if parts.count == 0:
            return np.zeros_like(posterior)
        large = parts.sizes > self.min_component * parts.sizes.max()
        grown = ndimage.binary_dilation(parts.where(large))
        region = ndimage.binary_fill_holes(grown) & brain
        return np.where(region, np.maximum(posterior, _LEAST), 0).astype(np.float32)
