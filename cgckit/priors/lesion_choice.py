"""Which classes of a brain are lesion, decided without labels; shared by the built-in priors.

Taking "the brightest of K classes" makes the result a lottery of K: with one class too few the lesion shares
its class with grey matter, with one too many it is cut in two. Here the j brightest classes are a candidate
for every j (and every K that was tried), and lesion is the candidate whose cleaned region R stands out most:

    contrast(R) = median evidence in R - median evidence in the 8 mm around R

A set that takes in grey matter lowers the first median; a set that leaves half of a lesion out raises the
second. Medians, because fluid beside a region would flatter it in a mean. Candidates must be outliers of this
brain (`floor`), larger than a speck and no more than 35 % of the brain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cgckit.priors.cleaning import clean
from cgckit.priors.evidence import BoolArray, FloatArray, Spacing

_SHELL_MM = 8.0
_MAX_BRAIN_SHARE = 0.35


@dataclass(frozen=True, eq=False)
class Candidate:
    """The `count` brightest of `total` classes.

    Attributes:
        total: number of classes in the partition.
        count: how many of them, from the brightest down, would be lesion.
        mean: mean evidence of the darkest of those, in MADs above the brain's median.
        region: [H, W, L] bool, the voxels that belong to them.
    """

    total: int
    count: int
    mean: float
    region: BoolArray


@dataclass(frozen=True)
class Thinning:
    """Every n-th voxel of a smooth image: `image[thinning.index]` has the voxel edges `spacing` in mm."""

    index: tuple[slice, slice, slice]
    spacing: Spacing


def every_2mm(spacing: Spacing) -> Thinning:
    """Thin a grid to about 2 mm, which is fine enough to compare candidates and eight times as fast."""
    i, j, k = (max(1, round(2.0 / edge)) for edge in spacing)
    index = (slice(None, None, i), slice(None, None, j), slice(None, None, k))
    return Thinning(index, (spacing[0] * i, spacing[1] * j, spacing[2] * k))


def contrast(evidence: FloatArray, region: BoolArray, brain: BoolArray, spacing: Spacing) -> float:
    """Median evidence in a region minus that in the brain within 8 mm of it; 0 if either is empty."""
    distance = ndimage.distance_transform_edt(~region, sampling=spacing)
    shell = brain & ~region & (distance <= _SHELL_MM)
    if not region.any() or not shell.any():
        return 0.0
    return float(np.median(evidence[region]) - np.median(evidence[shell]))


def choose_lesion(
    evidence: FloatArray,
    brain: BoolArray,
    spacing: Spacing,
    candidates: Iterable[Candidate],
    *,
    floor: float,
    min_component: float,
) -> tuple[Candidate, float] | None:
    """Return the candidate of the highest contrast, and that contrast; None if no candidate qualifies.

    Args:
        evidence: [H, W, L], in MADs above the brain's median.
        brain: [H, W, L] bool.
        spacing: voxel edge lengths in mm.
        candidates: the sets of classes to choose among.
        floor: classes whose mean lies below this many MADs are never lesion.
        min_component: share of the largest component below which components are dropped before comparing.
    """
    best: tuple[Candidate, float] | None = None
    for candidate in candidates:
        if candidate.mean < floor:
            continue
        region = clean(candidate.region, brain, spacing, min_component)
        if not region.any() or region.sum() > _MAX_BRAIN_SHARE * brain.sum():
            continue
        value = contrast(evidence, region, brain, spacing)
        if best is None or value > best[1]:
            best = (candidate, value)
    return best
