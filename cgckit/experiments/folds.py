"""`Fold`: whom an arm is trained on and whom it is scored on; `Unit`: what an experiment does at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cgckit.errors import UsageError
from cgckit.experiments.arms import Arm
from cgckit.images.cohort import Cohort, Subject


@dataclass(frozen=True)
class Fold:
    """Subjects to train on and subjects to score; `index` is None where these are the same."""

    index: int | None
    train: tuple[Subject, ...]
    test: tuple[Subject, ...]


@dataclass(frozen=True)
class Unit:
    """One arm in one fold with one seed."""

    arm: Arm
    fold: Fold
    seed: int

    def __str__(self) -> str:
        where = "" if self.fold.index is None else f", fold {self.fold.index + 1}"
        return f"{self.arm.name}{where}, seed {self.seed}"


def whole(cohort: Cohort) -> list[Fold]:
    """The one fold of `refine`: trained on all scans, without labels, and scored on the same."""
    return [Fold(None, cohort.subjects, cohort.subjects)]


def held_out(cohort: Cohort, count: int) -> list[Fold]:
    """`count` folds of persons, or one for each person of a smaller cohort: nobody is trained on and scored.

    The partition is random and the same for every arm and seed, so that their scores are paired. All sessions of a
    person are in one fold.

    Raises:
        UsageError: fewer than two folds, or than two persons.
    """
    persons = list(dict.fromkeys(subject.person for subject in cohort))
    count = min(count, len(persons))
    if count < 2:
        raise UsageError(f"--folds: cross-validation needs two folds and two persons or more, not {count}")
    parts = np.array_split(np.random.default_rng(0).permutation(len(persons)), count)
    folds = []
    for index, part in enumerate(parts):
        test = {persons[int(i)] for i in part}
        folds.append(
            Fold(
                index,
                train=tuple(subject for subject in cohort if subject.person not in test),
                test=tuple(subject for subject in cohort if subject.person in test),
            )
        )
    return folds
