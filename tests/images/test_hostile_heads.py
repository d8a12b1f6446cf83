"""Heads of odd size: worked with, or refused in one line, and in no case searched for ever."""

from __future__ import annotations

import numpy as np
import pytest

from cgckit.errors import BadInputError
from cgckit.images.brain import CoarseSearch, extract_brain
from cgckit.images.case import Case
from cgckit.images.volume import Volume
from cgckit.testing import simulated_heads


@pytest.mark.parametrize("head", range(3))
def test_heads_whose_edges_are_all_coarse_are_worked_with(head: int) -> None:
    brain = extract_brain(CoarseSearch(), simulated_heads()[head])
    assert 0.05 < brain.mean() < 0.7


@pytest.mark.parametrize("head", range(3))
def test_heads_of_giants_are_one_line(head: int) -> None:
    volumes = {
        name: Volume.of(volume.array, np.diag([7.0, 7.0, 7.0, 1]), name)
        for name, volume in simulated_heads()[head].items()
    }
    with pytest.raises(BadInputError, match="no brain found in"):
        extract_brain(CoarseSearch(), volumes)


@pytest.mark.parametrize(("shape", "edge"), [((2, 2, 2), 1.0), ((3, 3, 3), 10.0), ((30, 30, 30), 25.0)])
def test_a_field_of_view_that_is_no_heads_is_one_line(shape: tuple[int, int, int], edge: float) -> None:
    noise = np.random.default_rng(0).normal(100, 10, shape)
    with pytest.raises(BadInputError, match=r"^flair of p: no brain found in a field of view of .* mm; give a brain"):
        Case.from_arrays({"flair": noise}, affine=np.diag([edge, edge, edge, 1]), subject="p")


@pytest.mark.parametrize(
    ("shape", "edge", "words"), [((2, 2, 2), 1.0, "a brain of 8 voxels"), ((30, 30, 30), 25.0, "a brain of 750 x 750")]
)
def test_a_mask_that_is_no_brains_is_one_line(shape: tuple[int, int, int], edge: float, words: str) -> None:
    noise = np.random.default_rng(0).normal(100, 10, shape)
    with pytest.raises(BadInputError, match=words):
        Case.from_arrays({"flair": noise}, affine=np.diag([edge, edge, edge, 1]), brain=noise > 0, subject="p")
