"""A prior for cgckit: threshold of the histogram-equalised FLAIR image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from cgckit import Case, Prediction, Prior
from cgckit.options import SHARE, Range, at_least

__all__ = ["FlairThresholdPrior"]

# Half the width of the band, in units of the equalised image, in which the probability falls from 1 to 0.
_SOFTNESS = 0.05


@dataclass
class FlairThresholdPrior(Prior):
    """Bright FLAIR is lesion: equalise the histogram inside the brain, smooth, threshold, drop small components.

    After equalisation each voxel holds the share of the brain that is darker than it, in [0, 1]. Noise is averaged away
    by smoothing, so that only compact bright regions stay near 1. The idea is that of Meissen et al. (2021), who
    found it to outdo many trained anomaly detectors.

    Attributes:
        quantile: a voxel is lesion where the smoothed, equalised image is at least this.
        smoothing: standard deviation of the Gaussian in mm.
        smallest: components smaller than this share of the largest are dropped.
        modality: the channel; the first one is taken of a case that does not have it.
    """

    summary: ClassVar[str] = "Threshold of the histogram-equalised FLAIR image"

    quantile: Annotated[float, Range(0, 1, open_low=True, open_high=True)] = 0.9
    smoothing: Annotated[float, at_least(0)] = 2.0
    smallest: Annotated[float, SHARE] = 0.2
    modality: str = "flair"

    def predict(self, case: Case) -> Prediction:
        """Return the probability of lesion, [H, W, L] float32, 0 outside the brain."""
        channel = case.modalities.index(self.modality) if self.modality in case.modalities else 0
        brain = case.brain.numpy()
        equalised = equalise(case.image[channel].numpy(), brain)
        smooth = smooth_inside(equalised, brain, [self.smoothing / edge for edge in case.spacing])
        bright = smooth >= self.quantile
        kept, count = keep_large(bright, self.smallest)
        # The border of what was kept is soft, so that the network is told where this prior is unsure.
        border = ndimage.binary_dilation(kept, iterations=2) & brain & ~bright
        ramp = np.clip(0.5 + (smooth - self.quantile) / (2 * _SOFTNESS), 0, 1)
        note = f"{case.modalities[channel]} above its {self.quantile:.0%} quantile; {count} components kept"
        return Prediction(torch.from_numpy(np.where(kept | border, ramp, 0).astype(np.float32)), note)


def equalise(image: npt.NDArray[np.float32], brain: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Replace each voxel of the brain by the share of the brain that is not brighter, [H, W, L], 0 outside."""
    values = image[brain]
    equalised = np.zeros(image.shape, dtype=np.float32)
    equalised[brain] = np.searchsorted(np.sort(values), values, side="right") / max(1, values.size)
    return equalised


def smooth_inside(
    image: npt.NDArray[np.float32], brain: npt.NDArray[np.bool_], sigma: list[float]
) -> npt.NDArray[np.float32]:
    """Gaussian mean over the voxels of the brain alone, `sigma` in voxels, 0 outside."""
    total = ndimage.gaussian_filter(image * brain, sigma, mode="constant")
    weight = ndimage.gaussian_filter(brain.astype(np.float32), sigma, mode="constant")
    mean: npt.NDArray[np.float32] = np.divide(total, weight, out=np.zeros_like(total), where=brain)
    return mean


def keep_large(mask: npt.NDArray[np.bool_], share: float) -> tuple[npt.NDArray[np.bool_], int]:
    """Keep the components of at least `share` of the largest one's size, and say how many they are."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask, 0
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = sizes >= max(1, share * sizes.max())
    return kept[labels], int(kept.sum())
