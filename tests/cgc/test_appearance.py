"""The appearance model finds what a mask missed and what it took in by mistake, near the mask and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cgckit.cgc.appearance import appearance_log_odds
from cgckit.images.case import Case
from cgckit.images.grid import Grid

SHAPE = (48, 32, 32)


def cube(start: int, stop: int) -> Tensor:
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[start:stop, 10:22, 10:22] = True
    return mask


def make_case(bright: Tensor, *, dark_too: bool = False, spacing: float = 1.0) -> Case:
    """Two modalities of noise in which `bright` is 2 brighter in the first, or darker in half of it."""
    noise = np.random.default_rng(0).normal(scale=0.5, size=(2, *SHAPE)).astype(np.float32)
    image = torch.from_numpy(noise)
    image[0, bright] += 2.0
    if dark_too:
        half = bright.clone()
        half[..., 16:] = False
        image[0, half] -= 4.0
    grid = Grid(SHAPE, np.diag([spacing] * 3 + [1.0]))
    return Case("s", image, torch.ones(SHAPE, dtype=torch.bool), ("flair", "t2"), (spacing,) * 3, grid, grid)


def share(evidence: Tensor, where: Tensor) -> float:
    """How much of `where` is called lesion."""
    return float((evidence[where] > 0).float().mean())


@pytest.mark.parametrize("dark_too", [False, True])
def test_the_part_of_a_lesion_that_the_mask_missed_looks_like_lesion(dark_too: bool) -> None:
    lesion = cube(12, 30)
    evidence = appearance_log_odds(make_case(lesion, dark_too=dark_too), cube(12, 24))
    assert share(evidence, cube(24, 30)) > 0.8
    assert share(evidence, cube(32, 34)) < 0.1


def test_normal_tissue_that_the_mask_took_in_looks_normal() -> None:
    evidence = appearance_log_odds(make_case(cube(12, 30)), cube(12, 34))
    assert share(evidence, cube(12, 30)) > 0.9
    assert share(evidence, cube(31, 34)) < 0.2


def test_evidence_is_bounded_and_nothing_is_said_of_what_is_far_away_or_no_brain() -> None:
    twin = cube(38, 44)
    case = make_case(cube(4, 16) | twin)
    case.brain[:, :12] = False
    evidence = appearance_log_odds(case, cube(4, 16))
    assert (evidence[twin] == 0).all()
    assert (evidence[~case.brain] == 0).all()
    assert 0 < float(evidence.abs().max()) <= np.log(0.98 / 0.02) + 1e-6
    near = make_case(cube(4, 16), spacing=2.0)
    assert (appearance_log_odds(near, cube(4, 16))[21:] == 0).all(), "10 mm are five voxels of 2 mm"
    assert (appearance_log_odds(near, cube(4, 16))[16:21] != 0).any()


@pytest.mark.parametrize("size", [0, 1])
def test_a_mask_too_small_to_learn_from_says_nothing(size: int) -> None:
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[:size, 0, 0] = True
    assert not appearance_log_odds(make_case(cube(12, 30)), mask).any()


def test_a_modality_that_is_missing_changes_nothing() -> None:
    case = make_case(cube(12, 30))
    case.image[1] = 0
    alone = Case("s", case.image[:1], case.brain, ("flair",), case.spacing, case.grid, case.grid)
    expected = appearance_log_odds(alone, cube(12, 24))
    assert expected.any()
    torch.testing.assert_close(appearance_log_odds(case, cube(12, 24)), expected)
    case.image[0] = 0
    assert not appearance_log_odds(case, cube(12, 24)).any()
