"""The scalar image that the built-in priors segment: how bright a voxel is, and how unlike the other side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cgckit.arrays import BoolArray, FloatArray, Spacing
from cgckit.images.case import Case
from cgckit.lesion_evidence.blocks import Blocks
from cgckit.lesion_evidence.ct import density
from cgckit.lesion_evidence.findings import finding
from cgckit.lesion_evidence.mirror import Plane
from cgckit.lesion_evidence.regions import ball

_PLANE_MM = 4.0
_MIRROR_MM = 2.0
_MIRROR_SMOOTHING_MM = 2.0
_MIRROR_SLACK_MM = 2.0
_MIRROR_RANGE = (-1.0, 3.0)
# Beyond any evidence: a neighbour outside the brain is neither the highest nor the lowest.
_FAR = np.float32(1e4)
_MIRRORED = ("flair", "t2")
BRIGHT = ("flair", "dwi", "t2", "pd", "ct", "t1ce")
"""Modalities on which lesions are brighter than healthy tissue, the surest first."""


def main_channel(case: Case) -> int:
    """Index of the channel on which lesions are bright: the first of `BRIGHT`, or the first where there is none."""
    return case.modalities.index(next((name for name in BRIGHT if name in case.modalities), case.modalities[0]))


def is_ct(case: Case) -> bool:
    """Whether the channel on which lesions are bright is CT: there they are blood, and nothing is dark or fat."""
    return case.modalities[main_channel(case)] == "ct"


def standardise(image: FloatArray, brain: BoolArray) -> FloatArray:
    """`(x - median) / MAD` over the brain, 0 outside; all zero if the MAD is 0. Shapes [H, W, L]."""
    result = np.zeros(image.shape, np.float32)
    if not brain.any():
        return result
    deviation = image[brain] - np.median(image[brain])
    mad = float(np.median(np.abs(deviation)))
    if mad > 0:
        result[brain] = deviation / mad
    return result


def smooth(image: FloatArray, brain: BoolArray, spacing: Spacing, width: float) -> FloatArray:
    """Gaussian mean over the brain's own voxels, sigma `width` mm: the background does not leak in."""
    sigma = [width / edge for edge in spacing]
    weight = ndimage.gaussian_filter(brain.astype(np.float32), sigma, truncate=3.0)
    total = ndimage.gaussian_filter(np.where(brain, image, 0).astype(np.float32), sigma, truncate=3.0)
    mean: FloatArray = np.divide(total, weight, out=np.zeros_like(total), where=brain)
    return mean


def asymmetry(image: FloatArray, brain: BoolArray, spacing: Spacing, plane: Plane) -> FloatArray:
    """How much brighter a voxel is than anything near its mirror image, [H, W, L].

        a = max(x - max_near x', 0) + min(x - min_near x', 0)     x smoothed by 2 mm, near: within 2 mm

    No brain is an exact mirror image: within the slack, a fold that lies a little elsewhere is no difference. `a`
    is clipped to [-1, 3], so that it supports brightness but does not replace it. Bilateral disease gets nothing
    from it, and loses nothing. 0 where the mirrored voxel lies outside the brain.
    """
    image = smooth(image, brain, spacing, _MIRROR_SMOOTHING_MM)
    mirrored = plane.reflect(image, spacing)
    # Interpolation at the brain's edge mixes in what is outside.
    inside = brain & (plane.reflect(brain.astype(np.float32), spacing) > 0.9)
    near = ball(_MIRROR_SLACK_MM, spacing)
    highest = ndimage.maximum_filter(np.where(inside, mirrored, -_FAR), footprint=near)
    lowest = ndimage.minimum_filter(np.where(inside, mirrored, _FAR), footprint=near)
    difference = np.where(inside, np.maximum(image - highest, 0) + np.minimum(image - lowest, 0), 0)
    return np.clip(difference, *_MIRROR_RANGE).astype(np.float32)


def standardised(case: Case) -> list[FloatArray]:
    """The channels of a case, each [H, W, L], in MADs from the brain's median; CT on its own scale (`density`)."""
    brain = case.brain.numpy()
    return [
        density(channel, brain, case.spacing) if name == "ct" else standardise(channel, brain)
        for name, channel in zip(case.modalities, case.image.numpy(), strict=True)
    ]


def mid_sagittal(case: Case, images: Sequence[FloatArray] | None = None) -> Plane:
    """The mid-sagittal plane of a case, found on a 4 mm grid.

    Args:
        case: the subject.
        images: what `standardised` gives for it, if it is at hand.
    """

    def search() -> Tensor:
        sketch = Blocks.cut(case.brain.numpy(), case.spacing, _PLANE_MM)
        means = [sketch.mean(image) for image in (standardised(case) if images is None else images)]
        plane = Plane.find(means, sketch.brain, sketch.spacing)
        return torch.tensor([*plane.normal, plane.offset], dtype=torch.float64)

    *normal, offset = finding(case, "plane", search).tolist()
    return Plane(np.array(normal), offset)


def lesion_evidence(case: Case, *, smoothing: float, asymmetry_weight: float) -> FloatArray:
    """Brightness plus weighted left-right asymmetry, [H, W, L], in MADs; 0 outside the brain.

        e = G * x_main + w * sum_m a(x_m)      m over FLAIR and T2 where present, else the main channel

    CT is measured on a fixed scale instead of MADs, without calcification and sheets (`cgckit.lesion_evidence.ct`).
    The mid-sagittal plane is found from all channels on a 4 mm grid, the asymmetry computed on a 2 mm grid.

    Args:
        case: the subject.
        smoothing: standard deviation of the Gaussian `G` in mm; 0 leaves the main channel as it is.
        asymmetry_weight: `w`; 0 switches the mirror comparison off.
    """
    brain = case.brain.numpy()
    images = standardised(case)
    main = main_channel(case)
    evidence = images[main]
    if smoothing > 0:
        evidence = smooth(evidence, brain, case.spacing, smoothing)
    if asymmetry_weight > 0:
        plane = mid_sagittal(case, images)
        coarse = Blocks.cut(brain, case.spacing, _MIRROR_MM)
        mirrored = np.zeros(coarse.brain.shape, np.float32)
        for channel in sorted({main} | {i for i, name in enumerate(case.modalities) if name in _MIRRORED}):
            mirrored += asymmetry(coarse.mean(images[channel]), coarse.brain, coarse.spacing, plane)
        evidence = evidence + np.float32(asymmetry_weight) * coarse.enlarge(mirrored)
    return evidence
