"""The contract of a registration: `check_registration`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from cgckit.arrays import DoubleArray
from cgckit.images.registration import Registration, distance, fault_of
from cgckit.images.volume import Volume
from cgckit.testing.brains import simulated_heads
from cgckit.testing.rules import Rules, Verdict, judge, random_state, require, require_all, require_options

Make = Callable[[], Registration]
Pair = tuple[Volume, Volume, DoubleArray]
"""Two images of one head, and the transform from the world of the second to that of the first."""
# Rotation about each axis [degrees] and shift [mm] of each pair, within what headers may be wrong by.
_MOTIONS = (((4.0, -3.0, 5.0), (5.0, -4.0, 3.0)), ((-3.0, 4.0, 4.0), (-3.0, 4.0, -4.0)))


def check_registration(make: Make, pairs: Sequence[Pair] | None = None) -> None:
    """Check that a registration keeps the contract that cgckit relies on.

    Args:
        make: makes a fresh one: the class itself, or a function that sets options.
        pairs: images to try it on; by default `simulated_motions()`.

    Raises:
        ContractError: naming the first rule that is broken.
    """
    require_all(registration_rules(make, pairs))


def registration_rules(make: Make, pairs: Sequence[Pair] | None = None) -> Iterator[Verdict]:
    """What becomes of each rule of the contract."""
    return judge(_RULES, _Trial(make, simulated_motions() if pairs is None else pairs))


def simulated_motions(seed: int = 0) -> tuple[Pair, ...]:
    """A stripped brain and a whole head of `simulated_heads`, each beside itself in another contrast and moved.

    Returns:
        For each the image, the moved one, and the transform [4, 4] from the world of the second to that of the first.
    """
    brain, _, head = simulated_heads(seed)
    pairs = []
    for volumes, (degrees, shift) in zip((brain, head), _MOTIONS, strict=True):
        fixed = next(iter(volumes.values()))
        # Dark tissue bright, and the other way round; the background stays.
        other = np.where(fixed.array > 20, 220 - fixed.array, fixed.array)
        motion = _about(fixed, np.radians(degrees), shift)
        moving = Volume.of(other, motion @ fixed.grid.affine, "simulated, moved")
        pairs.append((fixed, moving, np.asarray(np.linalg.inv(motion), dtype=np.float64)))
    return tuple(pairs)


def _about(volume: Volume, angles: DoubleArray, shift: Sequence[float]) -> DoubleArray:
    """A rotation about the centre of an image, axis by axis [radians], then a shift [mm], [4, 4]."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        step = np.eye(3)
        step[first, first] = step[second, second] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    centre = (volume.grid.affine @ np.array([*((np.array(volume.grid.shape) - 1) / 2), 1.0]))[:3]
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = turn, centre + np.array(shift) - turn @ centre
    return motion


class _Trial:
    """A registration on trial, asked once for several rules to look at what it did."""

    def __init__(self, make: Make, pairs: Sequence[Pair]) -> None:
        self.make, self.pairs = make, pairs
        self.given = [self.copies(pair) for pair in pairs]

    @staticmethod
    def copies(pair: Pair) -> tuple[Volume, Volume]:
        """Both images in memory that may be written to."""
        fixed, moving = (replace(image, array=image.array.copy(), header=image.header.copy()) for image in pair[:2])
        return fixed, moving

    @cached_property
    def found(self) -> list[Any]:
        """What it gives for each pair."""
        registration = self.make()
        with random_state(seed=1):
            return [registration.align(fixed, moving) for fixed, moving in self.given]


def _check_options(trial: _Trial) -> None:
    """It is a dataclass derived from cgckit.Registration; each option has a default of its type and range"""
    require_options(trial.make(), Registration)


def _check_transform(trial: _Trial) -> None:
    """align returns a rigid transform, an array [4, 4]"""
    for found in trial.found:
        require(isinstance(found, np.ndarray), f"align returned {type(found).__name__}, not an array")
        require(np.issubdtype(found.dtype, np.floating), f"an array of {found.dtype}, not of floating-point numbers")
        fault = fault_of(found)
        require(fault is None, f"align returned {fault}")


def _check_direction(trial: _Trial) -> None:
    """A head that was moved comes closer to where it was: the transform leads from the moving to the fixed image"""
    for number, (found, (fixed, _, truth)) in enumerate(zip(trial.found, trial.pairs, strict=True), 1):
        before, after = distance(truth, fixed.grid), distance(found @ np.linalg.inv(truth), fixed.grid)
        require(after < before, f"pair {number} lay {before:.1f} mm apart, and {after:.1f} mm afterwards")


def _check_input(trial: _Trial) -> None:
    """align leaves the images as they are"""
    _ = trial.found
    for pair, given in zip(trial.pairs, trial.given, strict=True):
        for before, after in zip(pair[:2], given, strict=True):
            require(np.array_equal(before.array, after.array), "an image was changed")
            require(before.header == after.header, "a header was changed")


def _check_determinism(trial: _Trial) -> None:
    """Asked again, in another order, whatever the global random state, it finds the same transform"""
    registration = trial.make()
    with random_state(seed=2):
        anew = [registration.align(*trial.copies(pair)) for pair in reversed(trial.pairs)][::-1]
    for number, (first, second) in enumerate(zip(trial.found, anew, strict=True), 1):
        require(np.array_equal(first, second), f"another transform of pair {number}: seed its random numbers")


_RULES: Rules[_Trial] = {
    "options": _check_options,
    "transform": _check_transform,
    "direction": _check_direction,
    "input": _check_input,
    "determinism": _check_determinism,
}
