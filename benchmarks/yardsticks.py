"""What the fused loss is measured against: the same value from plain PyTorch and from pytorch-metric-learning."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.sizes import Inputs, Preset
from cgckit.contrast import patch_contrastive_loss, supervised_contrastive

TEMPERATURE = 0.2
METRIC_LEARNING = importlib.util.find_spec("pytorch_metric_learning") is not None
"""Whether pytorch-metric-learning is there to be measured against (the extra `bench`); the rest needs torch alone."""
Loss = Callable[[Tensor], Tensor]  # features, or embeddings, to a scalar


def unfold(features: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """Patches of [B, C, H, W, L] as rows [N, D]."""
    for axis, edge in enumerate(patch, start=2):
        features = features.unfold(axis, edge, edge)
    return features.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(0, 3)


def full(x: Tensor, labels: Tensor, anchor: Tensor) -> Tensor:
    """Supervised contrast as usually written: all N x N similarities, then the mean over the anchors."""
    u = F.normalize(x)
    itself = torch.eye(len(u), dtype=torch.bool, device=u.device)
    logits = (u @ u.T / TEMPERATURE).masked_fill(itself, -torch.inf)
    same = (labels[:, None] == labels) & ~itself
    positives = torch.where(same, logits, 0).sum(1) / same.sum(1).clamp(min=1)
    return torch.where(anchor, torch.logsumexp(logits, 1) - positives, 0).sum() / anchor.sum()


def torch_product(a: Tensor, b: Tensor) -> Tensor:
    """Products of the rows of `a` [n, D] with those of `b` [N, D] by what torch takes: on x86 MKL."""
    return a @ b.T


class _OneDnnProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return _linear(a, b)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return _linear(grad, b.T), _linear(grad.T, a.T)


def _linear(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return product


@torch.compiler.disable  # type: ignore[untyped-decorator] # torch's compiler has it for constants alone
def onednn_product(a: Tensor, b: Tensor) -> Tensor:
    """The same by oneDNN, which takes wider vectors than MKL on some processors."""
    product: Tensor = _OneDnnProduct.apply(a, b)  # type: ignore[no-untyped-call]
    return product


def anchors_only(x: Tensor, anchors: Tensor, product: Callable[[Tensor, Tensor], Tensor] = torch_product) -> Tensor:
    """The strongest plain form: rows of the anchors alone, positives from their sum in O(n D)."""
    u = F.normalize(x)
    mine = u[anchors]
    itself = anchors[:, None] == torch.arange(len(u), device=u.device)
    lse = torch.logsumexp((product(mine, u) / TEMPERATURE).masked_fill(itself, -torch.inf), 1)
    positives = (mine * (mine.sum(0) - mine)).sum(1) / (len(anchors) - 1)
    return (lse - positives / TEMPERATURE).mean()


def contenders(preset: Preset, inputs: Inputs, *, compiled: bool) -> dict[str, Loss]:
    """Every way to the loss that is feasible at this size; names are those of the tables."""
    if preset.classes:
        return _of_embeddings(inputs)
    anchors = inputs.positive.nonzero().squeeze(1)

    def operator(implementation: str) -> Loss:
        return lambda features: patch_contrastive_loss(
            features,
            inputs.probability,
            patch_size=preset.patch,
            temperature=TEMPERATURE,
            scope="batch",
            implementation=implementation,
        )

    def of_patches(loss: Loss) -> Loss:
        return lambda features: loss(unfold(features, preset.patch))

    def eager_full(x: Tensor) -> Tensor:
        return full(x, inputs.labels, inputs.positive)

    def eager_anchors(x: Tensor) -> Tensor:
        return anchors_only(x, anchors)

    def onednn_anchors(x: Tensor) -> Tensor:
        return anchors_only(x, anchors, onednn_product)

    onednn = inputs.features.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]

    losses = {"fused": operator("fused"), "blockwise": operator("blockwise")}
    if len(anchors) * preset.patches <= 2e8:
        losses["eager anchors-only"] = of_patches(eager_anchors)
        if onednn:
            losses["oneDNN anchors-only"] = of_patches(onednn_anchors)
    if preset.patches > 10_000:  # N x N would take gigabytes
        return losses
    losses["eager full"] = of_patches(eager_full)
    if compiled:
        # The loss alone: together with the unfolding, code that torch 2.13 compiles for patches of one voxel crashes.
        losses["compiled anchors-only"] = of_patches(torch.compile(eager_anchors))
        if onednn:
            losses["compiled oneDNN anchors-only"] = of_patches(torch.compile(onednn_anchors))
        losses["compiled full"] = of_patches(torch.compile(eager_full))
    # pytorch-metric-learning returns 0 where no sample is of another class.
    if len(anchors) == preset.patches or not METRIC_LEARNING:
        return losses
    plain, given = _metric_learning(inputs.labels, anchors)
    losses["metric-learning"] = of_patches(plain)
    losses["metric-learning, anchors given"] = of_patches(given)
    return losses


def _of_embeddings(inputs: Inputs) -> dict[str, Loss]:
    def operator(implementation: str) -> Loss:
        return lambda x: supervised_contrastive(
            x, inputs.labels, temperature=TEMPERATURE, implementation=implementation
        )

    losses = {
        "fused": operator("fused"),
        "blockwise": operator("blockwise"),
        "eager full": lambda x: full(x, inputs.labels, inputs.positive),
    }
    if METRIC_LEARNING:
        losses["metric-learning"] = _metric_learning(inputs.labels, None)[0]
    return losses


def _metric_learning(labels: Tensor, anchors: Tensor | None) -> tuple[Loss, Loss]:
    """pytorch-metric-learning's loss, plain and with the anchors' pairs given (`embeddings`, `ref_emb`)."""
    from pytorch_metric_learning.losses import SupConLoss

    module: Callable[..., Tensor] = SupConLoss(temperature=TEMPERATURE)

    def plain(x: Tensor) -> Tensor:
        return module(x, labels)

    def given(x: Tensor) -> Tensor:
        assert anchors is not None
        itself = anchors[:, None] == torch.arange(len(x), device=x.device)
        same = labels[anchors, None] == labels
        pairs = (*torch.where(same & ~itself), *torch.where(~same))
        return module(x[anchors], indices_tuple=pairs, ref_emb=x)

    return plain, given
