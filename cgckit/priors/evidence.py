"""The scalar image that the built-in priors segment: how bright a voxel is, and how unlike the other side."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cgckit.images.case import Case

FloatArray = npt.NDArray[np.float32]
Flippable = TypeVar("Flippable", np.float32, np.bool_)
BoolArray = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]

_MIRROR_SMOOTHING_MM = 2.0
_MIRROR_RANGE = (-1.0, 3.0)
_MIRRORED = ("flair", "t2")


def main_channel(case: Case) -> int:
    """Index of the channel on which lesions are bright: FLAIR, or the first channel where there is none."""
    return case.modalities.index("flair") if "flair" in case.modalities else 0


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


def _mirror(image: npt.NDArray[Flippable], shift: int) -> npt.NDArray[Flippable]:
    """Flip the first axis and move it by `shift` voxels; what comes from beyond the edge is 0."""
    result = np.zeros_like(image)
    flipped = image[::-1]
    if shift >= 0:
        result[shift:] = flipped[: len(flipped) - shift]
    else:
        result[:shift] = flipped[-shift:]
    return result


def mirror_shift(brain: BoolArray) -> int:
    """Voxels to shift by, after a flip of the first (left-right) axis, to bring the brain best onto itself."""
    profile = brain.sum(axis=2).astype(np.float32)
    reach = max(1, len(profile) // 10)
    return min(
        range(-reach, reach + 1),
        key=lambda shift: (float(np.abs(profile - _mirror(profile, shift)).sum()), abs(shift)),
    )


def asymmetry(image: FloatArray, brain: BoolArray, spacing: Spacing) -> FloatArray:
    """How much brighter a voxel is than its mirror image across the mid-sagittal plane, [H, W, L].

    The difference is smoothed with 2 mm, for no brain is an exact mirror image, and clipped to [-1, 3], so
    that it supports brightness but does not replace it. Bilateral disease gets nothing from it. 0 where the
    mirrored voxel lies outside the brain. Axes are canonical: the first one runs from left to right.
    """
    shift = mirror_shift(brain)
    both = brain & _mirror(brain, shift)
    difference = np.where(both, image - _mirror(image, shift), 0).astype(np.float32)
    return np.where(both, np.clip(smooth(difference, both, spacing, _MIRROR_SMOOTHING_MM), *_MIRROR_RANGE), 0)


def lesion_evidence(case: Case, *, smoothing: float, asymmetry_weight: float) -> FloatArray:
    """Brightness plus weighted left-right asymmetry, [H, W, L], in MADs; 0 outside the brain.

        e = G * x_main + w * sum_m a(x_m)      m over FLAIR and T2 where present, else the main channel

    Args:
        case: the subject.
        smoothing: standard deviation of the Gaussian `G` in mm; 0 leaves the main channel as it is.
        asymmetry_weight: `w`; 0 switches the mirror comparison off.
    """
    brain = case.brain.numpy()
    main = main_channel(case)
    evidence = standardise(case.image[main].numpy(), brain)
    channels = {main} | {i for i, name in enumerate(case.modalities) if name in _MIRRORED}
    mirrored = np.zeros_like(evidence)
    if asymmetry_weight > 0:
        for channel in sorted(channels):
            mirrored += asymmetry(standardise(case.image[channel].numpy(), brain), brain, case.spacing)
    if smoothing > 0:
        evidence = smooth(evidence, brain, case.spacing, smoothing)
    evidence += np.float32(asymmetry_weight) * mirrored
    return evidence
