"""Which classes of a brain are lesion, decided without labels; shared by the built-in priors.

Taking "the brightest of K classes" makes the result a lottery of K: with one class too few the lesion shares
its class with grey matter, with one too many it is cut in two. Here everything brighter than a level is a candidate,
for many levels, and lesion is the candidate R whose border is steepest:

    score(R) = log edge(R) + .12 log volume(R) - .6 log^2(level(R) / 2.5) + .3 log max(agreement(R), .05)

`edge` is the mean slope of the evidence along the border of the parts of R that look like lesions
(`cgckit.lesion_evidence.regions`). A set that takes in grey matter, or leaves half of a lesion out, has its border
where the evidence changes slowly. The volume settles ties between nested candidates for the larger, and `level`, the
evidence at the border, says that lesions are outliers, some 2.5 MADs above the brain's median, within a factor of two
or three. `agreement` is the Dice coefficient of R with what an independent witness calls lesion, where there is one
(`cgckit.starting`): it settles near-ties between a lesion and structures that it touches, about which border and volume
say little. Where the border rises by less than .3 MAD/mm there is no lesion, but the cortex of a healthy brain; a
lesion is no more than 25 % of the brain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray
from cgckit.lesion_evidence.regions import Landscape, Selection

_VOLUME_WEIGHT = 0.12
_LEVEL, _LEVEL_WEIGHT = 2.5, 0.6
_WITNESS_WEIGHT, _LEAST_AGREEMENT = 0.3, 0.05
LOWEST_LEVEL = 0.1
"""The median itself and what is below it count as this [MAD]."""
_FAINTEST_EDGE = 0.3
_MAX_BRAIN_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Candidate:
    """What is brighter than a level, in a partition of the brain.

    Attributes:
        total: number of classes in the partition.
        count: how many of them, from the brightest down, lie above the level.
        level: evidence from which on it would be lesion, in MADs above the brain's median.
        region: [H, W, L] bool, the voxels above it.
    """

    total: int
    count: int
    level: float
    region: BoolArray


def choose_lesion(
    landscape: Landscape,
    candidates: Iterable[Candidate],
    *,
    floor: float,
    min_component: float,
    min_edge: float,
    min_depth: float = 0.0,
    steady: bool = False,
) -> tuple[Candidate, Selection] | None:
    """Return the candidate of the highest score, and what of it looks like lesion; None if no candidate qualifies.

    Args:
        landscape: the evidence.
        candidates: to choose among.
        floor: what begins below this many MADs is never lesion.
        min_component: see `Landscape.select`.
        min_edge: likewise.
        min_depth: likewise.
        steady: the candidates are a fine row of levels, and each counts with the median of its own and its neighbours'
            scores; the best of many is else one where parts come together by chance.
    """
    tried: list[tuple[Candidate, Selection | None]] = []
    scores: list[float] = []
    for candidate in candidates:
        if candidate.level < floor:
            continue
        found = landscape.select(candidate.region, candidate.level, min_component, min_edge, min_depth)
        if found is not None and not _qualifies(found, landscape):
            found = None
        tried.append((candidate, found))
        scores.append(-np.inf if found is None else _score(found, candidate.level))
    if steady and scores:
        scores = list(ndimage.median_filter(scores, 3, mode="nearest"))
    best = max(
        ((score, candidate, found) for score, (candidate, found) in zip(scores, tried, strict=True) if found),
        key=lambda entry: entry[0],
        default=None,
    )
    return best and best[1:]


def _qualifies(found: Selection, landscape: Landscape) -> bool:
    small = found.region.sum() <= _MAX_BRAIN_SHARE * landscape.brain.sum()
    return found.edge >= _FAINTEST_EDGE and bool(small)


def _score(found: Selection, level: float) -> float:
    outlier = _LEVEL_WEIGHT * np.log(max(level, LOWEST_LEVEL) / _LEVEL) ** 2
    witness = 0.0
    if found.agreement is not None:
        witness = _WITNESS_WEIGHT * np.log(max(found.agreement, _LEAST_AGREEMENT))
    return float(np.log(found.edge) + _VOLUME_WEIGHT * np.log(found.volume_ml) - outlier + witness)
