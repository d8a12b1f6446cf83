"""`References`: the masks that an experiment scores against, and that its supervised arm is trained on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cgckit.arrays import BoolArray, FloatArray
from cgckit.errors import BadInputError
from cgckit.evaluation.compare import read_reference
from cgckit.evaluation.pairing import Predicted, find_reference
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort
from cgckit.images.grid import Grid, resample


@dataclass(frozen=True)
class References:
    """A reference file for each subject, by its label, and the values in it that are lesion (none: all above 0)."""

    files: Mapping[str, Path]
    labels: tuple[int, ...]

    @classmethod
    def find(cls, cohort: Cohort, references: str | Path, labels: Sequence[int] = ()) -> References:
        """Find them as `cgckit.evaluate` does.

        Raises:
            BadInputError: a subject has none, or several.
        """
        files = {}
        for subject in cohort:
            wanted = Predicted(subject.source, subject.label, {})
            found = find_reference(references, wanted, alone=len(cohort) == 1)
            if found is None:
                raise BadInputError(f"{references}: no reference of {subject.source}; every subject needs one")
            files[subject.label] = found
        return cls(files, tuple(labels))

    def read(self, case: Case) -> tuple[BoolArray, Grid]:
        """The reference of a case, bool [H, W, L] on the grid of its files, and that grid.

        Raises:
            BadInputError: it cannot be read, or is on another grid than the images.
        """
        mask, volume = read_reference(self.files[case.subject], self.labels)
        if not volume.grid.matches(case.native):
            raise BadInputError(f"{volume.path}: not on the grid of the images of {case.source}; resample it to them")
        return mask, volume.grid

    def target(self, case: Case) -> Tensor:
        """The reference on the case's own grid, [H, W, L] float32 in [0, 1]: what supervised training aims at."""
        mask, grid = self.read(case)
        return torch.from_numpy(resample(mask.astype(np.float32), grid, case.grid)) * case.brain

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of each file, by subject."""
        return {label: hashlib.sha256(path.read_bytes()).hexdigest() for label, path in self.files.items()}


def best_threshold(probability: FloatArray, reference: BoolArray) -> float:
    """The threshold in .01, .02, ... 1 at which a probability map has the best Dice with its reference: an oracle.

    Infinite, which calls nothing lesion, where there is none.

    Args:
        probability: [H, W, L].
        reference: [H, W, L].
    """
    if not reference.any():
        return math.inf
    thresholds = np.arange(1, 101) / 100
    exceeded = np.searchsorted(thresholds, probability, side="right")  # how many of them each voxel reaches

    def reaching(where: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        return np.cumsum(np.bincount(where.ravel(), minlength=101)[::-1])[::-1][1:]

    dice = 2 * reaching(exceeded[reference]) / np.maximum(1, reaching(exceeded) + reference.sum())
    return float(thresholds[dice.argmax()])
