"""The contract of a registration: a good one passes, and for each rule a deliberately bad one is caught."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from cgckit import Registration
from cgckit.images.registration.rigid import RigidRegistration
from cgckit.testing import ContractError, check_registration, simulated_motions

TRUTHS = {str(moving.grid.affine): truth for _, moving, truth in simulated_motions()}


@dataclass
class Good(Registration):
    """Knows how the simulated heads were moved."""

    error: float = 0.0

    def align(self, fixed, moving):
        truth = TRUTHS[str(moving.grid.affine)].copy()
        truth[0, 3] += self.error
        return truth


@dataclass
class GivesLists(Good):
    def align(self, fixed, moving):
        return super().align(fixed, moving).tolist()


@dataclass
class Shears(Good):
    def align(self, fixed, moving):
        return super().align(fixed, moving) + np.eye(4, k=1) * 0.2


@dataclass
class Truncates(Good):
    def align(self, fixed, moving):
        return super().align(fixed, moving)[:3]


@dataclass
class Inverts(Good):
    def align(self, fixed, moving):
        return np.linalg.inv(super().align(fixed, moving))


@dataclass
class Smooths(Good):
    def align(self, fixed, moving):
        moving.array[...] *= 0.5
        return super().align(fixed, moving)


@dataclass
class Draws(Good):
    def align(self, fixed, moving):
        found = super().align(fixed, moving)
        found[0, 3] += 0.01 * np.random.rand()
        return found


@dataclass
class BadDefault(Good):
    error: float = "none"  # type: ignore[assignment]


def test_a_good_one_keeps_the_contract() -> None:
    check_registration(Good)
    check_registration(lambda: Good(error=1.0))


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (BadDefault, "options"),
        (GivesLists, "transform"),
        (Shears, "transform"),
        (Truncates, "transform"),
        (Inverts, "direction"),
        (Smooths, "input"),
        (Draws, "determinism"),
    ],
)
def test_each_rule_catches_who_breaks_it(kind, rule: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_registration(kind)
    assert caught.value.rule == rule


def test_the_registration_that_comes_with_cgckit_keeps_the_contract() -> None:
    pytest.importorskip("SimpleITK", reason="SimpleITK is not in this environment")
    check_registration(RigidRegistration)
