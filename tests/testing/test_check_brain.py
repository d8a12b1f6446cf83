"""The contract of a brain extractor: a good one passes, and for each rule a deliberately bad one is caught."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from cgckit.errors import BadInputError
from cgckit.images.brain import BrainExtractor, CoarseSearch
from cgckit.testing import ContractError, check_brain


@dataclass
class Good(BrainExtractor):
    """Everything brighter than a threshold."""

    threshold: float = 50.0

    def extract(self, volumes):
        return next(iter(volumes.values())).array > self.threshold


@dataclass
class GivesNumbers(Good):
    def extract(self, volumes):
        return super().extract(volumes).astype(np.uint8)


@dataclass
class Crops(Good):
    def extract(self, volumes):
        return super().extract(volumes)[1:]


@dataclass
class FindsNothing(Good):
    threshold: float = 1e6


@dataclass
class FindsEverything(Good):
    threshold: float = -1e6


@dataclass
class Normalises(Good):
    def extract(self, volumes):
        for volume in volumes.values():
            volume.array[:] /= volume.array.max()
        return next(iter(volumes.values())).array > 0.4


@dataclass
class Draws(Good):
    def extract(self, volumes):
        found = super().extract(volumes)
        return found & (np.random.rand(*found.shape) > 0.1)


@dataclass
class Raises(Good):
    def extract(self, volumes):
        raise BadInputError("no brain here")


class Undecorated(Good):
    radius: float = 1.0


@pytest.mark.parametrize("good", [Good, CoarseSearch, lambda: Good(threshold=60.0)])
def test_a_good_extractor_keeps_every_rule(good):
    check_brain(good)


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (Undecorated, "options"),
        (lambda: object(), "options"),
        (GivesNumbers, "mask"),
        (Crops, "mask"),
        (Raises, "mask"),
        (FindsNothing, "brain"),
        (FindsEverything, "brain"),
        (Normalises, "input"),
        (Draws, "determinism"),
    ],
)
def test_a_bad_extractor_is_caught_by_the_rules_name(bad, rule):
    with pytest.raises(ContractError, match=f"^{rule}: "):
        check_brain(bad)
