"""The sizes that are measured, and their inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SHARES = (0.05, 0.1, 0.5, 1.0)


@dataclass(frozen=True)
class Preset:
    """A feature map [B, C, H, W, L] cut into N patches of D elements, all in one group.

    `classes` > 0 makes it a labelled set of embeddings for `supervised_contrastive` instead: every sample is an anchor.
    """

    name: str
    shape: tuple[int, int, int, int, int]
    patch: tuple[int, int, int]
    shares: tuple[float, ...] = SHARES
    classes: int = 0

    @property
    def patches(self) -> int:
        """N."""
        batch, _, *extent = self.shape
        counts = [n // p for n, p in zip(extent, self.patch, strict=True)]
        return batch * counts[0] * counts[1] * counts[2]

    @property
    def depth(self) -> int:
        """D."""
        return self.shape[1] * self.patch[0] * self.patch[1] * self.patch[2]


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("paper-128", (2, 128, 24, 24, 8), (6, 6, 4)),
        Preset("paper-256", (2, 256, 24, 24, 8), (6, 6, 4)),
        Preset("fine-128", (2, 128, 24, 24, 8), (3, 3, 4)),
        Preset("fine-256", (2, 256, 24, 24, 8), (3, 3, 4)),
        Preset("dense", (2, 256, 24, 24, 8), (1, 1, 1)),
        Preset("S", (1, 32, 48, 48, 48), (4, 4, 4)),
        Preset("M", (2, 32, 96, 96, 96), (4, 4, 4)),
        Preset("classes-2", (1, 256, 9216, 1, 1), (1, 1, 1), (1.0,), classes=2),
        Preset("classes-100", (1, 256, 9216, 1, 1), (1, 1, 1), (1.0,), classes=100),
        # Time and memory against N at a fixed number of anchors (256).
        *(
            Preset(f"n-{patches}", (1, 256, patches, 1, 1), (1, 1, 1), (256 / patches,))
            for patches in (3125, 6250, 12500, 25000, 50000, 100_000)
        ),
    )
}


@dataclass(frozen=True)
class Inputs:
    """What the contenders are given."""

    features: Tensor  # [B, C, H, W, L], or embeddings [N, D] if the preset has classes
    probability: Tensor  # [B, H, W, L]
    positive: Tensor  # [N] bool
    labels: Tensor  # [N] int64: of samples that are no anchors, each its own


def inputs(preset: Preset, rho: float, device: torch.device) -> Inputs:
    """Noise, and round(rho N) positive patches (at least two) spread over the map at random."""
    generator = torch.Generator().manual_seed(0)
    if preset.classes:
        features = torch.randn(preset.patches, preset.depth, generator=generator)
        labels = torch.randint(preset.classes, (preset.patches,), generator=generator)
        positive = torch.ones(preset.patches, dtype=torch.bool)
        probability = torch.empty(0)
    else:
        features = torch.randn(preset.shape, generator=generator)
        anchors = max(2, round(rho * preset.patches))
        positive = torch.zeros(preset.patches, dtype=torch.bool)
        positive[torch.randperm(preset.patches, generator=generator)[:anchors]] = True
        labels = torch.where(positive, 0, torch.arange(1, preset.patches + 1))
        batch, _, *extent = preset.shape
        probability = positive.reshape(batch, *(n // p for n, p in zip(extent, preset.patch, strict=True))).float()
        for axis, edge in enumerate(preset.patch, start=1):
            probability = probability.repeat_interleave(edge, dim=axis)
    tensors = (features, probability, positive, labels)
    return Inputs(*(tensor.to(device) for tensor in tensors))
