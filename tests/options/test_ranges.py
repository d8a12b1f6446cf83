"""Ranges of the options of priors."""

from __future__ import annotations

import math

import pytest

from cgckit.options.ranges import LESION_CHOICE, POSITIVE, SHARE, Range, at_least


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (POSITIVE, [1e-9, 3], [0, -1]),
        (SHARE, [0, 0.5, 1], [-0.1, 1.1]),
        (at_least(2), [2, 7], [1]),
        (LESION_CHOICE["floor"], [-3.0, 0, 3.0], []),
    ],
)
def test_ends_belong_to_a_range_as_it_says(allowed: Range, inside: list[float], outside: list[float]) -> None:
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in [*outside, math.inf, -math.inf, math.nan])
