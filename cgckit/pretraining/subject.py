"""One simulated subject, ready for training: four images as a `Case` has them, their mirror images, the lesion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray, FloatArray
from cgckit.lesion_evidence.mirror import Plane
from cgckit.phantom.fields import random_field
from cgckit.pretraining.body import Body, depth_and_gap, draw_body, draw_pose
from cgckit.pretraining.disease import Disease, draw_growths, grow, pushes_of
from cgckit.pretraining.sampling import sample
from cgckit.pretraining.signal import CHANNELS, Signals, draw_signals
from cgckit.starting import SPACING

_CLIP = (-5.0, 10.0)
_MAD_TO_STD = 1.4826


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """What one subject gives to training, on a 2 mm grid cropped to the brain.

    Attributes:
        image: [4, H, W, L] float32, FLAIR, T1, T1ce and T2 as `cgckit.images.Case` has them: in robust standard
            deviations from the brain's median, 0 outside the brain.
        mirrored: [4, H, W, L] float32, the same reflected at the mid-sagittal plane.
        lesion: [H, W, L] float32, share of lesion, 0 outside the brain.
        brain: [H, W, L] bool.
    """

    image: FloatArray
    mirrored: FloatArray
    lesion: FloatArray
    brain: BoolArray


def simulate(seed: int, index: int) -> SimulatedScan:
    """Simulate subject `index` (from 0) of the run `seed`."""
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence([seed, index, 2]).spawn(4)]
    pose = draw_pose(streams[0])
    growths = draw_growths(streams[1], *depth_and_gap(pose))
    body = draw_body(streams[0], pose, pushes_of(growths))
    disease = grow(streams[1], body, growths)
    image, brain = _scan(streams[2], body, disease)
    rows, columns, slabs = (
        slice(max(0, extent.start - 2), min(length, extent.stop + 2))
        for extent, length in zip(ndimage.find_objects(brain.astype(np.uint8))[0], brain.shape, strict=True)
    )
    box = (..., rows, columns, slabs)
    mirrored = _reflect(streams[3], image, body.plane) * brain
    return SimulatedScan(image[box], mirrored[box], (disease.whole * brain)[box], brain[box])


def _reflect(rng: np.random.Generator, image: FloatArray, plane: Plane) -> FloatArray:
    """The mirror images, at a plane that is found about as well as it is found in a real scan."""
    normal = plane.normal + rng.normal(0, 0.015, 3)
    normal /= np.linalg.norm(normal)
    centre = np.array(image.shape[1:]) * SPACING / 2
    offset = float(normal @ centre) + (plane.offset - float(plane.normal @ centre)) + rng.normal(0, 0.8)
    edge = np.stack(
        np.meshgrid(*((np.arange(n, dtype=np.float32) + 0.5) * SPACING for n in image.shape[1:]), indexing="ij")
    )
    distance = np.tensordot(normal.astype(np.float32), edge, axes=1) - np.float32(offset)
    points = (edge - 2 * normal.astype(np.float32)[:, None, None, None] * distance) / np.float32(SPACING) - 0.5
    return sample(image, points)


def _scan(rng: np.random.Generator, body: Body, disease: Disease) -> tuple[FloatArray, BoolArray]:
    """All channels, normalised, and the brain as it was stripped."""
    shape = body.shape
    _, y, z = body.mni
    surface = body.depth + rng.uniform(0, 1.0) * random_field(rng, shape, 5)
    brain = surface > rng.uniform(-2.0, 2.0)
    fat = np.zeros(shape, np.float32)
    if rng.random() < 0.6:
        low = 1 / (1 + np.exp((z + 15) / 6)) if rng.random() < 0.8 else 1.0
        residue = (
            (body.depth > -rng.uniform(3, 9)) & (body.depth <= 1) & (low * (2.5 + random_field(rng, shape, 5)) > 2.7)
        )
        brain |= residue
        fat = ndimage.gaussian_filter((residue & (body.depth < 0)).astype(np.float32), 0.6)
    brain = _largest(ndimage.binary_fill_holes(brain))

    dura = np.exp(-np.square((body.depth + rng.uniform(-1, 1.5)) / 1.2)) * (
        random_field(rng, shape, 5) > rng.uniform(-0.5, 2)
    )
    x = np.abs(body.mni[0])
    sinus = np.exp(-np.square(x / 3) - np.square(body.depth / 3)) * (z > -20)
    tubes = (np.abs(random_field(rng, shape, 4)) < 0.12) & (np.abs(random_field(rng, shape, 4)) < 0.25)
    vessels = np.maximum(sinus, ndimage.gaussian_filter((tubes & (body.csf + body.gm > 0.5)).astype(np.float32), 0.5))
    nuclei = _bump(body, (14, -5, 4), (13, 18, 12)) * body.gm
    uneven = np.exp(0.35 * random_field(rng, shape, 5))
    horns = 1 / (1 + np.exp(-(np.abs(y + 12) - 32) / 4))
    halo = uneven * body.wm * np.exp(-np.square(body.gap / rng.uniform(1.5, 5.0)))
    halo *= horns if rng.random() < 0.7 else 1.0
    limbic = (
        uneven
        * body.gm
        * (
            _bump(body, (38, 4, -2), (9, 20, 13))
            + 0.8 * _bump(body, (26, -18, -18), (10, 18, 9))
            + 0.7 * _bump(body, (4, 28, 20), (6, 22, 18))
        )
    )
    plexus = body.csf * np.exp(-np.square(body.gap / 1.5)) * _bump(body, (22, -40, 6), (9, 10, 11)) * rng.uniform(0, 1)
    flow = uneven * body.csf * _bump(body, (0, -22, -40), (22, 16, 22)) * rng.uniform(0, 0.8)
    base = np.clip(random_field(rng, shape, 6), 0, 2) * np.exp(-np.square(body.depth / 7)) / (1 + np.exp((z + 18) / 5))
    base *= rng.uniform(0, 0.25)
    rim = disease.solid * (1 - disease.core)
    rim = rim * np.clip(ndimage.gaussian_filter(disease.core + (1 - disease.solid), 1.5) * 2, 0, 1)
    rim *= np.clip(1 + 0.6 * random_field(rng, shape, 4), 0, 2)
    texture = np.zeros(shape, np.float32)
    for weight, scale in ((0.7, 5), (0.5, 2.5), (0.4, 1.3)):
        texture += weight * random_field(rng, shape, scale)
    rough = rng.uniform(0.05, 0.45)
    signals = draw_signals(rng)
    blur = rng.uniform(0.2, 0.6)

    image = np.zeros((len(CHANNELS), *shape), np.float32)
    for channel, name in enumerate(CHANNELS):
        s = signals[name]
        grain = random_field(rng, shape, 2)
        signal = (s.gm + 0.04 * random_field(rng, shape, 12)) * body.gm + (1 + 0.03 * grain) * body.wm
        signal += s.csf * (1 + 0.25 * random_field(rng, shape, 4)) * body.csf
        signal *= _regional(rng, body)
        signal += nuclei * (s.nuclei - s.gm) + halo * s.halo + limbic * s.limbic
        signal += plexus * (s.plexus - signal)
        if name == "flair":
            signal += flow
        signal += np.clip(dura, 0, 1) * (s.dura - signal)
        signal += vessels * (s.vessel - signal)
        signal += fat * (s.fat * uneven - signal)
        signal *= 1 + base
        signal = _with_lesions(rng, signal, s, disease, rim, texture, rough)
        image[channel] = _acquired(rng, signal, brain, blur)
    return image, brain


def _regional(rng: np.random.Generator, body: Body) -> FloatArray:
    """Gains of the cerebellum, the brain stem, and three regions anywhere, each on both sides, [H, W, L]."""
    gain = 1 + rng.uniform(-0.1, 0.25) * _bump(body, (22, -62, -38), (24, 18, 15))
    gain += rng.uniform(-0.1, 0.15) * _bump(body, (0, -28, -35), (12, 12, 22))
    for _ in range(3):
        x, y, z = rng.uniform((0, -90, -50), (60, 60, 70))
        gain += rng.uniform(-0.12, 0.12) * _bump(body, (x, y, z), tuple(rng.uniform(8, 30, 3)))
    return gain


def _with_lesions(
    rng: np.random.Generator,
    signal: FloatArray,
    s: Signals,
    disease: Disease,
    rim: FloatArray,
    texture: FloatArray,
    rough: float,
) -> FloatArray:
    """Replace tissue by the parts of lesions. The same texture shows in all channels, to different degrees."""
    uneven = 1 + rough * rng.choice([-1, 1]) * texture
    for share, value in ((disease.whole, s.oedema), (disease.patches, s.patch)):
        signal = signal + share * (1 + (value - 1) * np.clip(uneven, 0.25, 2.0) - signal)
    own = 1 + rough * random_field(rng, signal.shape, rng.uniform(1.5, 5))
    signal += disease.solid * (s.solid * np.clip(0.5 + 0.5 * own, 0.5, 1.6) - signal)
    signal += rim * s.rim
    signal += disease.core * (s.core * np.clip(0.5 + 0.5 * own, 0.5, 1.6) - signal)
    return signal


def _acquired(rng: np.random.Generator, signal: FloatArray, brain: BoolArray, blur: float) -> FloatArray:
    """The scanner's share: displacement, blur, thick slices, receive field, noise, contrast curve; then normalised."""
    shape = signal.shape
    sigma = np.full(3, blur + rng.uniform(0, 0.3))
    if rng.random() < 0.35:
        sigma[rng.choice(3, p=[0.15, 0.15, 0.7])] += rng.uniform(0.3, 1.4)
    signal = ndimage.gaussian_filter(signal, sigma, truncate=3)
    if rng.random() < 0.3:
        signal = ndimage.shift(signal, rng.normal(0, 0.4, 3), order=1, mode="nearest")
    signal = signal * np.exp(rng.uniform(0, 0.12) * random_field(rng, shape, 20))
    if rng.random() < 0.15:
        gains = np.exp(rng.uniform(0, 0.06) * rng.standard_normal(shape[2])).astype(np.float32)
        signal = signal * gains
    noise = rng.uniform(0.0, 0.06)
    real, imaginary = (noise * rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    signal = np.hypot(np.maximum(signal, 0) + real, imaginary)
    signal = np.power(np.maximum(signal, 1e-3), np.exp(rng.normal(0, 0.2)))
    if rng.random() < 0.03:  # a field of view that ends too early
        cut = int(rng.integers(2, max(3, shape[2] // 3)))
        signal[:, :, :cut] = 0
    values = signal[brain]
    median = np.median(values)
    scale = _MAD_TO_STD * np.median(np.abs(values - median)) + 1e-6
    result = np.zeros(shape, np.float32)
    result[brain] = np.clip((values - median) / scale, *_CLIP)
    return result


def _bump(body: Body, centre: tuple[float, float, float], widths: tuple[float, float, float]) -> FloatArray:
    """A Gaussian bump on both sides of the head, in MNI coordinates: [H, W, L] in [0, 1]."""
    offsets = (np.abs(body.mni[0]), body.mni[1], body.mni[2])
    exponent = sum(
        np.square((o - np.float32(c)) / np.float32(w)) for o, c, w in zip(offsets, centre, widths, strict=True)
    )
    return np.asarray(np.exp(-0.5 * np.asarray(exponent)), dtype=np.float32)


def _largest(mask: BoolArray) -> BoolArray:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    found: BoolArray = labels == int(sizes.argmax())
    return found
