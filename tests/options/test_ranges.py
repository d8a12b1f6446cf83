"""Ranges of options."""

from __future__ import annotations

import math

import pytest

from cgckit.options import POSITIVE, SHARE, Range, at_least


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (POSITIVE, [1e-9, 3], [0, -1]),
        (SHARE, [0, 0.5, 1], [-0.1, 1.1]),
        (at_least(2), [2, 7], [1]),
        (Range(), [-3.0, 0, 3.0], []),
        (Range(0, 1, open_high=True), [0, 0.99], [1, -0.1]),
    ],
)
def test_ends_belong_to_a_range_as_it_says(allowed: Range, inside: list[float], outside: list[float]) -> None:
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in [*outside, math.inf, -math.inf, math.nan])


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (POSITIVE, "above 0"),
        (SHARE, "from 0 to 1"),
        (at_least(2), "of 2 or more"),
        (Range(), ""),
        (Range(0, 1, open_low=True, open_high=True), "above 0 and below 1"),
        (Range(high=3), "to 3"),
    ],
)
def test_a_range_says_what_it_is(allowed: Range, words: str) -> None:
    assert str(allowed) == words
