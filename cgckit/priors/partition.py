"""Soft partition of a volume under total variation: the convex half of the Mumford-Shah alternation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Spacing = tuple[float, float, float]

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

    def _edge_weights(self, axis: int) -> Tensor:
        """[H, W, L] with one voxel less along `axis`: 1/h where both voxels of an edge are brain, else 0."""
        size = self.brain.shape[axis]
        both = self.brain.narrow(axis, 0, size - 1) & self.brain.narrow(axis, 1, size - 1)
        return both.float() / self.spacing[axis]

    def membership(self, data: Tensor, dual: Tensor) -> Tensor:
        """`softmax(-(d + grad^T p))`, [K, H, W, L]."""
        energy = -data
        for axis, weight in enumerate(self._edges):
            size = data.shape[axis + 1]
            flow = dual[:, axis].narrow(axis + 1, 0, size - 1) * weight
            energy.narrow(axis + 1, 0, size - 1).add_(flow)
            energy.narrow(axis + 1, 1, size - 1).sub_(flow)
        return torch.softmax(energy, dim=0)

    def gradient(self, membership: Tensor, axis: int) -> Tensor:
        """Forward difference of [K, H, W, L] along one axis, in 1/mm, one voxel less along it."""
        return membership.diff(dim=axis + 1).mul_(self._edges[axis])

    def gap(self, membership: Tensor, dual: Tensor) -> float:
        """Duality gap per brain voxel, in nats."""
        squared = torch.zeros_like(membership)
        inner = 0.0
        for axis in range(3):
            slope = self.gradient(membership, axis)
            size = slope.shape[axis + 1]
            squared.narrow(axis + 1, 0, size).addcmul_(slope, slope)
            inner += float((slope * dual[:, axis].narrow(axis + 1, 0, size)).sum(dtype=torch.float64))
        variation = float(squared.sqrt_().sum(dtype=torch.float64))
        return (self.length * variation - inner) / max(1, int(self.brain.sum()))

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
        momentum = 1.0
        for iteration in range(max_iterations + 1):
            if iteration % _CHECK_EVERY == 0 or iteration == max_iterations:
                membership = self.membership(data, dual)
                gap = self.gap(membership, dual)
                if gap <= tolerance or iteration == max_iterations:
                    break
            self._ascend(leading, self.membership(data, leading))
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            dual.lerp_(leading, 1 + (momentum - 1) / following)
            dual, leading, momentum = leading, dual, following
        self.dual = dual
        return Labelling(membership, gap, iteration)

    def _ascend(self, dual: Tensor, membership: Tensor) -> None:
        """One projected gradient step on the dual, in place."""
        squared = torch.zeros_like(membership)
        for axis in range(3):
            slope = self.gradient(membership, axis)
            size = slope.shape[axis + 1]
            flow = dual[:, axis].narrow(axis + 1, 0, size)
            flow.add_(slope, alpha=self._step)
            squared.narrow(axis + 1, 0, size).addcmul_(flow, flow)
        dual.div_(squared.sqrt_().div_(self.length).clamp_(min=1).unsqueeze(1))
