"""Patches of a feature map: where they lie, which take part in the contrast and which are positive."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What features may be: the element types of csrc/common/number.h."""


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Where autocast is at work, switch it off: the losses choose their precision themselves."""
    works = device.type != "meta" and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if works else nullcontext()


@dataclass(frozen=True)
class PatchGrid:
    """Patches of `size` voxels cut every `stride` voxels from maps of shape `map_shape` (H, W, L).

    P = product of `counts` patches fit in an image; they are numbered with the last axis fastest. Voxels past
    the last whole patch belong to none; with a stride below the size, patches overlap.
    """

    map_shape: tuple[int, int, int]
    size: tuple[int, int, int]
    stride: tuple[int, int, int]

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many patches fit along each axis."""
        fit = [(n - p) // s + 1 for n, p, s in zip(self.map_shape, self.size, self.stride, strict=True)]
        return (fit[0], fit[1], fit[2])

    @property
    def volume(self) -> int:
        """Voxels in a patch."""
        return self.size[0] * self.size[1] * self.size[2]

    @classmethod
    def of(
        cls, map_shape: Sequence[int], patch_size: int | Sequence[int], stride: int | Sequence[int] | None
    ) -> PatchGrid:
        """Check the arguments of a call and return its grid; ValueError names the argument at fault.

        A map of two axes is one of three whose last has one voxel.
        """
        size = _triple("patch_size", patch_size, len(map_shape))
        step = size if stride is None else _triple("stride", stride, len(map_shape))
        shape = (int(map_shape[0]), int(map_shape[1]), int(map_shape[2]) if len(map_shape) == 3 else 1)
        for axis, edge, extent in zip("HWL", size, shape, strict=True):
            if edge > extent:
                raise ValueError(f"patch_size is {edge} along {axis}, where the map has {extent}")
        return cls(shape, size, step)

    def cut(self, volume: Tensor) -> Tensor:
        """View [B, ..., H, W, L] as its patches, [B, ..., nh, nw, nl, ph, pw, pl]."""
        first = volume.dim() - 3
        for axis, (edge, step) in enumerate(zip(self.size, self.stride, strict=True)):
            volume = volume.unfold(first + axis, edge, step)
        return volume

    def sums(self, volume: Tensor) -> Tensor:
        """Sum [B, H, W, L] over every patch in float64, [B, P]."""
        return self.cut(volume).sum((-3, -2, -1), dtype=torch.float64).flatten(1)

    def vectors(self, features: Tensor) -> Tensor:
        """Copy the patches of [B, C, H, W, L] to rows x_i, [B, P, D] with D = C ph pw pl."""
        patches = self.cut(features)  # [B, C, nh, nw, nl, ph, pw, pl]
        return patches.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(1, 3)


def _triple(name: str, value: int | Sequence[int], axes: int) -> tuple[int, int, int]:
    entries = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    if len(entries) != axes or not all(isinstance(entry, int) and entry >= 1 for entry in entries):
        raise ValueError(f"{name} must be a positive integer or {axes} of them, not {value!r}")
    return (entries[0], entries[1], entries[2] if axes == 3 else 1)


def positive(probability: Tensor, grid: PatchGrid, threshold: float) -> Tensor:
    """Patches whose mean probability is at least `threshold`, [B, P] bool.

    Means are compared in the precision of the probabilities, float32, so that a map that is everywhere equal
    to the threshold is positive.
    """
    limit = torch.full((), threshold, dtype=torch.float32, device=probability.device).double()
    return grid.sums(probability) >= limit * grid.volume


def inside(mask: Tensor, grid: PatchGrid) -> Tensor:
    """Patches with at least half of their voxels in `mask`, [B, P] bool."""
    return 2 * grid.sums(mask) >= grid.volume


class LossInputs(NamedTuple):
    """A call of the loss, checked."""

    features: Tensor
    """[B, C, H, W, L], of `DTYPES`."""
    probability: Tensor
    """[B, H, W, L] float32, without a gradient."""
    mask: Tensor | None
    """[B, H, W, L] bool, where patches may lie; everywhere if None."""
    grid: PatchGrid
    temperature: Tensor
    """[] float64."""
    threshold: float
    """Smallest mean probability of a positive patch."""
    pooled: bool
    """Whether the patches of all images make one group."""


class PatchStatistics(NamedTuple):
    """Who takes part. Groups: G = B images of N = P patches, or one group of N = B P patches."""

    norm: Tensor
    """[G, N], |x_i|."""
    order: Tensor
    """[G, N] int64: anchors, then the other members, then the patches left out, each in ascending order."""
    counts: Tensor
    """[G, 2] int64: the number of anchors n, the number of members."""


def patch_statistics(
    features: Tensor,
    probability: Tensor,
    mask: Tensor | None,
    grid: PatchGrid,
    threshold: float,
    pooled: bool,
) -> PatchStatistics:
    """Twin of `torch.ops.cgckit.patch_statistics` for any device.

    A patch is left out if its norm is zero (its square is below the smallest normal number of the dtype), or
    less than half of it lies inside `mask`. NaN takes part, so that it shows in the loss.
    """
    norm = torch.linalg.vector_norm(grid.vectors(features), dim=-1, dtype=torch.float64)
    member = ~(norm.square() < torch.finfo(features.dtype).tiny)
    if mask is not None:
        member &= inside(mask, grid)
    anchor = member & positive(probability, grid, threshold)
    if pooled:
        norm, member, anchor = (t.reshape(1, -1) for t in (norm, member, anchor))
    role = 2 - member.long() - anchor.long()  # 0 anchor, 1 other member, 2 left out
    return PatchStatistics(
        norm.to(features.dtype),
        torch.argsort(role, dim=1, stable=True),
        torch.stack((anchor.sum(1), member.sum(1)), dim=1),
    )
