"""A brain extractor for cgckit: Otsu's threshold and an opening."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cgckit import BadInputError, BrainExtractor
from cgckit.images.volume import Volume
from cgckit.options import Range, at_least

__all__ = ["OtsuBrain", "otsu_threshold"]

_BINS = 256


@dataclass
class OtsuBrain(BrainExtractor):
    """The largest part of what is brighter than Otsu's threshold, freed from what hangs on it by a bridge.

    Attributes:
        radius: of the opening that cuts bridges, in mm.
        clip: quantile of the image at which bright values are cut before the threshold is sought.
        modality: the image that is looked at; the first one where there is no such image.
    """

    summary: ClassVar[str] = "Otsu's threshold, an opening, the largest part"

    radius: Annotated[float, at_least(0)] = 4.0
    clip: Annotated[float, Range(0.5, 1)] = 0.99
    modality: str = "t1"

    def extract(self, volumes: Mapping[str, Volume]) -> npt.NDArray[np.bool_]:
        """Return the brain, [H, W, L] bool.

        Raises:
            BadInputError: nothing is left of the image.
        """
        volume = volumes.get(self.modality) or next(iter(volumes.values()))
        image = np.minimum(volume.array, np.quantile(volume.array, self.clip))
        tissue = image > otsu_threshold(image)
        spacing = volume.grid.spacing
        core = ndimage.distance_transform_edt(np.pad(tissue, 1), sampling=spacing)[1:-1, 1:-1, 1:-1] > self.radius
        parts, count = ndimage.label(core)
        if count == 0:
            raise BadInputError(f"{volume.path}: no brain is left after an opening by {self.radius:g} mm")
        largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
        # Half a voxel more than was taken off: the surface of a ball of voxels is rough.
        reach = self.radius + max(spacing) / 2
        brain = tissue & (ndimage.distance_transform_edt(~largest, sampling=spacing) <= reach)
        filled: npt.NDArray[np.bool_] = ndimage.binary_fill_holes(brain)
        return filled


def otsu_threshold(image: npt.NDArray[np.float32]) -> float:
    """The threshold between two classes of values whose means lie farthest apart.

    max_t  w_0(t) w_1(t) (mu_0(t) - mu_1(t))^2     w: shares of the voxels, mu: means below and above t
    """
    counts, edges = np.histogram(image, _BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts), counts.sum()
    mass = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = mass / below - (mass[-1] - mass) / (total - below)
        between = np.nan_to_num(below * (total - below) * gap**2)
    return float(edges[1:][between.argmax()])
