"""`MumfordShahPrior`: the piecewise-constant Mumford-Shah functional, minimised on one volume."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from cgckit.arrays import FloatArray, Spacing
from cgckit.images.case import Case
from cgckit.lesion_evidence.blocks import Blocks
from cgckit.lesion_evidence.choice import Candidate
from cgckit.lesion_evidence.partition import Partition
from cgckit.lesion_evidence.regions import lesion_map
from cgckit.options import POSITIVE, Range
from cgckit.priors.base import Prediction
from cgckit.priors.phases import MumfordShahRule, Phases, half_at_level, phase_cost, phase_means, start_means

_log = logging.getLogger(__name__)

_COARSE_MM = 2.0
_STEPS_PER_MEANS = 10
_FINE_ITERATIONS = 20
_MEANS_TOLERANCE = 0.05


@dataclass
class MumfordShahPrior(MumfordShahRule):
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
        tolerance: duality gap, in nats per brain voxel, at which the labelling has converged.
        max_iterations: give up after as many steps on the labelling; a warning is logged.
    """

    summary: ClassVar[str] = "piecewise-constant Mumford-Shah on FLAIR and its left-right asymmetry"
    cost: ClassVar[str] = "seconds a subject"

    tolerance: Annotated[float, POSITIVE] = 3e-3
    max_iterations: Annotated[int, Range(1, 1e6)] = 400

    def predict(self, case: Case) -> Prediction:
        """Return the membership of the lesion side, [H, W, L] float32 in [0, 1], 0 outside the brain."""
        full = self.evidence(case)
        blocks = Blocks.cut(case.brain.numpy(), case.spacing, _COARSE_MM)
        evidence = blocks.mean(full)
        brain = torch.from_numpy(blocks.brain)
        phases = self.partition(torch.from_numpy(evidence), brain, blocks.spacing, case.subject)
        found = self.choose_level(case, phases, evidence, blocks)
        if found is None:
            return self.nothing(case)
        lesion, selection, note = found
        membership = self._refine(torch.from_numpy(full), case, phases, lesion)
        return self.finish(case, lesion_map(membership, blocks, case.spacing, selection.region), note)

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
