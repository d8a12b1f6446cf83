"""`Autoencoder`: a brain through a bottleneck."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cgckit.nets import residual_block

STRIDE = 8
"""The input's sizes must be multiples of this."""

_WIDTHS = (16, 32, 64)


class Autoencoder(nn.Module):
    """Three strided residual blocks, a narrow code, and the way back without skip connections.

    The code has `latent` channels at an eighth of the resolution: enough for the shape of a brain, too little for what
    only one subject has.
    """

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        self.channels = channels
        first, second, third = _WIDTHS
        self.encoder = nn.Sequential(
            residual_block(channels, first, stride=2),
            residual_block(first, second, stride=2),
            residual_block(second, third, stride=2),
            nn.Conv3d(third, latent, kernel_size=1),
        )
        self.decoder = nn.Sequential(
            residual_block(latent, third),
            nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False),
            residual_block(third, second),
            nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False),
            residual_block(second, first),
            nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False),
            nn.Conv3d(first, channels, kernel_size=3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct [B, C, H, W, L]."""
        reconstruction: Tensor = self.decoder(self.encoder(image))
        return reconstruction


def fit_into(volume: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Centre [..., H, W, L] in a box of `shape`: pad with zeros, cut what is larger."""
    for axis, wanted in zip((-3, -2, -1), shape, strict=True):
        size = volume.shape[axis]
        if size > wanted:
            volume = volume.narrow(axis, (size - wanted) // 2, wanted)
        elif size < wanted:
            padding = [0] * 6
            before = (wanted - size) // 2
            padding[2 * (-1 - axis)], padding[2 * (-1 - axis) + 1] = before, wanted - size - before
            volume = torch.nn.functional.pad(volume, padding)
    return volume
