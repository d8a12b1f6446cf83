"""Ranges of a prior's options, checked when it is made: a bad value is named before any work starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cgckit.errors import UsageError
from cgckit.priors.base import Prior


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`, `low` itself only if `closed`; `words` says so to the user."""

    words: str
    low: float = -math.inf
    high: float = math.inf
    closed: bool = True

    def __contains__(self, value: float) -> bool:
        above = self.low <= value if self.closed else self.low < value
        return math.isfinite(value) and above and value <= self.high


def at_least(least: int) -> Range:
    """Numbers of `least` or more."""
    return Range(f"{least} or more", least)


POSITIVE = Range("above 0", 0, closed=False)
SHARE = Range("a share between 0 and 1", 0, 1)

LESION_CHOICE = {
    "asymmetry": at_least(0),
    "floor": Range("a finite number of MADs"),
    "min_component": SHARE,
    "min_edge": SHARE,
}
"""The options of every prior that measures lesion evidence and chooses the lesion by its border."""

FUNCTIONAL = LESION_CHOICE | {"phases": at_least(3), "length": POSITIVE, "softness": POSITIVE}
"""The options of every prior that minimises the Mumford-Shah functional."""


def check_ranges(label: str, prior: Prior, ranges: Mapping[str, Range]) -> None:
    """Check the options of a prior that the user calls `label`.

    Raises:
        UsageError: an option is not in its range.
    """
    for name, allowed in ranges.items():
        value = getattr(prior, name)
        if value not in allowed:
            raise UsageError(f"{label}: {name} must be {allowed.words}, got {value}")
