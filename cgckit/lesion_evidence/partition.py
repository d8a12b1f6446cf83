"""Soft partition of a volume under total variation: the convex half of the Mumford-Shah alternation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cgckit.arrays import Spacing

_CHECK_EVERY = 10


@dataclass(frozen=True, eq=False)
class Labelling:
    """What `Partition.solve` reached.

    Attributes:
        membership: [K, H, W, L], `y`; sums to 1 over K.
        gap: duality gap in nats per brain voxel.
        iterations: steps taken.
    """

    membership: Tensor
    gap: float
    iterations: int


@dataclass(eq=False)
class Partition:
    """Solver of the entropic multi-phase labelling problem, warm from one call of `solve` to the next.

        min_y  sum_x [ sum_n d_n y_n + y_n log y_n + length sum_n |grad y_n| ],     y_n >= 0, sum_n y_n = 1

    over the voxels of the brain; the gradient is in 1/mm, its norm isotropic, and zero across the brain's
    edge. The entropy makes the partition soft: without `length` it is `y = softmax(-d)`, the posterior of a
    mixture. It also gives the dual

        max_p  -sum_x log sum_n exp(-(d_n + grad^T p_n)),     |p_n(x)| <= length,

    a Lipschitz gradient, so accelerated projected gradient (Beck and Teboulle 2009) solves it, `y` is the
    softmax of `-(d + grad^T p)`, and the gap at that `y` is `sum_n length |grad y_n| - <p_n, grad y_n>`.

    Attributes:
        brain: [H, W, L] bool.
        spacing: voxel edge lengths in mm.
        length: weight of the boundary in mm.
        dual: [K, 3, H, W, L], the dual variable `p`; None starts from zero.
    """

    brain: Tensor
    spacing: Spacing
    length: float
    dual: Tensor | None = None

    def __post_init__(self) -> None:
        self._edges = [self._edge_weights(axis) for axis in range(3)]
        # ||grad||^2 <= 4 sum 1/h^2, and the Jacobian of the softmax is at most 1/2.
        self._step = 1 / (2 * sum(1 / edge**2 for edge in self.spacing))
        # Scratch volumes, one phase at a time: fresh memory at each step would cost as much as the arithmetic.
        self._slope = torch.empty(self.brain.shape)
        self._norm = torch.empty(self.brain.shape)

    def _edge_weights(self, axis: int) -> Tensor:
        """[H, W, L] with one voxel less along `axis`: 1/h where both voxels of an edge are brain, else 0."""
        size = self.brain.shape[axis]
        both = self.brain.narrow(axis, 0, size - 1) & self.brain.narrow(axis, 1, size - 1)
        return both.float() / self.spacing[axis]

    def membership(self, data: Tensor, dual: Tensor, out: Tensor | None = None) -> Tensor:
        """`softmax(-(d + grad^T p))`, [K, H, W, L]."""
        energy = torch.neg(data, out=out)
        for phase, flows in zip(energy, dual, strict=True):
            for axis, weight in enumerate(self._edges):
                size = weight.shape[axis]
                flow = torch.mul(flows[axis].narrow(axis, 0, size), weight, out=self._slope.narrow(axis, 0, size))
                phase.narrow(axis, 0, size).add_(flow)
                phase.narrow(axis, 1, size).sub_(flow)
        energy.sub_(torch.amax(energy, 0, out=self._norm)).exp_()
        return energy.div_(torch.sum(energy, 0, out=self._norm))

    def gradient(self, image: Tensor, axis: int) -> Tensor:
        """Forward difference of [H, W, L] along one axis in 1/mm, one voxel less along it; in scratch memory."""
        weight = self._edges[axis]
        size = weight.shape[axis]
        slope = self._slope.narrow(axis, 0, size)
        return torch.sub(image.narrow(axis, 1, size), image.narrow(axis, 0, size), out=slope).mul_(weight)

    def gap(self, membership: Tensor, dual: Tensor) -> float:
        """Duality gap per brain voxel, in nats."""
        total = 0.0
        for phase, flows in zip(membership, dual, strict=True):
            squared = self._norm.zero_()
            for axis in range(3):
                slope = self.gradient(phase, axis)
                size = slope.shape[axis]
                squared.narrow(axis, 0, size).addcmul_(slope, slope)
                total -= float(slope.mul_(flows[axis].narrow(axis, 0, size)).sum(dtype=torch.float64))
            total += self.length * float(squared.sqrt_().sum(dtype=torch.float64))
        return total / max(1, int(self.brain.sum()))

    def solve(self, data: Tensor, *, tolerance: float, max_iterations: int) -> Labelling:
        """Minimise over the membership for given phase costs, from the dual of the last call.

        Args:
            data: [K, H, W, L], the cost `d` of each phase in nats.
            tolerance: stop as soon as the gap per brain voxel is below this.
            max_iterations: stop after as many in any case.
        """
        if self.dual is None:
            self.dual = data.new_zeros((data.shape[0], 3, *data.shape[1:]))
        dual, leading = self.dual, self.dual.clone()
        membership = torch.empty_like(data)
        momentum = 1.0
        for iteration in range(max_iterations + 1):
            if iteration % _CHECK_EVERY == 0 or iteration == max_iterations:
                self.membership(data, dual, out=membership)
                gap = self.gap(membership, dual)
                if gap <= tolerance or iteration == max_iterations:
                    break
            self._ascend(leading, self.membership(data, leading, out=membership))
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            dual.lerp_(leading, 1 + (momentum - 1) / following)
            dual, leading, momentum = leading, dual, following
        self.dual = dual
        return Labelling(membership, gap, iteration)

    def _ascend(self, dual: Tensor, membership: Tensor) -> None:
        """One projected gradient step on the dual, in place."""
        for phase, flows in zip(membership, dual, strict=True):
            squared = self._norm.zero_()
            for axis in range(3):
                slope = self.gradient(phase, axis)
                size = slope.shape[axis]
                flow = flows[axis].narrow(axis, 0, size).add_(slope, alpha=self._step)
                squared.narrow(axis, 0, size).addcmul_(flow, flow)
            flows.div_(squared.sqrt_().div_(self.length).clamp_(min=1))
