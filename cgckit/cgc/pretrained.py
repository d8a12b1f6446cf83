"""The starting network as a prior: a network that was trained on simulated lesions alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.priors.base import Prior
from cgckit.starting import shipped_hash, starting_log_odds


@dataclass
class PretrainedPrior(Prior):
    """What the starting network says: it was trained on simulated lesions alone, and has seen no scan.

    The probability is `sigmoid(log-odds)` on a 2 mm grid, interpolated. It takes any of FLAIR, T1, T1ce and T2; cores
    are part of what it calls lesion. Its borders are blunt, and it calls some bright normal tissue lesion: where
    lesions stand out, `gmm` is better. Beside a weak prior it is a second opinion, as in `aucseg+pretrained`. It is not
    made for CT, nor for many small lesions.
    """

    summary: ClassVar[str] = "a network that was trained on simulated lesions alone"
    needs: ClassVar[tuple[str, ...]] = ("flair", "t1", "t1ce", "t2")
    cost: ClassVar[str] = "seconds a subject"

    def predict(self, case: Case) -> Tensor:
        """Return the network's probability of lesion, [H, W, L] float32 in [0, 1]."""
        return starting_log_odds(case).sigmoid() * case.brain

    def fingerprint(self, subject: Subject) -> str:
        """Hash of the weights."""
        return shipped_hash()
