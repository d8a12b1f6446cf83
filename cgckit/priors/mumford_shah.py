"""`MumfordShahPrior`: the piecewise-constant Mumford-Shah functional, minimised on one volume."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from cgckit.arrays import FloatArray, Spacing
from cgckit.images.case import Case
from cgckit.lesion_evidence.blocks import Blocks
from cgckit.lesion_evidence.choice import LOWEST_LEVEL, Candidate, choose_lesion
from cgckit.lesion_evidence.evidence import lesion_evidence, smooth
from cgckit.lesion_evidence.partition import Partition
from cgckit.lesion_evidence.regions import Landscape, Selection, lesion_map
from cgckit.options.ranges import FUNCTIONAL, POSITIVE, at_least, check_ranges
from cgckit.priors.base import Prior

_log = logging.getLogger(__name__)

# Fluid is far darker than tissue and never lesion here: left as it is, it would take phases of its own.
_DARKEST = -3.0
_COARSE_MM = 2.0
_SAMPLES = 20_000
_STEPS_PER_MEANS = 10
_FINE_ITERATIONS = 20
_SLOPE_SMOOTHING_MM = 1.0
_MEANS_TOLERANCE = 0.05
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
class MumfordShahPrior(Prior):
    """Soft membership of the bright side of a Mumford-Shah partition (the functional of Kim and Ye).

        min_{c, y}  sum_x [ sum_n (e - c_n)^2 / (2 s^2) y_n + y_n log y_n + length sum_n |grad y_n| ]

    over partitions `y` of the brain (`y_n >= 0`, `sum_n y_n = 1`). `e` is the lesion evidence of
    `cgckit.lesion_evidence`, unsmoothed; the total variation is isotropic, in mm, and stops at the brain's edge;
    `s` is `softness` times the spread within the phases at the start: towards 0 the entropy no longer counts and
    the functional is the plain one. The means, `c_n = sum(e y_n) / sum(y_n)`, alternate with the convex labelling
    (`cgckit.lesion_evidence.partition`) on a 2 mm grid, from one-dimensional k-means, until the means move less
    than 0.05 MAD and the duality gap is below `tolerance` nats per voxel. A phase that runs empty keeps its mean.
    Lesion is where the piecewise-constant image `u = sum_n c_n y_n` is above a level, the one that has the steepest
    border (`cgckit.lesion_evidence.choice`); the boundary is then solved on the full grid with the means held.

    Attributes:
        phases: number of phases, at least 3.
        length: weight of the boundary in mm; larger gives smoother lesions.
        softness: width of the transition between phases as a share of their spread.
        asymmetry: weight of the left-right difference; 0 switches it off.
        floor: lesion begins at least this many MADs above the brain's median.
        min_component: connected parts with less than this share of the largest part's mass are dropped.
        min_edge: connected parts whose border has less than this share of the mean slope are dropped.
        tolerance: duality gap, in nats per brain voxel, at which the labelling has converged.
        max_iterations: give up after as many steps on the labelling; a warning is logged.
    """

    summary: ClassVar[str] = "piecewise-constant Mumford-Shah on FLAIR and its left-right asymmetry"

    phases: int = 8
    length: float = 1.0
    softness: float = 0.8
    asymmetry: float = 0.5
    floor: float = 1.5
    min_component: float = 0.1
    min_edge: float = 0.6
    tolerance: float = 3e-3
    max_iterations: int = 400
    choice: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ranges = FUNCTIONAL | {"tolerance": POSITIVE, "max_iterations": at_least(1)}
        check_ranges("mumford-shah", self, ranges)

    def predict(self, case: Case) -> Tensor:
        """Return the membership of the lesion side, [H, W, L] float32 in [0, 1], 0 outside the brain."""
        full = lesion_evidence(case, smoothing=0, asymmetry_weight=self.asymmetry)
        blocks = Blocks.cut(case.brain.numpy(), case.spacing, _COARSE_MM)
        evidence = blocks.mean(full)
        brain = torch.from_numpy(blocks.brain)
        phases = self.partition(torch.from_numpy(evidence), brain, blocks.spacing, case.subject)
        found, self.choice = choose_level(
            phases, evidence, blocks, floor=self.floor, min_component=self.min_component, min_edge=self.min_edge
        )
        if found is None:
            return torch.zeros(case.brain.shape)
        lesion, selection = found
        membership = self._refine(torch.from_numpy(full), case, phases, lesion)
        return torch.from_numpy(lesion_map(membership, blocks, case.spacing, selection.region))

    def partition(self, evidence: Tensor, brain: Tensor, spacing: Spacing, subject: str = "") -> Phases:
        """Alternate means and labelling until both stand still; see the class for the functional.

        Args:
            evidence: [H, W, L] float32.
            brain: [H, W, L] bool.
            spacing: voxel edge lengths in mm.
            subject: named in the warning if the iterations run out.
        """
        means, width = start_means(evidence[brain].numpy(), self.phases, self.softness)
        solver = Partition(brain, spacing, self.length)
        spent = 0
        while True:
            data = phase_cost(evidence, means, width)
            allowed = min(_STEPS_PER_MEANS, self.max_iterations - spent)
            labelling = solver.solve(data, tolerance=self.tolerance, max_iterations=allowed)
            spent += max(1, labelling.iterations)
            moved = phase_means(labelling.membership, evidence, brain, means)
            step = float((moved - means).abs().max())
            if step < _MEANS_TOLERANCE and labelling.gap <= self.tolerance:
                break
            if spent >= self.max_iterations:
                _log.warning(
                    "%s: Mumford-Shah stopped after %d iterations, gap %.1e nats per voxel (tolerance %.1e)",
                    subject, spent, labelling.gap, self.tolerance,
                )  # fmt: skip
                break
            means = moved
        order = means.argsort()
        return Phases(means[order], width, labelling.membership[order] * brain, labelling.gap, spent)

    def _refine(self, evidence: Tensor, case: Case, phases: Phases, lesion: Candidate) -> FloatArray:
        """Solve lesion against rest on the case's own grid, means held, and return the lesion's membership.

        Each side costs the free energy of its phases, `-log sum_n exp(-d_n)`. Boundaries within a side cost
        nothing, so two labels stand for K.
        """
        data, count = phase_cost(evidence, phases.means, phases.width), lesion.count
        sides = torch.stack([-torch.logsumexp(-side, 0) for side in (data[:-count], data[-count:])])
        solver = Partition(case.brain, case.spacing, self.length)
        labelling = solver.solve(sides, tolerance=self.tolerance, max_iterations=_FINE_ITERATIONS)
        return half_at_level(labelling.membership[1], phases, lesion).numpy()


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


def choose_level(
    phases: Phases, evidence: FloatArray, blocks: Blocks, *, floor: float, min_component: float, min_edge: float
) -> tuple[tuple[Candidate, Selection] | None, str]:
    """The lesion side by `choose_lesion` on the coarse `evidence` [H, W, L], and the choice in words."""
    smoothed = smooth(evidence, blocks.brain, blocks.spacing, _SLOPE_SMOOTHING_MM)
    found = choose_lesion(
        Landscape.of(smoothed, blocks.brain, blocks.spacing),
        candidates(phases, floor),
        floor=floor,
        min_component=min_component,
        min_edge=min_edge,
        steady=True,
    )
    if found is None:
        return None, f"nothing stands out {floor:g} MAD or more above the median: the map is empty"
    lesion, selection = found
    return found, f"{lesion.total} phases; lesion from {lesion.level:.1f} MAD on, border {selection.edge:.2f} MAD/mm"
