"""Supervised contrast of labelled embeddings, on the operators of the patchwise loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cgckit.contrast.functional import contrast_terms, temperature_tensor
from cgckit.contrast.implementation import resolve_implementation
from cgckit.contrast.patches import DTYPES, LossInputs, PatchGrid, without_autocast

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def supervised_contrastive(
    embeddings: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    reduction: str = "mean",
    implementation: str = "auto",
    group: ProcessGroup | None = None,
) -> Tensor:
    """Pull embeddings of one class together and push them away from all others.

    With unit vectors u_i = x_i / |x_i|, similarities s_ij = u_i . u_j and P(i) the other samples of i's class,

        l_i = log sum_{k != i} exp(s_ik / tau) - 1/|P(i)| sum_{j in P(i)} s_ij / tau

    which is L_out of Khosla et al., "Supervised Contrastive Learning" (2020). Time is O(N^2 D), memory O(N D):
    no N x N matrix is formed. A sample without another of its class is no anchor, but every anchor is
    compared with it; one of norm zero takes no part. Without an anchor, as without any sample, the loss is 0. Values
    and defaults are those of `pytorch_metric_learning.losses.SupConLoss`.

    With `group`, the samples of all its processes are one batch, of which each gives its part. Embeddings go round from
    process to process, and a process holds its own, two blocks of others' and a fixed number of similarities, in the
    manner of Cheng et al., "Breaking the Memory Barrier: Near Infinite Batch Size Scaling for Contrastive Loss" (2024).
    "sum" and "mean" are those of the whole batch, the same bits in each process, and "none" gives the own samples'
    losses; the gradient that reaches a process is that of its own embeddings, which other processes' anchors add to.
    So the *sum* over processes of a parameter's gradients is the gradient of one process with the whole batch;
    `DistributedDataParallel` takes their mean: multiply the loss by the number of processes. All processes must
    call the loss, and its backward pass, together. Sums have a fixed order. There are no second derivatives.

    Args:
        embeddings: [N, D] float32 or float64, computed as they are, or float16 or bfloat16, computed in float32.
        labels: [N] integers, any values.
        temperature: tau > 0; a tensor with one element receives a gradient (its sign is not checked then).
        reduction: "none": l_i of every sample [N], 0 where it is no anchor; "sum": their sum; "mean": their mean
            over the anchors, 0 if there is none.
        implementation: "fused", "blockwise" or "auto", as in `patch_contrastive_loss`; with `group`, "blockwise" or
            "auto", which are the same then.
        group: processes of `torch.distributed` with one batch between them, each with N samples of its own, which may
            differ; default this process alone.

    Returns:
        The loss, a scalar unless `reduction` is "none"; connected to the graph of `embeddings` in every case.

    Raises:
        ValueError: an argument is out of range or of the wrong shape, or the processes of `group` differ in D, dtype
            or temperature; the message names it.
        TypeError: `embeddings` or `labels` has an unusable dtype.
        RuntimeError: `implementation` is "fused" and there are no compiled operators for this device.

    Example:
        >>> embeddings = torch.randn(64, 128, requires_grad=True)
        >>> supervised_contrastive(embeddings, torch.randint(10, (64,))).backward()
    """
    _check(embeddings, labels)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be mean or sum or none, not {reduction!r}")
    tau = temperature_tensor(temperature, embeddings)
    with without_autocast(embeddings.device):
        if group is not None:
            return _of_group(embeddings, labels, tau, reduction, implementation, group)
        chosen = resolve_implementation(implementation, embeddings.device)
        if chosen == "reference":
            raise ValueError("implementation must be auto, fused or blockwise")
        member = _member(embeddings)
        classes, others = _classes(labels, member)
        anchor = others > 0
        # Every sample is an image of one voxel, its elements the channels: a view of the embeddings.
        features, positive = embeddings[:, :, None, None, None], anchor.float()[:, None, None, None]
        grid = PatchGrid((1, 1, 1), (1, 1, 1), (1, 1, 1))
        inputs = LossInputs(features, positive, None, grid, tau, threshold=0.5, pooled=True)
        _, log_z, _ = contrast_terms(inputs, chosen)
        u = _unit_vectors(embeddings, member)
        sums = torch.zeros_like(u).index_add(0, classes, u)
        pos = (u * (sums.index_select(0, classes) - u)).sum(1) / others.clamp(min=1)
        losses = torch.where(anchor, log_z[0] + (1 - pos.double()) / tau, 0).to(u.dtype)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.sum() / anchor.sum().clamp(min=1)


def _of_group(
    embeddings: Tensor, labels: Tensor, tau: Tensor, reduction: str, implementation: str, group: ProcessGroup
) -> Tensor:
    """The loss of a batch that lies in the processes of a group."""
    from cgckit.contrast.ring import Ring, Samples, ring_losses

    if implementation not in ("auto", "blockwise"):
        raise ValueError(f"implementation must be auto or blockwise with a group, not {implementation!r}")
    member = _member(embeddings)
    u = _unit_vectors(embeddings, member)
    ring = Ring(group, u, tau)
    member = ring.gather(member)
    classes, others = _classes(ring.gather(labels.long()), member)
    losses = ring_losses(u, tau, Samples(classes, others, member), ring)
    if reduction == "none":
        return losses.to(u)
    share = losses.sum()
    if reduction == "mean":
        share = share / (others > 0).sum().clamp(min=1)
    # The value is everyone's, the gradient that of the own share.
    return (ring.sum(share.detach()) + (share - share.detach())).to(u)


class SupervisedContrastiveLoss(nn.Module):
    """`cgckit.contrast.supervised_contrastive` with its options kept; see there for what they mean.

    Example:
        >>> loss = SupervisedContrastiveLoss(temperature=0.1)
        >>> loss(torch.randn(64, 128), torch.randint(10, (64,))).shape
        torch.Size([])
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        *,
        reduction: str = "mean",
        implementation: str = "auto",
        group: ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.reduction = reduction
        self.implementation = implementation
        self.group = group

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of `embeddings` [N, D] with `labels` [N]."""
        return supervised_contrastive(
            embeddings,
            labels,
            temperature=self.temperature,
            reduction=self.reduction,
            implementation=self.implementation,
            group=self.group,
        )

    def extra_repr(self) -> str:
        """Options as `print` shows them."""
        return f"temperature={self.temperature}, reduction={self.reduction}"


def _member(embeddings: Tensor) -> Tensor:
    """Which samples take part [N]: those with a norm that is not zero, NaN among them."""
    exact = embeddings.detach()
    exact = exact if exact.dtype == torch.float64 else exact.float()
    norm = torch.linalg.vector_norm(exact, dim=1, dtype=torch.float64)
    member: Tensor = ~(norm.square() < torch.finfo(exact.dtype).tiny)
    return member


def _unit_vectors(embeddings: Tensor, member: Tensor) -> Tensor:
    """Embeddings [N, D] in float32 or float64 over their norms; zero for those that take no part."""
    x = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    norm = torch.where(member, torch.linalg.vector_norm(x, dim=1), 1)
    return x * (member / norm)[:, None]


def _classes(labels: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Class of every sample as a number below N, and number of others in its class, both [N].

    The numbers come from sorting, so no shape depends on the data.
    """
    ascending, order = labels.sort()
    starts = torch.ones_like(ascending, dtype=torch.bool)
    starts[1:] = ascending[1:] != ascending[:-1]
    classes = torch.empty_like(order).scatter(0, order, starts.cumsum(0) - 1)
    members = torch.zeros_like(classes).index_add(0, classes, member.long())
    return classes, (members[classes] - 1) * member


def _check(embeddings: Tensor, labels: Tensor) -> None:
    if embeddings.dim() != 2:
        raise ValueError(f"embeddings must be [N, D], not {list(embeddings.shape)}")
    if embeddings.dtype not in DTYPES:
        raise TypeError(f"embeddings must be floating point, not {embeddings.dtype}")
    if labels.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool):
        raise TypeError(f"labels must be integers, not {labels.dtype}")
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"labels must be {list(embeddings.shape[:1])} like embeddings, not {list(labels.shape)}")
    if labels.device != embeddings.device:
        raise ValueError(f"labels are on {labels.device}, embeddings on {embeddings.device}")
