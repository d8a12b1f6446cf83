"""The loss from ATen operators in O(N D) memory: any device, differentiable twice.

It replaces the compiled extension where there is none, and carries its double backward.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cgckit.contrast.patches import PatchGrid

BLOCK = 256
"""Anchors whose similarities to all members are held at a time."""


def patch_contrast(
    features: Tensor, temperature: Tensor, order: Tensor, counts: Tensor, grid: PatchGrid
) -> tuple[Tensor, Tensor]:
    """Return log_z [G, N] and pos [G, N], as `torch.ops.cgckit.patch_contrast` does.

    log_z_i = log sum_{k != i} exp((s_ik - 1) / tau), so LSE_i = log_z_i + 1 / tau. Both are float64, and 0
    for patches that are no anchor of a group with at least two. The number of anchors is read on the host; on the meta
    device, where there is none to read, shapes and graph are those of groups without anchors.
    """
    groups, patches = order.shape
    x = grid.vectors(features)
    x = x.reshape(groups, patches, x.shape[-1])
    # Connected to the graph whatever the number of anchors; a product with zero would let NaN through.
    zeros = temperature.new_zeros(patches) + x.flatten()[:0].sum() + 0 * temperature
    log_z, pos = [], []
    for g, (anchors, members) in enumerate([(0, 0)] * groups if counts.is_meta else counts.tolist()):
        if anchors < 2:
            log_z.append(zeros)
            pos.append(zeros)
            continue
        chosen = x[g, order[g, :members]]
        u = chosen / torch.linalg.vector_norm(chosen, dim=1, keepdim=True)
        rows = order[g, :anchors]
        log_z.append(zeros.index_copy(0, rows, _lse(u, anchors, temperature.to(x.dtype)) - 1 / temperature))
        pos.append(zeros.index_copy(0, rows, _positive_similarity(u[:anchors]).double()))
    if groups == 0:
        return zeros.expand(0, patches), zeros.expand(0, patches)
    return torch.stack(log_z), torch.stack(pos)


def inside_transform() -> bool:
    """Whether a transform of `torch.func` is at work."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def _lse(u: Tensor, anchors: int, temperature: Tensor) -> Tensor:
    """log sum_{k != i} exp(s_ik / tau) of the first `anchors` rows of `u` [M, D]."""
    starts = range(0, anchors, BLOCK)
    # A transform of `torch.func` cannot have anything computed again: it keeps all [n, M].
    if len(starts) == 1 or not torch.is_grad_enabled() or inside_transform():
        return torch.cat([_lse_of_block(u, a, min(a + BLOCK, anchors), temperature) for a in starts])
    # Each block is computed again in the backward pass, so that no [n, M] matrix is ever kept.
    return torch.cat(
        [
            checkpoint(
                _lse_of_block,
                u,
                a,
                min(a + BLOCK, anchors),
                temperature,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for a in starts
        ]
    )


def _lse_of_block(u: Tensor, begin: int, end: int, temperature: Tensor) -> Tensor:
    itself = torch.arange(begin, end, device=u.device)[:, None] == torch.arange(len(u), device=u.device)
    logits = (u[begin:end] @ u.T) / temperature
    return torch.logsumexp(logits.masked_fill(itself, -torch.inf), dim=1).double()


def _positive_similarity(u: Tensor) -> Tensor:
    """Mean similarity to the other rows of `u` [n, D]: u_i . (m - u_i) / (n - 1) with m = sum u_j, O(n D)."""
    return (u * (u.sum(0) - u)).sum(1) / (len(u) - 1)
