"""`AmconsPrior`: where the attention of an encoder goes that was taught to spread it evenly."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgckit.options import at_least
from cgckit_reconstruction.base import ReconstructionPrior
from cgckit_reconstruction.networks import Gaussian, absolute_error, decoder

_WIDTHS = (32, 64, 128, 128)
_GROUPS = 8


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, as in ResNet-18."""

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 3, stride=stride, padding=1),
            nn.GroupNorm(_GROUPS, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(_GROUPS, width),
        )
        same = before == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, width, 1, stride=stride)

    def forward(self, maps: Tensor) -> Tensor:
        """[B, before, H, W] to [B, width, H / stride, W / stride]."""
        return functional.relu(self.body(maps) + self.shortcut(maps))


class AttentiveVae(nn.Module):
    """A VAE whose encoder shows the activations of its first stage."""

    def __init__(self, size: int, latent: int) -> None:
        super().__init__()
        first = _WIDTHS[0]
        self.first = nn.Sequential(
            nn.Conv2d(1, first, 7, stride=2, padding=3), ResidualBlock(first, first), ResidualBlock(first, first)
        )
        stages: list[nn.Module] = []
        for before, width in itertools.pairwise(_WIDTHS):
            stages += [ResidualBlock(before, width, stride=2), ResidualBlock(width, width)]
        features = _WIDTHS[-1] * (size // 16) ** 2
        self.rest = nn.Sequential(*stages, nn.Flatten(), nn.Linear(features, 2 * latent))
        self.decoder = decoder(size, latent)

    def attend(self, slices: Tensor) -> tuple[Tensor, Gaussian]:
        """The mean activation of the first stage, [B, 1, S / 2, S / 2], and the code."""
        maps = self.first(slices)
        mean, log_variance = self.rest(maps).chunk(2, dim=1)
        return maps.mean(dim=1, keepdim=True), Gaussian(mean, log_variance.clamp(-10, 10))


@dataclass
class AmconsPrior(ReconstructionPrior):
    """Attention constrained by entropy: Silva-Rodriguez et al., "Constrained unsupervised anomaly segmentation", Med.
    Image Anal. 2022.

    A VAE with a ResNet-18-like encoder is trained on `|x - d(z)| + 10 KL - .1 H`, where H is the entropy of the softmax
    of the first stage's mean activation over the brain: attention is to be spread evenly over what the cohort has in
    common.
    The map is this activation, less its median in the brain of the slice: no residual.

    Open choices: the stages have 32, 64, 128 and 128 filters and no pooling before the first, so that the map has
    half the slice's resolution; error, KL and H are means (over pixels, numbers of the code, and as a share of the
    largest entropy), so that their weights do not depend on the size.

    Attributes:
        kl_weight: weight of the divergence.
        entropy_weight: weight of the entropy; 0 leaves attention alone.
    """

    summary: ClassVar[str] = "Attention of a VAE's encoder, constrained by entropy (AMCons)"

    kl_weight: Annotated[float, at_least(0)] = 10.0
    entropy_weight: Annotated[float, at_least(0)] = 0.1

    def network(self) -> nn.Module:
        """The VAE that shows its attention."""
        return AttentiveVae(self.size, self.latent)

    def loss(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """The sum above."""
        assert isinstance(network, AttentiveVae)
        attention, code = network.attend(slices)
        error = absolute_error(network.decoder(code.draw()), slices, brain).sum() / brain.sum()
        divergence = code.divergence().mean() / self.latent
        return error + self.kl_weight * divergence - self.entropy_weight * entropy(attention, brain).mean()

    def anomaly(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """Attention above the slice's median, at the slice's resolution."""
        assert isinstance(network, AttentiveVae)
        with torch.no_grad():
            attention, _ = network.attend(slices)
        attention = functional.interpolate(attention, slices.shape[-2:], mode="bilinear")
        middle = attention.masked_fill(brain == 0, math.nan).flatten(1).nanmedian(dim=1).values.nan_to_num()
        return (attention - middle[:, None, None, None]) * brain


def entropy(attention: Tensor, brain: Tensor) -> Tensor:
    """Entropy of the softmax of [B, 1, s, s] over each brain [B, 1, S, S], as a share of the largest, [B]."""
    inside = functional.adaptive_avg_pool2d(brain, attention.shape[-2:]).flatten(1) > 0.5
    logs = attention.flatten(1).masked_fill(~inside, -1e9).log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1) / inside.sum(dim=1).clamp_min(2).log()
