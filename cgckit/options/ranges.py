"""`Range`: which numbers an option may be, declared beside the field as `Annotated[float, Range(0, 1)]`."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`; an end that is open does not belong to it.

    For a tuple, each of its numbers is meant; for `float | None`, the number.
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        below = value < self.high if self.open_high else value <= self.high
        return abs(value) < math.inf and above and below

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.open_low else f"from {self.low:g}"
        high = f"below {self.high:g}" if self.open_high else f"to {self.high:g}"
        if math.isinf(self.low):
            return "" if math.isinf(self.high) else high
        if math.isinf(self.high):
            return low if self.open_low else f"of {self.low:g} or more"
        return f"{low} and {high}" if self.open_low or self.open_high else f"{low} {high}"


def at_least(least: float) -> Range:
    """Numbers of `least` or more."""
    return Range(least)


POSITIVE = Range(0, open_low=True)
"""Numbers above 0."""
SHARE = Range(0, 1)
"""Numbers from 0 to 1."""
SEED = Range(0, 2**32 - 1)
"""Seeds of random numbers, as numpy takes them."""
