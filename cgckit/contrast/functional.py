"""The patchwise contrastive loss as a function."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cgckit.contrast import blockwise, ops, patches, reference
from cgckit.contrast.implementation import Implementation, resolve_implementation
from cgckit.contrast.patches import DTYPES, LossInputs, PatchGrid, PatchStatistics, without_autocast


def patch_contrastive_loss(
    features: Tensor,
    probability: Tensor,
    *,
    patch_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    temperature: float | Tensor = 0.2,
    threshold: float = 0.5,
    mask: Tensor | None = None,
    scope: str = "image",
    reduction: str = "mean",
    implementation: str = "auto",
) -> Tensor:
    """Pull the lesion patches of a feature map together and push them away from all others.

    The map is cut into patches x_i in R^D, D = C ph pw pl. Omega are the patches that take part, Omega+ the
    positives among them (mean probability >= `threshold`), n = |Omega+|. With unit vectors
    u_i = x_i / |x_i| and cosine similarities s_ij = u_i . u_j, the loss of an image is

        L = 1/n sum_{i in Omega+} (LSE_i - pos_i / tau)
        LSE_i = log sum_{k in Omega, k != i} exp(s_ik / tau)
        pos_i = 1/(n-1) sum_{j in Omega+, j != i} s_ij

    It is the fine-grained loss of Yu, Zhao et al. (Eq. 6 and 7). Where their text is open: the similarity is
    the cosine, as their prose says, although Eq. 7 divides by a sum of norms; the anchors are the positives,
    each compared with every other patch; a patch is positive by its mean probability.

    With n <= 1 the loss and its gradient are 0, and so they are of a batch without images and of a map without
    channels; a map without voxels is too small for a patch. A patch of norm zero, and one with less than half of its
    voxels inside `mask`, leaves Omega; its gradient is 0. NaN among the features of Omega gives NaN. The loss
    does not change if a patch is scaled, so it does not bound the norm of the features: normalise them first.

    Args:
        features: feature map [B, C, H, W, L] or [B, C, H, W]; for the latter the axis L and its entry of what
            follows are left out everywhere. float32 and float64 are computed as they are, float16 and bfloat16
            in float32; autocast changes nothing.
        probability: lesion probability [B, H, W, L] on the grid of `features`; it receives no gradient.
        patch_size: edges (ph, pw, pl) in voxels of the map, or one integer for all. Voxels past the last whole
            patch are not used.
        stride: distance between patches, default `patch_size`; below it patches overlap.
        temperature: tau > 0; a tensor with one element receives a gradient (its sign is not checked then).
        threshold: smallest mean probability of a positive patch, in [0, 1].
        mask: [B, H, W, L] bool, where patches may lie; default everywhere.
        scope: "image": Omega is the patches of one image; "batch": of all images together.
        reduction: "none": one loss an image [B] (with scope "batch" [1]), 0 where n <= 1; "sum": their sum;
            "mean": their mean over the images with n >= 2, 0 if there is none.
        implementation: "fused" compiled, "blockwise" plain PyTorch in O(N D) memory, "reference" plain
            PyTorch in O(n N); "auto" is fused on a CPU or GPU that has it, else blockwise
            (`resolve_implementation` tells).

    Returns:
        The loss, a scalar unless `reduction` is "none", in float64 for float64 features, else in float32;
        connected to the graph of `features` in every case.

    Raises:
        ValueError: an argument is out of range or of the wrong shape; the message names it.
        TypeError: `features` or `mask` has an unusable dtype.
        RuntimeError: `implementation` is "fused" and there are no compiled operators for this device.

    Example:
        >>> features = torch.randn(2, 8, 12, 12, 8, requires_grad=True)
        >>> probability = (torch.rand(2, 12, 12, 8) > 0.5).float()
        >>> patch_contrastive_loss(features, probability, patch_size=(3, 3, 4)).backward()
    """
    grid = _check(features, probability, patch_size, stride, threshold, mask)
    _check_choice("scope", scope, ("image", "batch"))
    _check_choice("reduction", reduction, ("mean", "sum", "none"))
    chosen = resolve_implementation(implementation, features.device)
    tau = temperature_tensor(temperature, features)
    if features.dim() == 4:
        features, probability = features.unsqueeze(-1), probability.unsqueeze(-1)
        mask = None if mask is None else mask.unsqueeze(-1)
    with without_autocast(features.device):
        inputs = LossInputs(features, probability.detach().float(), mask, grid, tau, threshold, scope == "batch")
        if chosen == "reference":
            losses, anchors = reference.group_losses(inputs)
        else:
            losses, anchors = _group_losses(tau, *contrast_terms(inputs, chosen))
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.sum() / (anchors >= 2).sum().clamp(min=1)


def _group_losses(
    temperature: Tensor, statistics: PatchStatistics, log_z: Tensor, pos: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss and number of anchors of every group, [G] each, from `contrast_terms`."""
    # LSE - pos / tau = log Z + (1 - pos) / tau: the large terms 1 / tau never meet.
    n = statistics.counts[:, 0]
    total = torch.addcdiv(log_z.sum(1), n * (n >= 2) - pos.sum(1), temperature)
    return (total / n.clamp(min=1)).to(statistics.norm.dtype), n


def contrast_terms(inputs: LossInputs, implementation: Implementation) -> tuple[PatchStatistics, Tensor, Tensor]:
    """Who takes part, and log_z and pos [G, N], fused or blockwise; see `torch.ops.cgckit.patch_contrast`."""
    features, probability, mask, grid, temperature, threshold, pooled = inputs
    if implementation == "fused":
        statistics = ops.patch_statistics(features, probability, mask, grid, threshold, pooled)
        return statistics, *ops.patch_contrast(features, temperature, statistics, grid)
    features = features if features.dtype == torch.float64 else features.float()
    statistics = patches.patch_statistics(features.detach(), probability, mask, grid, threshold, pooled)
    return statistics, *blockwise.patch_contrast(features, temperature, statistics.order, statistics.counts, grid)


def count_positives(
    probability: Tensor,
    patch_size: int | Sequence[int],
    threshold: float,
    stride: int | Sequence[int] | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Count the positive patches n of every image, [B] int64, from `probability` [B, H, W, L] or [B, H, W] alone.

    The loss can only be smaller in n, by positive patches whose features are all zero. Below 2 it is zero.
    """
    _check_map("probability", probability)
    grid = PatchGrid.of(probability.shape[1:], patch_size, stride)
    _check_threshold(threshold)
    flat = probability.dim() == 3
    found = patches.positive((probability.unsqueeze(-1) if flat else probability).detach().float(), grid, threshold)
    if mask is not None:
        _check_mask(mask, probability)
        found = found & patches.inside(mask.unsqueeze(-1) if flat else mask, grid)
    return found.sum(1)


def temperature_tensor(temperature: float | Tensor, features: Tensor) -> Tensor:
    """Temperature as a float64 scalar where the features are: there is no copy from the host to wait for."""
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1 or not temperature.is_floating_point():
            raise ValueError(f"temperature must have one floating-point element, not {list(temperature.shape)}")
        return temperature.reshape(()).to(features.device, torch.float64)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, not {temperature}")
    return torch.full((), temperature, dtype=torch.float64, device=features.device)


def _check(
    features: Tensor,
    probability: Tensor,
    patch_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    threshold: float,
    mask: Tensor | None,
) -> PatchGrid:
    if features.dim() not in (4, 5):
        raise ValueError(f"features must be [B, C, H, W, L] or [B, C, H, W], not {list(features.shape)}")
    if features.dtype not in DTYPES:
        raise TypeError(f"features must be floating point, not {features.dtype}")
    expected = [features.shape[0], *features.shape[2:]]
    if list(probability.shape) != expected:
        raise ValueError(f"probability must be {expected} like features, not {list(probability.shape)}")
    if probability.device != features.device:
        raise ValueError(f"probability is on {probability.device}, features on {features.device}")
    if mask is not None:
        _check_mask(mask, probability)
    _check_threshold(threshold)
    return PatchGrid.of(features.shape[2:], patch_size, stride)


def _check_map(name: str, volume: Tensor) -> None:
    if volume.dim() not in (3, 4):
        raise ValueError(f"{name} must be [B, H, W, L] or [B, H, W], not {list(volume.shape)}")


def _check_mask(mask: Tensor, probability: Tensor) -> None:
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be bool, not {mask.dtype}")
    if mask.shape != probability.shape:
        raise ValueError(f"mask must be {list(probability.shape)} like probability, not {list(mask.shape)}")
    if mask.device != probability.device:
        raise ValueError(f"mask is on {mask.device}, probability on {probability.device}")


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], not {threshold}")


def _check_choice(name: str, value: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise ValueError(f"{name} must be {' or '.join(options)}, not {value!r}")
