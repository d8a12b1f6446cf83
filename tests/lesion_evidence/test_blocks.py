"""Block means and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from cgckit.lesion_evidence.blocks import Blocks

MM = (1.0, 1.0, 1.0)


def test_blocks_average_the_brain_alone() -> None:
    image = np.full((5, 4, 4), 3.0, np.float32)
    brain = np.ones(image.shape, bool)
    brain[:2, :2, 1] = False
    image[:2, :2, 1] = 1000.0
    blocks = Blocks.cut(brain, MM, 2.0)
    assert blocks.spacing == (2.0, 2.0, 2.0)
    assert blocks.brain.all()
    np.testing.assert_allclose(blocks.mean(image), np.full((3, 2, 2), 3.0))


@pytest.mark.parametrize(
    ("spacing", "size"), [(MM, (2, 2, 2)), ((2.0, 2.0, 2.0), (1, 1, 1)), ((0.5, 0.5, 5.0), (4, 4, 1))]
)
def test_blocks_come_near_the_edge_asked_for(spacing: tuple[float, float, float], size: tuple[int, int, int]) -> None:
    blocks = Blocks.cut(np.ones((8, 8, 8), bool), spacing, 2.0)
    assert blocks.size == size
    assert blocks.spacing == tuple(edge * length for edge, length in zip(spacing, size, strict=True))


def test_a_block_half_outside_the_brain_is_brain_and_one_more_so_is_not() -> None:
    brain = np.zeros((4, 2, 2), bool)
    brain[0] = brain[2, 0, 0] = True
    assert Blocks.cut(brain, MM, 2.0).brain.ravel().tolist() == [True, False]


@pytest.mark.parametrize("edge", [1.0, 2.0, 4.0])
def test_a_ramp_comes_back_where_it_was(edge: float) -> None:
    ramp = np.broadcast_to(np.arange(16, dtype=np.float32)[:, None, None], (16, 8, 8))
    blocks = Blocks.cut(np.ones(ramp.shape, bool), MM, edge)
    np.testing.assert_allclose(blocks.enlarge(blocks.mean(ramp))[2:-2], ramp[2:-2], atol=1e-4)


def test_a_sample_is_a_voxel_of_its_own_block() -> None:
    rows = np.broadcast_to(np.arange(7)[:, None, None], (7, 7, 7))
    sampled = Blocks.cut(np.ones(rows.shape, bool), MM, 2.0).sample(rows)
    assert (sampled // 2 == np.arange(4)[:, None, None]).all()
