"""The CGC network: a residual encoder-decoder with a coarse head and a projection for the patchwise contrast."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from cgckit.nets.blocks import residual_block, up_block

_LESION_FREE = -4.0
"""Log-odds of lesion that an untrained network gives: some 2 in 100 voxels, as lesions are rare."""

DOWN_SAMPLING = 8
"""Three twofold down-samplings: the encoder's grid is eight times coarser than the image's."""


class CGCOutput(NamedTuple):
    """What the network gives for a batch of crops, all before the sigmoid.

    Attributes:
        lesion: [B, 1, H, W, L], the segmentation.
        coarse: [B, 1, H/8, W/8, L/8], the coarse-grained head.
        embedding: [B, P, H/8, W/8, L/8], the features that the fine-grained path cuts into patches.
    """

    lesion: Tensor
    coarse: Tensor
    embedding: Tensor


class CGCNet(nn.Module):
    """Cross-granularity contrastive network of Yu, Zhao et al. (Eq. 1 and the coarse- and fine-grained paths).

    Args:
        in_channels: number of modalities; they are stacked as channels.
        widths: channels of the four levels, finest first.
        projection: channels of the 1x1x1 projection in front of the patchwise contrast.

    The content code `z` is instance-normalised before the heads and the decoder: the contrastive loss does not see
    scale, so without it Adam lets the norm of `z` grow until the decoder's skips no longer matter.

    The heads' biases start where normal tissue is (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, use
    the same start). From 0, the quickest way to call nearly everything normal is features that all say normal; their
    activation leaves nothing of them in a lesion, whose log-odds then stay at the bias, near 0, however long it trains.
    """

    def __init__(self, in_channels: int, widths: Sequence[int] = (32, 64, 128, 256), projection: int = 128) -> None:
        super().__init__()
        if len(widths) != 4:
            raise ValueError(f"widths must name four levels, got {tuple(widths)}")
        self.stem = residual_block(in_channels, widths[0])
        self.down = nn.ModuleList(residual_block(a, b, stride=2) for a, b in pairwise(widths))
        self.normalise = nn.InstanceNorm3d(widths[-1])
        self.up = nn.ModuleList(up_block(b, a) for a, b in reversed(list(pairwise(widths))))
        self.lesion = _head(widths[0])
        coarse = _head(widths[-1])
        self.coarse = nn.Sequential(residual_block(widths[-1], widths[-1]), coarse)
        self.project = nn.Conv3d(widths[-1], projection, kernel_size=1)

    def forward(self, image: Tensor) -> CGCOutput:
        """Segment `image` [B, C, H, W, L]; H, W and L are multiples of 8."""
        skips = [self.stem(image)]
        for down in self.down:
            skips.append(down(skips[-1]))
        content = self.normalise(skips.pop())
        features = content
        for up in self.up:
            features = up(features, skips.pop())
        return CGCOutput(self.lesion(features), self.coarse(content), self.project(content))

    def segment(self, image: Tensor) -> Tensor:
        """The segmentation alone, before the sigmoid, [B, 1, H, W, L]: what inference needs."""
        lesion: Tensor = self(image).lesion
        return lesion


def _head(channels: int) -> nn.Conv3d:
    """Log-odds of lesion from features of so many channels, at first those of normal tissue."""
    head = nn.Conv3d(channels, 1, kernel_size=1)
    nn.init.constant_(head.bias, _LESION_FREE)  # type: ignore[arg-type]
    return head
