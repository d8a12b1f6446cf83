"""Simulated raw heads: what was moved is known, and so is what perfect preparation would make of it."""

from __future__ import annotations

import numpy as np
import pytest

from cgckit.images.registration import angle, distance
from cgckit.phantom.raw import REFERENCE, plan_moves
from cgckit.phantom.subject import PhantomSubject, simulate_raw_subject


@pytest.fixture(scope="module")
def subject() -> PhantomSubject:
    return simulate_raw_subject(0, 0)


@pytest.fixture(scope="module")
def prepared(subject: PhantomSubject) -> dict[str, np.ndarray]:
    return subject.prepared()


def test_moves_are_within_ten_mm_and_ten_degrees() -> None:
    for seed in range(20):
        moves = plan_moves(np.random.default_rng(seed))
        for name, move in moves.items():
            shift, turn = np.linalg.norm(move.shift), np.linalg.norm(move.turn)
            assert max(shift, turn) <= (5 if name == REFERENCE else 10)
            assert angle(move.matrix()) == pytest.approx(turn, abs=1e-4)
            assert np.allclose(move.matrix() @ move.back(), np.eye(4))


def test_each_sequence_lies_elsewhere_on_a_grid_of_its_own(subject: PhantomSubject) -> None:
    assert list(subject.images) == ["flair", "t1", "t2"]
    assert set(subject.grids) == set(subject.transforms) == {"t1", "t2"}
    for name, grid in subject.grids.items():
        assert subject.images[name].shape == grid.shape
        assert not grid.matches(subject.grid)
        assert distance(subject.transforms[name], subject.grid) > 1
    assert subject.lesion.shape == subject.brain.shape == subject.images["flair"].shape
    assert not (subject.lesion & ~subject.brain).any()


def test_whole_heads_show_more_than_the_brain_and_prepared_ones_nothing_else(
    subject: PhantomSubject, prepared: dict[str, np.ndarray]
) -> None:
    for name, image in prepared.items():
        assert np.array_equal(image > 0, subject.brain)
        if name == REFERENCE:
            bright = subject.images[name] > np.median(image[subject.brain]) / 4
            assert bright.sum() > 1.3 * subject.brain.sum()


def test_prepared_scans_lie_on_each_other(subject: PhantomSubject, prepared: dict[str, np.ndarray]) -> None:
    """White and grey matter differ in T1 where they do in T2; where the head lay before, they would not."""
    t1, t2 = (prepared[name][subject.brain].astype(float) for name in ("t1", "t2"))
    beside = np.roll(prepared["t2"], 8, axis=0)[subject.brain].astype(float)
    assert abs(np.corrcoef(t1, t2)[0, 1]) > 2 * abs(np.corrcoef(t1, beside)[0, 1])
