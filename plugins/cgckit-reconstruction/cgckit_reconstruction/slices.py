"""Axial slices of a case, all of one size, and a cohort's slices on disk to draw from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import Self

from cgckit import Case, UsageError

# A slice with less brain than this share of its field says little: the top of the head, the lowest slices.
_LEAST_BRAIN = 0.05


@dataclass(frozen=True)
class Field:
    """The square around the brain, in voxels of a case's axial plane: what its slices show.

    Attributes:
        corner: first voxel along the two axes; negative where the square reaches beyond the image.
        edge: of the square.
    """

    corner: tuple[int, int]
    edge: int

    @classmethod
    def of(cls, brain: Tensor) -> Self:
        """The smallest square that holds a brain, [H, W, L] bool, centred on it."""
        extents = []
        for axis in (0, 1):
            found = brain.any(dim=2).any(dim=1 - axis).nonzero().flatten()
            extents.append((int(found[0]), int(found[-1]) + 1))
        edge = max(stop - start for start, stop in extents)
        (top, left) = ((start + stop - edge) // 2 for start, stop in extents)
        return cls((top, left), edge)

    def slices(self, volume: Tensor, size: int) -> Tensor:
        """The field of a volume [H, W, L], as slices [L, 1, size, size]."""
        height, width, _ = volume.shape
        top, left = self.corner
        padding = (-left, left + self.edge - width, -top, top + self.edge - height)
        square = functional.pad(volume.movedim(2, 0)[:, None].float(), padding)
        return functional.interpolate(square, (size, size), mode="bilinear", antialias=True)

    def volume(self, slices: Tensor, shape: Sequence[int]) -> Tensor:
        """Slices [L, 1, size, size] back in a volume of `shape`, 0 outside the field."""
        height, width, _ = shape
        top, left = self.corner
        square = functional.interpolate(slices, (self.edge, self.edge), mode="bilinear", antialias=True)
        padding = (left, width - left - self.edge, top, height - top - self.edge)
        return functional.pad(square, padding)[:, 0].movedim(0, 2).contiguous()


def main_modality(case: Case) -> str:
    """The modality that the priors look at: FLAIR, or else the first."""
    return "flair" if "flair" in case.modalities else case.modalities[0]


class SliceStore:
    """The cohort's slices in a temporary file, so that memory holds one case at a time and a batch.

    Args:
        cases: each is asked for once.
        modality: of the slices.
        size: their edge in pixels.
        evidence: lesion evidence of a case, [H, W, L]; the `share` of the slices with the most of it is left out.
        share: of the slices.

    Raises:
        UsageError: a case lacks the modality, or no slice is left.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        modality: str,
        size: int,
        evidence: Callable[[Case], Tensor] | None = None,
        share: float = 0.0,
    ) -> None:
        self._size = size
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 # lives as long as the store
        amounts = []
        for case in cases:
            images, brains = case_slices(case, modality, size)
            kept = brains.mean(dim=(1, 2, 3)) >= _LEAST_BRAIN
            pairs = torch.cat([images, brains], dim=1)[kept]
            self._file.write(pairs.half().numpy().tobytes())
            amount = torch.zeros(len(images)) if evidence is None else evidence(case).sum(dim=(0, 1))
            amounts.append(amount[kept])
        order = torch.cat(amounts).argsort(stable=True)
        self._kept = order[: len(order) - int(share * len(order))] if evidence is not None else order
        if not len(self._kept):
            raise UsageError("no axial slice with enough brain to learn from: check the brain masks")
        self._file.flush()
        self._pairs = np.memmap(self._file, np.float16, mode="r", shape=(len(order), 2, size, size))

    def __len__(self) -> int:
        return len(self._kept)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Slices and their brains, [count, 1, size, size] each, drawn by torch's generator, half of them mirrored."""
        picked = self._kept[torch.randint(len(self), (count,))]
        pairs = torch.from_numpy(self._pairs[picked.numpy()].astype(np.float32))
        # Brains are nearly symmetric: the mirror image of one is a further subject.
        mirrored = torch.rand(count) < 0.5
        pairs[mirrored] = pairs[mirrored].flip(2)
        return pairs[:, :1], (pairs[:, 1:] > 0.5).float()


def case_slices(case: Case, modality: str, size: int) -> tuple[Tensor, Tensor]:
    """All slices of a case and their brains, [L, 1, size, size] float32 each.

    Raises:
        UsageError: the case lacks the modality.
    """
    if modality not in case.modalities:
        raise UsageError(f"{case.subject} has no {modality}, which this prior was fitted on: leave the subject out")
    field = Field.of(case.brain)
    return field.slices(case.channel(modality), size), field.slices(case.brain, size)
