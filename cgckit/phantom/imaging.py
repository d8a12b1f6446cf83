"""From tissues and lesions to images: contrast, bright decoys that are no lesion, the scanner's defects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cgckit.arrays import FloatArray, ShortArray
from cgckit.phantom.anatomy import Anatomy
from cgckit.phantom.fields import random_field
from cgckit.phantom.lesions import LesionPlan, Lesions


@dataclass(frozen=True)
class ImagingPlan:
    """How one subject is imaged. Signals are in units of healthy white matter's.

    Attributes:
        flair: signal of grey matter and fluid on FLAIR.
        t1: signal of grey matter and fluid on T1.
        caps: brightness of the caps at the ventricles' horns, on both sides.
        limbic: brightness added to insular, cingulate and mesial temporal cortex, on both sides.
        plexus: share of choroid plexus in the ventricles' atria.
        flow: brightness of fluid that flows in front of the brain stem.
        surface: brightness of the artefact near the skull base.
        bias: spread of the logarithm of the receive field.
        noise: spread of the noise in each of the two channels of the receiver.
        blur: spread of FLAIR's point-spread function across and along slices, in mm.
        gain: stored units per unit of signal, FLAIR and T1.
    """

    flair: tuple[float, float]
    t1: tuple[float, float]
    caps: float
    limbic: float
    plexus: float
    flow: float
    surface: float
    bias: float
    noise: float
    blur: tuple[float, float]
    gain: tuple[float, float]


def plan_imaging(rng: np.random.Generator) -> ImagingPlan:
    """Draw one subject's contrast, decoys and scanner."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    return ImagingPlan(
        flair=(between(1.07, 1.18), between(0.15, 0.35)),
        t1=(between(0.70, 0.80), between(0.25, 0.40)),
        caps=between(0.15, 0.60),
        limbic=between(0.04, 0.15),
        plexus=between(0.0, 0.9),
        flow=between(0.0, 0.5),
        surface=between(0.05, 0.2),
        bias=between(0.02, 0.05),
        noise=between(0.025, 0.045),
        blur=(between(0.4, 0.6), between(0.7, 1.4)),
        gain=(
            float(np.exp(rng.uniform(np.log(150), np.log(900)))),
            float(np.exp(rng.uniform(np.log(200), np.log(1200)))),
        ),
    )


def acquire(
    rng: np.random.Generator, anatomy: Anatomy, lesions: Lesions, disease: LesionPlan, plan: ImagingPlan
) -> tuple[ShortArray, ShortArray]:
    """Simulate FLAIR and T1, each [H, W, L] int16, zero outside the brain."""
    flair, t1 = brain_signals(rng, anatomy, lesions, disease, plan)
    across, along = plan.blur
    images = []
    for signal, blur, gain in (
        (flair, (across, across, along), plan.gain[0]),
        (t1, (0.45,) * 3, plan.gain[1]),
    ):
        signal = signal * np.exp(plan.bias * random_field(rng, anatomy.shape, 60))
        signal = ndimage.gaussian_filter(signal, blur, truncate=3)
        real, imaginary = (plan.noise * rng.standard_normal(anatomy.shape, dtype=np.float32) for _ in range(2))
        magnitude = np.hypot(signal + real, imaginary)
        # One unit at least, so that no voxel of the brain is mistaken for background.
        images.append(np.where(anatomy.brain, np.clip(np.rint(gain * magnitude), 1, 32767), 0).astype(np.int16))
    return images[0], images[1]


def brain_signals(
    rng: np.random.Generator, anatomy: Anatomy, lesions: Lesions, disease: LesionPlan, plan: ImagingPlan
) -> tuple[FloatArray, FloatArray]:
    """The signal of brain and fluid on FLAIR and T1, each [H, W, L], before the scanner has a part in it."""
    flair, t1 = _healthy(rng, anatomy, plan)
    _add_decoys(rng, anatomy, plan, flair, t1)
    _add_lesions(rng, lesions, disease, flair, t1)
    return flair, t1


def _healthy(rng: np.random.Generator, anatomy: Anatomy, plan: ImagingPlan) -> tuple[FloatArray, FloatArray]:
    """Both contrasts without disease: tissue signals that vary from place to place."""
    shape = anatomy.shape
    regional = random_field(rng, shape, 25)
    grain = random_field(rng, shape, 4)
    # Iron makes the deep nuclei darker than cortex on FLAIR.
    nuclei = _bump(anatomy, (14, -5, 4), (13, 18, 12))
    grey = plan.flair[0] + 0.03 * regional - 0.12 * nuclei
    white = 1 + 0.03 * grain + 0.02 * random_field(rng, shape, 15)
    fluid = plan.flair[1] * (1 + 0.3 * random_field(rng, shape, 8))
    flair = grey * anatomy.gm + white * anatomy.wm + fluid * anatomy.csf
    grey = plan.t1[0] + 0.02 * regional + 0.06 * nuclei
    t1 = grey * anatomy.gm + (1 + 0.02 * grain) * anatomy.wm + plan.t1[1] * anatomy.csf
    return flair.astype(np.float32), t1.astype(np.float32)


def _add_decoys(
    rng: np.random.Generator, anatomy: Anatomy, plan: ImagingPlan, flair: FloatArray, t1: FloatArray
) -> None:
    """Brighten what is bright on FLAIR without being lesion, in place; on T1 each looks unlike a lesion."""
    _, y, z = anatomy.mni
    gap = anatomy.ventricle_distance
    uneven = np.exp(0.35 * random_field(rng, anatomy.shape, 10))

    horns = 1 / (1 + np.exp(-(np.abs(y + 12) - 32) / 4))
    caps = plan.caps * uneven * anatomy.wm * np.exp(-np.square(gap / 4.0)) * horns
    flair += caps
    t1 -= 0.10 * caps

    limbic = (
        _bump(anatomy, (38, 4, -2), (9, 20, 13))
        + 0.8 * _bump(anatomy, (26, -18, -18), (10, 18, 9))
        + 0.7 * _bump(anatomy, (4, 28, 20), (6, 22, 18))
    )
    flair += plan.limbic * uneven * anatomy.gm * limbic

    plexus = plan.plexus * anatomy.csf * np.exp(-np.square(gap / 1.5)) * _bump(anatomy, (22, -40, 6), (9, 10, 11))
    flair += plexus * (1.7 - flair)
    t1 += plexus * (0.8 - t1)

    flair += plan.flow * uneven * anatomy.csf * _bump(anatomy, (0, -22, -40), (22, 16, 22))

    # Near the air-filled sinuses both contrasts pile up signal, in patches of one side more than the other.
    patches = np.clip(random_field(rng, anatomy.shape, 12), 0, 2)
    base = plan.surface * patches * np.exp(-np.square(anatomy.depth / 7.0)) / (1 + np.exp((z + 18) / 5))
    flair *= 1 + base
    t1 *= 1 + 0.7 * base


def _add_lesions(
    rng: np.random.Generator, lesions: Lesions, disease: LesionPlan, flair: FloatArray, t1: FloatArray
) -> None:
    """Replace tissue by lesion, in place. The texture of both contrasts is the same, with opposite signs."""
    texture = sum(weight * random_field(rng, flair.shape, scale) for weight, scale in ((0.7, 10), (0.5, 5), (0.4, 2.5)))
    bright = 1 + disease.contrast * np.clip(1 + 0.38 * texture, 0.1, 2)
    dark = 1 - disease.darkening * np.clip(1 + 0.25 * texture, 0.3, 1.7)
    flair += lesions.extent * (bright - flair)
    t1 += lesions.extent * (dark - t1)
    flair += lesions.core * (0.75 - flair)
    t1 += lesions.core * (0.45 - t1)


def _bump(anatomy: Anatomy, centre: tuple[float, float, float], widths: tuple[float, float, float]) -> FloatArray:
    """A Gaussian bump on both sides of the head, in MNI coordinates: [H, W, L] in [0, 1]."""
    offsets = (np.abs(anatomy.mni[0]), anatomy.mni[1], anatomy.mni[2])
    exponent = sum(np.square((offset - c) / width) for offset, c, width in zip(offsets, centre, widths, strict=True))
    return np.asarray(np.exp(-0.5 * np.asarray(exponent)), dtype=np.float32)
