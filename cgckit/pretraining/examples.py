"""Simulated subjects on disk, and the random crops that the network learns from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cgckit.arrays import AnyArray, FloatArray
from cgckit.nets.loop import step_seed
from cgckit.pretraining.subject import SimulatedScan, simulate
from cgckit.sealed import DamagedError, read_tensors, write_tensors
from cgckit.starting import CROP, SLOTS

logger = logging.getLogger(__name__)

_IMAGES = 2 * len(SLOTS)
_FIRST, _TAKEN_IN = 40, 0.75
_LOWEST, _STEPS = -5.0, 17.0  # 256 steps hold -5 to 10, with 0 among them


class Crops(NamedTuple):
    """A batch: `image` [B, 8, h, w, l] float32, `lesion` [B, h, w, l] float32 in [0, 1], `brain` [B, h, w, l] bool."""

    image: Tensor
    lesion: Tensor
    brain: Tensor


@dataclass(frozen=True)
class Examples:
    """The simulated subjects of one seed in a folder; one that is not there yet is simulated when it is asked for.

    Attributes:
        folder: holds one file of bytes a subject, some 5 MB.
        seed: of the simulation.
    """

    folder: Path
    seed: int

    def __getitem__(self, index: int) -> AnyArray:
        """Subject `index` as [10, H, W, L] uint8: images and mirror images, share of lesion, brain."""
        path = self.folder / f"{self.seed}-{index:05d}.safetensors"
        try:
            return read_tensors(path)[0]["packed"].numpy()
        except FileNotFoundError:
            pass
        except DamagedError as error:
            logger.warning("%s is damaged (%s) and is simulated again", path, error)
        packed = _packed(simulate(self.seed, index))
        write_tensors(path, {"packed": torch.from_numpy(packed)})
        return packed


@dataclass(frozen=True)
class CropSampler:
    """Draws batches; batch `index` depends on the two seeds and on `index` alone.

    Attributes:
        examples: the subjects.
        subjects: how many of them there are.
        steps: of the training; subjects are taken in one after the other over its first three quarters.
        batch: crops a step, each of another subject.
        seed: of the drawing.
    """

    examples: Examples
    subjects: int
    steps: int
    batch: int
    seed: int

    def __call__(self, index: int) -> Crops:
        """Return batch `index`."""
        rng = np.random.default_rng(step_seed(self.seed, index))
        known = min(self.subjects, max(_FIRST, round(self.subjects * (index + 1) / (_TAKEN_IN * self.steps))))
        drawn = [_crop(rng, self.examples[int(rng.integers(known))]) for _ in range(self.batch)]
        image, lesion, brain = (torch.from_numpy(np.stack(parts)) for parts in zip(*drawn, strict=True))
        return Crops(image, lesion, brain)


def _packed(scan: SimulatedScan) -> AnyArray:
    images = np.concatenate([scan.image, scan.mirrored])
    parts: list[AnyArray] = [(images - _LOWEST) * _STEPS, 255 * scan.lesion[None], scan.brain[None]]
    return np.concatenate([np.clip(np.rint(part), 0, 255).astype(np.uint8) for part in parts])


def _crop(rng: np.random.Generator, packed: AnyArray) -> tuple[FloatArray, FloatArray, AnyArray]:
    """A crop around a lesion every other time, mirrored, rescaled, and with some of its images missing."""
    lesion, brain = packed[_IMAGES], packed[_IMAGES + 1]
    wanted = np.flatnonzero(lesion >= 128) if rng.random() < 0.5 else np.empty(0)
    choices = wanted if wanted.size else np.flatnonzero(brain)
    centre = np.unravel_index(int(rng.choice(choices)), brain.shape)
    box: list[slice] = [slice(None)]
    missing = []
    for c, size, length in zip(centre, CROP, brain.shape, strict=True):
        start = int(np.clip(int(c) - size // 2 + rng.integers(-8, 9), 0, max(0, length - size)))
        box.append(slice(start, start + size))
        missing.append((0, max(0, size - length)))
    part = np.asarray(packed[tuple(box)], dtype=np.float32)
    image = np.pad(part[:_IMAGES] / _STEPS + _LOWEST, [(0, 0), *missing])
    lesion, inside = np.pad(part[_IMAGES] / 255, missing), np.pad(part[_IMAGES + 1], missing) > 0
    image = _varied(rng, image) * inside
    if rng.random() < 0.5:
        image, lesion, inside = image[:, ::-1], lesion[::-1], inside[::-1]
    return image.astype(np.float32), lesion.astype(np.float32), inside.copy()


def _varied(rng: np.random.Generator, image: FloatArray) -> FloatArray:
    """Other scale, brightness and noise for each image; then some images, or all mirror images, are left out."""
    slots = len(SLOTS)
    for slot in range(slots):
        pair = [slot, slots + slot]
        # What is exactly 0 lies outside the brain, or beyond its mirror image.
        image[pair] = np.where(image[pair] != 0, image[pair] * np.exp(rng.normal(0, 0.12)) + rng.normal(0, 0.2), 0)
        if rng.random() < 0.3:
            image[slot] += rng.uniform(0, 0.4) * rng.standard_normal(image.shape[1:], dtype=np.float32)
    if rng.random() < 0.15:
        _cut(rng, image)
    kind = rng.random()
    if kind < 0.4:
        kept = np.ones(slots, dtype=bool)
    elif kind < 0.6:
        kept = np.arange(slots) == 0
    else:
        kept = rng.random(slots) < 0.5
        kept[0] = kind < 0.95
        kept[-1] |= not kept[0]  # without FLAIR there is T2 at least
    image[np.concatenate([~kept, ~kept])] = 0
    if rng.random() < 0.2:
        image[slots:] = 0
    return np.clip(image, _LOWEST, -2 * _LOWEST)


def _cut(rng: np.random.Generator, image: FloatArray) -> None:
    """Let the field of view of one image, or of one mirror image, end within the crop, in place."""
    channel, axis = int(rng.integers(len(image))), int(rng.integers(3))
    slabs = np.moveaxis(image[channel], axis, 0)
    thick = int(rng.integers(4, len(slabs) // 2))
    slabs[slice(thick) if rng.random() < 0.5 else slice(-thick, None)] = _LOWEST
