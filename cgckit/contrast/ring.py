"""Supervised contrast over the processes of a group: blocks of embeddings go round, and no process holds all pairs.

After Cheng et al., "Breaking the Memory Barrier: Near Infinite Batch Size Scaling for Contrastive Loss" (2024,
arXiv:2410.17243). Unlike there, gradients do not travel: each process sums those of its own embeddings, which takes two
products a block instead of three and fixes the order of every sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PAIRS = 1 << 20
"""Similarities that are held at a time."""


class Ring:
    """The processes of a group, each with a block of embeddings; every method is called by all of them.

    Args:
        group: the processes.
        embeddings: those of this process [N, D], of any N.
        temperature: float64 scalar.

    Attributes:
        rank: place of this process in the group.
        counts: N of every process, in the order of the group.

    Raises:
        ValueError: this process is not in the group, or the processes differ in D, dtype or temperature.
    """

    def __init__(self, group: dist.ProcessGroup, embeddings: Tensor, temperature: Tensor) -> None:
        self.group = group
        self.rank = dist.get_rank(group)
        if self.rank < 0:
            raise ValueError("group must be one that this process belongs to")
        self._members = dist.get_process_group_ranks(group)
        mine = [float(len(embeddings)), float(embeddings.shape[1]), float(embeddings.dtype.itemsize)]
        facts = torch.stack([*torch.tensor(mine, dtype=torch.float64, device=embeddings.device), temperature.detach()])
        everyone = torch.stack(self._all_gather(facts)).cpu()
        self.counts = [int(count) for count in everyone[:, 0]]
        same = everyone[:, 1:]
        if not torch.allclose(same, same[:1].expand_as(same), rtol=0, atol=0, equal_nan=True):
            raise ValueError(
                "embeddings and temperature must be alike in all processes of the group, which have "
                f"D {same[:, 0].tolist()}, bytes an element {same[:, 1].tolist()}, temperature {same[:, 2].tolist()}"
            )

    def gather(self, rows: Tensor) -> Tensor:
        """Concatenate the `rows` [N, ...] of all processes, in the order of the group; small ones only."""
        padded = rows.new_zeros((max(self.counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        return torch.cat([part[:n] for part, n in zip(self._all_gather(padded), self.counts, strict=True)])

    def sum(self, value: Tensor) -> Tensor:
        """Add the `value` of all processes up, to the same bits in each."""
        return torch.stack(self._all_gather(value)).sum(0)

    def span(self, rank: int) -> slice:
        """Where the samples of process `rank` are in what `gather` returns."""
        begin = sum(self.counts[:rank])
        return slice(begin, begin + self.counts[rank])

    def blocks(self, own: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Give every process's rank and its [N, D], beginning with `own`; the next block is on its way meanwhile."""
        size, block = len(self.counts), own.contiguous()
        before, after = (self._members[(self.rank + step) % size] for step in (-1, 1))
        for step in range(size):
            owner = (self.rank + step) % size
            on_the_way, coming = [], block
            if step < size - 1:
                coming = own.new_empty((self.counts[(owner + 1) % size], own.shape[1]))
                # An empty block is none to send; both sides know its size.
                messages = [
                    dist.P2POp(call, tensor, peer, self.group)
                    for call, tensor, peer in ((dist.isend, block, before), (dist.irecv, coming, after))
                    if tensor.numel()
                ]
                on_the_way = dist.batch_isend_irecv(messages) if messages else []
            yield owner, block
            for message in on_the_way:
                message.wait()
            block = coming

    def _all_gather(self, value: Tensor) -> list[Tensor]:
        found = [torch.empty_like(value) for _ in self._members]
        dist.all_gather(found, value.contiguous(), group=self.group)
        return found


@dataclass(frozen=True)
class Samples:
    """The samples of all processes [M], in the order of the group."""

    classes: Tensor  # which other ones are of the same class
    others: Tensor  # how many these are; 0: the sample is no anchor
    member: Tensor  # whether it takes part


def ring_losses(u: Tensor, temperature: Tensor, samples: Samples, ring: Ring) -> Tensor:
    """Return l_i of this process's samples in float64 [N], 0 where one is no anchor.

    Args:
        u: unit vectors of this process [N, D].
        temperature: float64 scalar.
        samples: those of all processes.
        ring: the processes.
    """
    losses: Tensor = _RingContrast.apply(u, temperature, samples, ring)  # type: ignore[no-untyped-call]
    return losses


class _RingContrast(torch.autograd.Function):
    """Its own backward, as autograd would keep the blocks of all processes for it."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, temperature: Tensor, samples: Samples, ring: Ring) -> Tensor:
        log_z = u.new_zeros((len(ring.counts), len(u)), dtype=torch.float64)
        expected, pos = torch.zeros_like(log_z), torch.zeros_like(log_z)
        for owner, rows, pairs in _pairs(u, temperature, samples, ring):
            logits = pairs.logits.masked_fill_(pairs.left_out, -torch.inf)
            of_block = torch.logsumexp(logits, 1)
            log_z[owner, rows] = of_block.double()
            pos[owner, rows] = torch.where(pairs.same, pairs.s, 0).sum(1).double()
            if ctx.needs_input_grad[1]:
                shift = of_block.masked_fill(of_block.isneginf(), 0)[:, None]  # no other member in this block
                expected[owner, rows] = (logits.sub_(shift).exp_() * pairs.s).sum(1).double()
        # The order of these sums is that of the group in every process.
        whole = torch.logsumexp(log_z, 0)
        others = samples.others[ring.span(ring.rank)]
        anchor = others > 0
        positive = pos.sum(0) / others.clamp(min=1)
        by_temperature = positive - ((log_z - whole).exp() * expected).sum(0)
        ctx.save_for_backward(
            u, temperature, torch.where(anchor, whole, 0), torch.where(anchor, by_temperature, 0) / temperature**2
        )
        ctx.samples, ctx.ring = samples, ring
        return torch.where(anchor, whole + (1 - positive) / temperature, 0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # that is, with create_graph
            raise NotImplementedError("supervised_contrastive with a group has no second derivatives")
        u, temperature, log_z, by_temperature = ctx.saved_tensors
        samples: Samples = ctx.samples
        ring: Ring = ctx.ring
        weight, log_z = ring.gather(torch.stack((grad, log_z), 1)).unbind(1)
        weight = torch.where(samples.others > 0, weight, 0)
        of_pair = (weight / samples.others.clamp(min=1)).to(u)
        weight, log_z = weight.to(u), log_z.to(u)
        own = ring.span(ring.rank)
        gradient = torch.zeros_like(u)
        for owner, rows, pairs in _pairs(u, temperature, samples, ring):
            mine, theirs = slice(own.start + rows.start, own.start + rows.stop), ring.span(owner)
            # What i as an anchor and k as an anchor do with the similarity of the two.
            by_similarity = (pairs.logits - log_z[mine, None]).exp_().mul_(weight[mine, None])
            by_similarity += pairs.logits.sub_(log_z[theirs]).exp_().mul_(weight[theirs])
            by_similarity -= torch.where(pairs.same, of_pair[mine, None] + of_pair[theirs], 0)
            gradient[rows].addmm_(by_similarity.masked_fill_(pairs.left_out, 0), pairs.block)
        return gradient / temperature.to(u), (grad * by_temperature).sum(), None, None


@dataclass(frozen=True)
class _Pairs:
    """Some rows of this process against a block."""

    block: Tensor  # [K, D]
    s: Tensor  # similarities [R, K]
    logits: Tensor  # (s - 1) / tau
    same: Tensor  # another sample of the same class
    left_out: Tensor  # the sample itself, and where one of the two takes no part


def _pairs(u: Tensor, temperature: Tensor, samples: Samples, ring: Ring) -> Iterator[tuple[int, slice, _Pairs]]:
    """All pairs of this process: the owner of the block, the rows of `u`, and what there is between the two."""
    position = torch.arange(len(samples.classes), device=u.device)
    own = ring.span(ring.rank)
    for owner, block in ring.blocks(u):
        theirs = ring.span(owner)
        together = max(1, PAIRS // max(1, len(block)))
        for begin in range(0, len(u), together):
            rows = slice(begin, min(begin + together, len(u)))
            mine = slice(own.start + rows.start, own.start + rows.stop)
            taking_part = samples.member[mine, None] & samples.member[theirs]
            left_out = ~taking_part | (position[mine, None] == position[theirs])
            same = (samples.classes[mine, None] == samples.classes[theirs]) & ~left_out
            s = u[rows] @ block.T
            yield owner, rows, _Pairs(block, s, (s - 1) / temperature.to(u), same, left_out)
