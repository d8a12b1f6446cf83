"""The loss as its equations read, in plain PyTorch: the oracle for the other implementations."""

from __future__ import annotations

import torch
from torch import Tensor

from cgckit.contrast.patches import LossInputs, inside, positive


def anchor_terms(u: Tensor, is_positive: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Return LSE_i [n] and pos_i [n] of the anchors, n >= 2, among the unit vectors `u` [M, D].

    s_ij  = u_i . u_j
    LSE_i = log sum_{k != i} exp(s_ik / tau)
    pos_i = 1 / (n - 1) sum_{j in Omega+, j != i} s_ij
    """
    anchors = is_positive.nonzero().squeeze(1)
    s = u[anchors] @ u.T  # [n, M]
    itself = anchors[:, None] == torch.arange(len(u), device=u.device)
    lse = torch.logsumexp((s / temperature).masked_fill(itself, -torch.inf), dim=1)
    others = is_positive & ~itself
    pos = torch.where(others, s, 0).sum(1) / (len(anchors) - 1)
    return lse, pos


def group_loss(x: Tensor, is_positive: Tensor, temperature: Tensor) -> Tensor:
    """Return the mean of LSE_i - pos_i / tau over the anchors among the patches `x` [M, D], all in Omega."""
    if is_positive.sum() <= 1:
        return x.flatten()[:0].sum() + 0 * temperature
    u = x / torch.linalg.vector_norm(x, dim=1, keepdim=True)
    lse, pos = anchor_terms(u, is_positive, temperature)
    return (lse - pos / temperature).mean()


def group_losses(inputs: LossInputs) -> tuple[Tensor, Tensor]:
    """Loss and number of anchors of every group, [G] each."""
    features, probability, mask, grid, temperature, threshold, pooled = inputs
    x = grid.vectors(features if features.dtype == torch.float64 else features.float())  # [B, P, D]
    member = ~(x.detach().double().square().sum(-1) < torch.finfo(x.dtype).tiny)
    if mask is not None:
        member = member & inside(mask, grid)
    anchor = member & positive(probability, grid, threshold)
    if pooled:
        x, member, anchor = x.flatten(0, 1)[None], member.reshape(1, -1), anchor.reshape(1, -1)
    tau = temperature.to(x.dtype)
    if len(x) == 0:
        return x.flatten() + 0 * tau, anchor.sum(1)
    losses = [group_loss(x_g[m_g], a_g[m_g], tau) for x_g, m_g, a_g in zip(x, member, anchor, strict=True)]
    return torch.stack(losses), anchor.sum(1)
