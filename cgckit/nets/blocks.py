"""Network blocks: MONAI's, with the normalisation and activation that all our networks share."""

from __future__ import annotations

from monai.networks.blocks.dynunet_block import UnetResBlock, UnetUpBlock
from torch import nn

_NORM = ("instance", {"affine": True})
_ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})


def residual_block(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Module:
    """Two 3x3x3 convolutions with a shortcut, [B, in, H, W, L] to [B, out, H/stride, W/stride, L/stride]."""
    block: nn.Module = UnetResBlock(
        3, in_channels, out_channels, kernel_size=3, stride=stride, norm_name=_NORM, act_name=_ACTIVATION
    )
    return block


def up_block(in_channels: int, out_channels: int) -> nn.Module:
    """Twofold transposed convolution, then two convolutions on it and the skip connection.

    Called as `block(x, skip)` with `x` [B, in, H, W, L] and `skip` [B, out, 2H, 2W, 2L]; gives [B, out, 2H, 2W, 2L].
    """
    block: nn.Module = UnetUpBlock(
        3,
        in_channels,
        out_channels,
        kernel_size=3,
        stride=1,
        upsample_kernel_size=2,
        norm_name=_NORM,
        act_name=_ACTIVATION,
    )
    return block
