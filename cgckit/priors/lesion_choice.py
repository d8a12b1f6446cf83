"""Which classes of a brain are lesion, decided without labels; shared by the built-in priors.

Taking "the brightest of K classes" makes the result a lottery of K: with one class too few the lesion shares
its class with grey matter, with one too many it is cut in two. Here the j brightest classes are a candidate
for every j (and every K that was tried), and lesion is the candidate R whose border is steepest:

    score(R) = log edge(R) + .1 log volume(R) - .6 log^2(level(R) / 2.5)

`edge` is the mean slope of the evidence along the border of the parts of R that look like lesions
(`cgckit.priors.regions`). A set that takes in grey matter, or leaves half of a lesion out, has its border where
the evidence changes slowly. The volume settles ties between nested candidates for the larger, and `level`, the
evidence at the border, says that lesions are outliers, some 2.5 MADs above the brain's median, within a factor of two
or three. Where the border rises by less than .3 MAD/mm there is no lesion, but the cortex of a healthy brain; a lesion
is no more than 25 % of the brain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cgckit.priors.coarse import BoolArray
from cgckit.priors.regions import Landscape, Selection

_VOLUME_WEIGHT = 0.1
_LEVEL, _LEVEL_WEIGHT = 2.5, 0.6
_LOWEST_LEVEL = 0.1
_FAINTEST_EDGE = 0.3
_MAX_BRAIN_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Candidate:
    """The `count` brightest of `total` classes.

    Attributes:
        total: number of classes in the partition.
        count: how many of them, from the brightest down, would be lesion.
        level: evidence where these classes meet the others, in MADs above the brain's median.
        region: [H, W, L] bool, the voxels that belong to them.
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
) -> tuple[Candidate, Selection] | None:
    """Return the candidate of the highest score, and what of it looks like lesion; None if no candidate qualifies.

    Args:
        landscape: the evidence.
        candidates: the sets of classes to choose among.
        floor: sets that begin below this many MADs are never lesion.
        min_component: see `Landscape.select`.
        min_edge: likewise.
    """
    best: tuple[Candidate, Selection] | None = None
    highest = -np.inf
    for candidate in candidates:
        if candidate.level < floor:
            continue
        found = landscape.select(candidate.region, candidate.level, min_component, min_edge)
        if found is None or found.edge < _FAINTEST_EDGE:
            continue
        if found.region.sum() > _MAX_BRAIN_SHARE * landscape.brain.sum():
            continue
        score = _score(found, candidate.level)
        if score > highest:
            best, highest = (candidate, found), score
    return best


def _score(found: Selection, level: float) -> float:
    outlier = _LEVEL_WEIGHT * np.log(max(level, _LOWEST_LEVEL) / _LEVEL) ** 2
    return float(np.log(found.edge) + _VOLUME_WEIGHT * np.log(found.volume_ml) - outlier)
