"""What both Mumford-Shah priors share: phases, their costs and means, and the level from which on they are lesion."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from cgckit.arrays import FloatArray
from cgckit.images.case import Case
from cgckit.lesion_evidence.blocks import Blocks
from cgckit.lesion_evidence.choice import LOWEST_LEVEL, Candidate
from cgckit.lesion_evidence.evidence import smooth
from cgckit.lesion_evidence.regions import Selection
from cgckit.options import Range
from cgckit.priors.lesion_rule import LesionRule

# Fluid is far darker than tissue and never lesion here: left as it is, it would take phases of its own.
_DARKEST = -3.0
_SAMPLES = 20_000
_SLOPE_SMOOTHING_MM = 1.0
_NIL = 30.0
_TAIL = 0.995
_FAINTEST_SHARE = 0.02
"""A level closer to a mean than this share of the gap to the next is held there: log-odds end at it."""
_LEVEL_RATIO = 1.06
"""Between the levels that are tried: the means alone lie so far apart that a lesion's border falls between two."""


@dataclass(frozen=True, eq=False)
class Phases:
    """A partition of the brain into phases, from dark to bright.

    Attributes:
        means: [K], `c_n` in MADs above the brain's median.
        width: `s`, in MADs.
        membership: [K, H, W, L], `y`; sums to 1 over K in the brain, 0 outside.
        gap: duality gap of the labelling, in nats per brain voxel.
        iterations: steps spent on the labelling.
    """

    means: Tensor
    width: float
    membership: Tensor
    gap: float
    iterations: int

    @property
    def image(self) -> Tensor:
        """The piecewise-constant image `u = sum_n c_n y_n`, [H, W, L] in MADs."""
        return torch.einsum("n,nhwl->hwl", self.means, self.membership)


@dataclass
class MumfordShahRule(LesionRule, ABC):
    """A prior that minimises the Mumford-Shah functional and takes what is above a level of its image.

    Attributes:
        phases: number of phases, at least 3.
        length: weight of the boundary in mm; larger gives smoother lesions.
        softness: width of the transition between phases as a share of their spread.
    """

    phases: Annotated[int, Range(3, 100)] = 8
    length: Annotated[float, Range(0, 1e6, open_low=True)] = 1.0
    softness: Annotated[float, Range(0.001, 1000)] = 0.8

    def choose_level(
        self, case: Case, phases: Phases, evidence: FloatArray, blocks: Blocks
    ) -> tuple[Candidate, Selection, str] | None:
        """The lesion side by its border on the coarse `evidence` [H, W, L], and the choice in words."""
        smoothed = smooth(evidence, blocks.brain, blocks.spacing, _SLOPE_SMOOTHING_MM)
        found = self.choose(case, smoothed, blocks, candidates(phases, self.floor), steady=True)
        if found is None:
            return None
        lesion, selection = found
        note = f"{lesion.total} phases; lesion from {lesion.level:.1f} MAD on, border {selection.edge:.2f} MAD/mm"
        return lesion, selection, note


def start_means(evidence: FloatArray, phases: int, softness: float) -> tuple[Tensor, float]:
    """Means [K] and `s` of the evidence [N] by k-means; fewer phases if there are fewer distinct values.

    It starts from even quantiles and, for one phase, from within the brightest hundredth: a small lesion
    is no even share of the brain and would get no phase.
    """
    if len(evidence) == 0:
        return torch.zeros(1), 1.0
    sample = evidence[:: max(1, len(evidence) // _SAMPLES)].astype(np.float64).clip(_DARKEST)[:, None]
    bulk = phases - 1
    start = np.unique(np.quantile(sample, [*((np.arange(bulk) + 0.5) / bulk), _TAIL]))[:, None]
    fit = KMeans(len(start), init=start, n_init=1, random_state=0).fit(sample)
    spread = float(np.sqrt(fit.inertia_ / len(sample)))
    means = torch.from_numpy(np.sort(fit.cluster_centers_[:, 0]).astype(np.float32))
    return means, max(softness * spread, 1e-3)


def phase_cost(evidence: Tensor, means: Tensor, width: float) -> Tensor:
    """`(e - c_n)^2 / (2 s^2)` above that of the nearest phase, [K, H, W, L].

    Evidence below -3 MAD counts as -3. What all phases share changes no partition. The cost is cut off where the
    membership is nil, for arithmetic on denormal numbers is slow.
    """
    cost = (evidence.clamp(min=_DARKEST)[None] - means[:, None, None, None]).square_().div_(2 * width**2)
    return cost.sub_(cost.amin(0)).clamp_(max=_NIL)


def phase_means(membership: Tensor, evidence: Tensor, brain: Tensor, means: Tensor) -> Tensor:
    """`sum(e y_n) / sum(y_n)` over the brain; an empty phase keeps its mean."""
    inside = membership[:, brain]
    mass = inside.sum(1)
    return torch.where(mass > 1e-3, inside @ evidence[brain].clamp(min=_DARKEST) / mass.clamp(min=1e-3), means)


def half_at_level(share: Tensor, phases: Phases, lesion: Candidate) -> Tensor:
    """Shift the log-odds of the lesion side's `share` so that one half is where `u` is the lesion's level.

    Between the means a and b next to the level, `u = a + (b - a) share`, so it is the level where the share is
    `q = (level - a) / (b - a)`.
    """
    below, above = phases.means[-lesion.count - 1], phases.means[-lesion.count]
    q = ((lesion.level - below) / (above - below)).clamp(_FAINTEST_SHARE, 1 - _FAINTEST_SHARE)
    return share * (1 - q) / (share * (1 - q) + (1 - share) * q)


def candidates(phases: Phases, floor: float) -> Iterator[Candidate]:
    """What is above a level in the piecewise-constant image, for levels from `floor` on, 6 % apart and above 0."""
    image, means = phases.image.numpy(), phases.means.numpy()
    level = max(floor, LOWEST_LEVEL)
    while level < means[-1]:
        count = int((means > level).sum())
        if count < len(means):
            yield Candidate(len(means), count, level, image > level)
        level *= _LEVEL_RATIO
