"""Training examples on disk and the random crops that are read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import RandGaussianNoised, RandScaleIntensityd, RandShiftIntensityd
from monai.transforms.spatial.dictionary import RandFlipd
from monai.transforms.utils import generate_pos_neg_label_crop_centers
from monai.utils.type_conversion import convert_to_tensor
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cgckit.arrays import Shape
from cgckit.cgc.margin import trusted
from cgckit.cgc.settings import TrainingSettings
from cgckit.errors import BadInputError
from cgckit.images.case import Case
from cgckit.images.preparation import resample_case, transfer
from cgckit.nets.loop import step_seed
from cgckit.sealed import write_tensors

_KEYS = ("image", "prior", "brain", "trusted")
_CENTRES = 20_000
"""Voxels of each kind that are kept as possible crop centres: enough to be a fair sample of any lesion."""


class Crops(NamedTuple):
    """A batch: `image` [B, C, h, w, l] float32, `prior` [B, h, w, l] float32, `trusted` [B, h, w, l] bool."""

    image: Tensor
    prior: Tensor
    trusted: Tensor


def write_case(path: Path, case: Case, target: Tensor, settings: TrainingSettings) -> None:
    """Write a case for training with what the network is to learn, both averaged onto the network's working grid.

    Args:
        path: see `write_example`.
        case: the subject on the grid that priors are computed on.
        target: [H, W, L] probability on that grid.
        settings: working grid and crop.
    """
    coarse = resample_case(case, settings.spacing)
    averaged, kept = lesson(case, coarse, target, settings)
    write_example(path, coarse.image, averaged, coarse.brain, kept, settings.crop)


def lesson(case: Case, coarse: Case, target: Tensor, settings: TrainingSettings) -> tuple[Tensor, Tensor]:
    """What a network is taught: the target on its working grid, [H, W, L], and the voxels that count, [H, W, L] bool.

    Args:
        case: the subject on the grid of `target`.
        coarse: the same on the network's working grid.
        target: [H, W, L] probability.
        settings: how much of the target is trusted.
    """
    averaged = transfer(target, case, coarse) * coarse.brain
    kept = trusted(
        averaged,
        coarse.brain,
        coarse.spacing,
        inner=settings.untrusted_inner,
        outer=settings.untrusted_outer,
        doubt=settings.untrusted_doubt,
    )
    return averaged, kept


def write_example(path: Path, image: Tensor, prior: Tensor, brain: Tensor, trusted: Tensor, minimum: Shape) -> None:
    """Write one subject for training, padded with zeros to at least `minimum` voxels.

    A cohort of thousands does not fit memory; crops are read from memory-mapped files instead. Images are kept in
    half precision, which is ample for values that end at 10.

    Args:
        path: a safetensors file, written atomically.
        image: [C, H, W, L] on the network's working grid.
        prior: [H, W, L] probability.
        brain: [H, W, L] bool.
        trusted: [H, W, L] bool, the voxels of the brain that are trained on.
        minimum: the crop that must fit.
    """
    padding: list[int] = []
    for size, least in zip(reversed(brain.shape), reversed(minimum), strict=True):
        missing = max(0, least - size)
        padding += [missing // 2, missing - missing // 2]
    image, prior, brain, trusted = (F.pad(x, padding) for x in (image, prior, brain, trusted))
    generator = np.random.default_rng(0)
    tensors = {"image": image.half(), "prior": prior.half()}
    tensors |= {"brain": brain.to(torch.uint8), "trusted": trusted.to(torch.uint8)}
    for name, where in {"lesion": prior >= 0.5, "inside": brain}.items():
        voxels = where.flatten().nonzero().flatten().numpy()
        if len(voxels) > _CENTRES:
            voxels = np.sort(generator.choice(voxels, _CENTRES, replace=False))
        tensors[name] = torch.from_numpy(voxels.astype(np.int64))
    write_tensors(path, {name: value.contiguous() for name, value in tensors.items()})


@dataclass(frozen=True)
class CropSampler:
    """Draws batches from the examples at `paths`; batch `index` depends on `seed` and `index` alone.

    Every subject is visited once before any is visited again. A crop is centred on a voxel of the prior's lesion
    with probability `lesion_share`, else on any voxel of the brain.
    """

    paths: Sequence[Path]
    crop: Shape
    batch: int
    lesion_share: float
    augment: bool
    seed: int

    def __call__(self, index: int) -> Crops:
        """Return batch `index`.

        Raises:
            BadInputError: an example cannot be read.
        """
        state = np.random.RandomState(step_seed(self.seed, index) % 2**32)
        drawn = [self._drawn(self._subject(index * self.batch + b), state) for b in range(self.batch)]
        image, prior, kept = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        return Crops(image, prior, kept)

    def _subject(self, turn: int) -> Path:
        round_, position = divmod(turn, len(self.paths))
        order = np.random.default_rng([self.seed, round_]).permutation(len(self.paths))
        return self.paths[int(order[position])]

    def _drawn(self, path: Path, state: np.random.RandomState) -> tuple[Tensor, Tensor, Tensor]:
        try:
            return self._crop(path, state)
        except (OSError, SafetensorError) as error:
            raise BadInputError(f"{path}: cannot be read ({error}); the same command makes it anew") from error

    def _crop(self, path: Path, state: np.random.RandomState) -> tuple[Tensor, Tensor, Tensor]:
        with safe_open(path, framework="pt") as file:
            brain = file.get_slice("brain")
            inside, lesion = (file.get_tensor(name).numpy() for name in ("inside", "lesion"))
            centre = generate_pos_neg_label_crop_centers(
                spatial_size=self.crop,
                num_samples=1,
                pos_ratio=self.lesion_share,
                label_spatial_shape=brain.get_shape(),
                fg_indices=lesion if len(lesion) else inside,
                bg_indices=inside,
                rand_state=state,
            )[0]
            starts = (int(c) - size // 2 for c, size in zip(centre, self.crop, strict=True))
            h, w, d = (slice(start, start + size) for start, size in zip(starts, self.crop, strict=True))
            data = {
                "image": file.get_slice("image")[:, h, w, d].float(),
                "prior": file.get_slice("prior")[h, w, d].float()[None],
                "brain": brain[h, w, d].bool()[None],
                "trusted": file.get_slice("trusted")[h, w, d].bool()[None],
            }
        if self.augment:
            data = augmentation(data["image"].shape[0]).set_random_state(state=state)(data)
        # Plain tensors: MONAI's, which carry meta-data, slow every operation of the network down.
        image, prior, inside, kept = (convert_to_tensor(data[name], track_meta=False) for name in _KEYS)
        # Noise and shifts must not paint the background, which is zero at inference too.
        return image * inside, prior[0], kept[0]


def augmentation(channels: int) -> Compose:
    """Left-right mirroring of all maps, and `intensity_augmentation` of the image."""
    return Compose([RandFlipd(keys=_KEYS, prob=0.5, spatial_axis=0), intensity_augmentation(channels)])


def intensity_augmentation(channels: int) -> Compose:
    """Contrast, brightness and noise of the "image" [C, H, W, L], which differ between the modalities."""
    several = channels > 1
    return Compose(
        [
            RandScaleIntensityd(keys="image", factors=0.15, prob=0.5, channel_wise=several),
            RandShiftIntensityd(keys="image", offsets=0.2, prob=0.5, channel_wise=several),
            RandGaussianNoised(keys="image", prob=0.5, std=0.15),
        ]
    )
