"""Distributions of a cohort's figures: where dots are drawn, and which subjects are outliers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_FENCE = 1.5
WIDTH, HEIGHT, RADIUS = 240.0, 72.0, 4.0
"""Of a drawing, in its own units; the axis lies at its foot."""
_MARGIN = 10.0


@dataclass(frozen=True)
class Dot:
    """A subject in a distribution: its name, value, and place in the drawing."""

    subject: str
    value: float
    x: float
    y: float
    outlier: bool


def outliers(values: Mapping[str, float]) -> set[str]:
    """Who lies more than 1.5 interquartile ranges beyond the quartiles of all.

    Source: J. W. Tukey, Exploratory Data Analysis, 1977.
    """
    if not values:
        return set()
    low, high = np.percentile(list(values.values()), (25, 75))
    reach = _FENCE * (high - low)
    return {name for name, value in values.items() if not low - reach <= value <= high + reach}


def stacked_dots(values: Mapping[str, float], unusual: set[str]) -> list[Dot]:
    """Dots above their values, stacked where they would hide each other.

    Source: L. Wilkinson, Dot plots, The American Statistician 53, 1999.

    Args:
        values: by subject.
        unusual: the subjects that are outliers.
    """
    if not values:
        return []
    low, high = min(values.values()), max(values.values())
    scale = (WIDTH - 2 * _MARGIN) / ((high - low) or 1)
    dots: list[Dot] = []
    start, stack = -np.inf, 0
    places: list[tuple[str, float, float, int]] = []
    for name, value in sorted(values.items(), key=lambda item: item[1]):
        x = _MARGIN + (value - low) * scale if high > low else WIDTH / 2
        if x - start < 2 * RADIUS:
            stack += 1
        else:
            start, stack = x, 0
        places.append((name, value, start, stack))
    # Stacks that would not fit are pressed together.
    step = min(2 * RADIUS, (HEIGHT - 2 * _MARGIN) / max(1, *(level for *_, level in places)))
    for name, value, x, level in places:
        dots.append(Dot(name, value, round(x, 1), round(HEIGHT - _MARGIN - level * step, 1), name in unusual))
    return dots
