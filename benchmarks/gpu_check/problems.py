"""What the kernels are run on: every branch of the code that launches them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cgckit.contrast import patch_contrastive_loss

Extents = tuple[int, int, int]
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Regime:
    """The shape of a map and of its patches, which decide the way that the kernels take."""

    shape: tuple[int, int, int, int, int]
    patch: Extents
    stride: Extents | None = None
    channels_last: bool = False
    share: float = 0.3
    """Of patches that are positive."""


# The Gram matrix kept (N <= D) in slices of D, or not; anchors in one chunk or several (n > 2048); rows for a warp
# or a block (D > 1024); D that fills no tile and no copy; overlap, gaps, two axes, large grids.
_ON_GPU: Mapping[str, Regime] = {
    "few elements, overhanging": Regime((2, 5, 18, 15, 6), (3, 3, 2)),
    "few elements": Regime((1, 4, 24, 20, 8), (2, 2, 4)),
    "rows of a warp, channels last": Regime((1, 256, 24, 24, 4), (1, 1, 1), channels_last=True),
    "rows of a warp, channels first": Regime((1, 256, 24, 24, 4), (1, 1, 1)),
    "rows of a block, channels last": Regime((1, 32, 48, 48, 24), (4, 4, 4), channels_last=True),
    "rows of a block, channels first": Regime((1, 32, 48, 48, 24), (4, 4, 4)),
    "ragged": Regime((1, 23, 30, 30, 9), (3, 3, 3)),
    "several chunks": Regime((1, 264, 72, 65, 1), (1, 1, 1), channels_last=True, share=0.6),
    "slices, channels last": Regime((2, 128, 24, 24, 8), (6, 6, 4), channels_last=True),
    "slices, patch of 8": Regime((2, 32, 24, 24, 16), (6, 6, 8)),
    "overlap": Regime((1, 4, 20, 20, 10), (4, 4, 4), (2, 2, 3)),
    "gaps": Regime((1, 8, 22, 22, 10), (2, 2, 2), (3, 3, 3)),
    "flat": Regime((2, 40, 50, 46, 1), (3, 3, 1)),
    "more than 65,535 blocks": Regime((1, 2, 272, 256, 1), (1, 1, 1), channels_last=True, share=0.003),
}
_ON_CPU: Mapping[str, Regime] = {
    "channels first": Regime((2, 5, 6, 6, 4), (3, 3, 2)),
    "channels last": Regime((1, 8, 8, 8, 2), (2, 2, 1), channels_last=True),
    "overlap": Regime((1, 4, 8, 8, 4), (4, 4, 2), (2, 2, 2)),
}


def regimes(device: torch.device) -> Mapping[str, Regime]:
    """All of them on a GPU; on the CPU, where the checks are tried out, a few small ones."""
    return _ON_GPU if device.type == "cuda" else _ON_CPU


def some(device: torch.device, *names: str) -> dict[str, Regime]:
    """Those of these names on a GPU, the small ones on the CPU."""
    return {name: _ON_GPU[name] for name in names} if device.type == "cuda" else dict(_ON_CPU)


def random_map(
    regime: Regime, dtype: torch.dtype, device: torch.device, share: float | None = None, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Noise [B, C, H, W, L], and a probability [B, H, W, L] that is 0 or 1 in whole patches."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(regime.shape, generator=generator).to(device, dtype)
    batch, _, *extents = regime.shape
    patches = (batch, *(-(-extent // edge) for extent, edge in zip(extents, regime.patch, strict=True)))
    positive = torch.rand(patches, generator=generator) < (regime.share if share is None else share)
    probability = positive.float()
    for axis, edge in enumerate(regime.patch, start=1):
        probability = probability.repeat_interleave(edge, axis)
    probability = probability[:, : extents[0], : extents[1], : extents[2]].contiguous().to(device)
    if regime.channels_last:
        features = features.contiguous(memory_format=torch.channels_last_3d)
    return features, probability


def loss_and_gradients(
    features: Tensor,
    probability: Tensor,
    regime: Regime,
    *,
    temperature: float = 0.2,
    scope: str = "image",
    mask: Tensor | None = None,
    upstream: float = 1.0,
    implementation: str = "fused",
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of every group, and the gradients of a sum of them, each with a weight of its own, times `upstream`."""
    leaf = features.detach().requires_grad_()
    tau = torch.tensor(temperature, dtype=torch.float64, device=features.device, requires_grad=True)
    losses = patch_contrastive_loss(
        leaf,
        probability,
        patch_size=regime.patch,
        stride=regime.stride,
        temperature=tau,
        scope=scope,
        mask=mask,
        reduction="none",
        implementation=implementation,
    )
    weights = upstream * torch.arange(1, len(losses) + 1, device=features.device)
    by_features, by_temperature = torch.autograd.grad((losses * weights).sum(), (leaf, tau))
    return losses.detach(), by_features, by_temperature


def relative_error(found: Tensor, exact: Tensor) -> float:
    """|found - exact| / |exact| in the L2 norm."""
    exact = exact.double()
    return float((found.double() - exact).norm() / exact.norm().clamp(min=1e-30))
