"""The encoder and the decoder that all methods share."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

BOTTLENECK = 8
"""Edge of the last feature maps, in pixels."""

_GROUPS = 8
_CODE_CHANNELS = 16


def widths(size: int) -> list[int]:
    """Filters of the levels from `size` down to 8x8: min(128, 32 * 2^i)."""
    return [min(128, 32 * 2**level) for level in range(int(math.log2(size // BOTTLENECK)))]


def encoder(size: int, outputs: int, dropout: float = 0.0) -> nn.Sequential:
    """[B, 1, size, size] to [B, outputs]: strided 5x5 convolutions, 1x1 to few channels, one dense layer.

    Group normalisation stands where Baur et al. have batch normalisation: a subject is then mapped in the same way
    whichever slices stand beside it.
    """
    layers: list[nn.Module] = []
    before = 1
    for width in widths(size):
        layers += [nn.Conv2d(before, width, 5, stride=2, padding=2), nn.GroupNorm(_GROUPS, width), nn.LeakyReLU(0.2)]
        before = width
    layers += [nn.Conv2d(before, _CODE_CHANNELS, 1), nn.Flatten(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(_CODE_CHANNELS * BOTTLENECK**2, outputs))


def decoder(size: int, latent: int, dropout: float = 0.0) -> nn.Sequential:
    """[B, latent] to [B, 1, size, size], the mirror image of the encoder."""
    levels = widths(size)[::-1]
    layers: list[nn.Module] = [
        nn.Linear(latent, _CODE_CHANNELS * BOTTLENECK**2),
        nn.Dropout(dropout),
        nn.Unflatten(1, (_CODE_CHANNELS, BOTTLENECK, BOTTLENECK)),
        nn.Conv2d(_CODE_CHANNELS, levels[0], 1),
    ]
    for before, width in zip(levels, [*levels[1:], levels[-1]], strict=True):
        up = nn.ConvTranspose2d(before, width, 5, stride=2, padding=2, output_padding=1)
        layers += [up, nn.GroupNorm(_GROUPS, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(levels[-1], 1, 1))


class Gaussian(NamedTuple):
    """Diagonal Gaussians: mean and logarithm of the variance, [..., D] each."""

    mean: Tensor
    log_variance: Tensor

    def draw(self) -> Tensor:
        """One value of each, differentiable in its parameters."""
        return self.mean + torch.randn_like(self.mean) * (0.5 * self.log_variance).exp()

    def divergence(self, other: Gaussian | None = None) -> Tensor:
        """Kullback-Leibler divergence [...] from another Gaussian, by default the standard one."""
        if other is None:
            other = Gaussian(torch.zeros_like(self.mean), torch.zeros_like(self.mean))
        difference = (self.log_variance - other.log_variance).exp()
        distance = (self.mean - other.mean) ** 2 / other.log_variance.exp()
        return 0.5 * (difference + distance - 1 + other.log_variance - self.log_variance).sum(dim=-1)


class Vae(nn.Module):
    """A variational auto-encoder with a standard normal prior."""

    def __init__(self, size: int, latent: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder(size, 2 * latent, dropout)
        self.decoder = decoder(size, latent, dropout)

    def encode(self, slices: Tensor) -> Gaussian:
        """What the code of each slice may be, [B, latent]."""
        mean, log_variance = self.encoder(slices).chunk(2, dim=1)
        # Beyond these bounds the exponential is of no use to the optimiser.
        return Gaussian(mean, log_variance.clamp(-10, 10))

    def forward(self, slices: Tensor) -> Tensor:
        """Reconstruct [B, 1, size, size], from a drawn code in training, from its mean otherwise."""
        code = self.encode(slices)
        reconstruction: Tensor = self.decoder(code.draw() if self.training else code.mean)
        return reconstruction


def absolute_error(expected: Tensor, slices: Tensor, brain: Tensor) -> Tensor:
    """Sum of the absolute differences in the brain of each slice, [B].

    It leaves rare bright pixels aside, where the squared error would chase them.
    """
    return ((expected - slices).abs() * brain).sum(dim=(1, 2, 3))
