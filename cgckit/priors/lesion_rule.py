"""`LesionRule`: how the built-in priors that measure lesion evidence choose the lesion."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from cgckit.arrays import FloatArray
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.lesion_evidence.blocks import Blocks
from cgckit.lesion_evidence.choice import Candidate, choose_lesion
from cgckit.lesion_evidence.cores import with_cores
from cgckit.lesion_evidence.evidence import BRIGHT, is_ct, lesion_evidence
from cgckit.lesion_evidence.regions import Landscape, Selection
from cgckit.options import SHARE, Range
from cgckit.priors.base import Prediction, Prior
from cgckit.starting import shipped_hash, starting_log_odds

_RIND_MM = 5.0


@dataclass
class LesionRule(Prior, ABC):
    """A prior that measures lesion evidence and takes the lesion with the steepest border (`cgckit.lesion_evidence`).

    Attributes:
        asymmetry: weight of the left-right difference; 0 switches it off.
        floor: lesion begins at least this many MADs above the brain's median.
        min_component: connected parts with less than this share of the largest part's mass are dropped; .3 of it is
            enough for those that the witness calls lesion.
        min_edge: connected parts whose border has less than this share of the mean slope are dropped.
        witness: ask the starting network, too, what is lesion; it is not asked about CT, which it was not trained for.
    """

    needs: ClassVar[tuple[str, ...]] = BRIGHT

    asymmetry: Annotated[float, Range(0, 1000)] = 0.5
    floor: Annotated[float, Range(-1000, 1000)] = 1.5
    min_component: Annotated[float, SHARE] = 0.1
    min_edge: Annotated[float, SHARE] = 0.6
    witness: bool = True

    def evidence(self, case: Case, smoothing: float = 0.0) -> FloatArray:
        """The lesion evidence of a case, [H, W, L] in MADs, its main channel smoothed by so many mm."""
        return lesion_evidence(case, smoothing=smoothing, asymmetry_weight=self.asymmetry)

    def fingerprint(self, subject: Subject) -> str:
        """Hash of the starting network's weights, if it is asked."""
        return shipped_hash() if self.witness else ""

    def choose(
        self, case: Case, evidence: FloatArray, blocks: Blocks, candidates: Iterable[Candidate], *, steady: bool = False
    ) -> tuple[Candidate, Selection] | None:
        """The best of the candidates, see `choose_lesion`; None if nothing looks like a lesion.

        What is bright within 5 mm of the surface alone is fat, an eye or bone that was not stripped; on CT it is blood.

        Args:
            case: the subject.
            evidence: [h, w, l], one value a block.
            blocks: the brain, cut into blocks.
            candidates: regions of blocks.
            steady: see `choose_lesion`.
        """
        tried = list(candidates)
        if not tried:
            return None
        witness = None
        if self.witness and not is_ct(case):
            witness = (blocks.mean(starting_log_odds(case).numpy()) >= 0) & blocks.brain
        return choose_lesion(
            Landscape.of(evidence, blocks.brain, blocks.spacing, witness),
            tried,
            floor=self.floor,
            min_component=self.min_component,
            min_edge=self.min_edge,
            min_depth=0.0 if is_ct(case) else _RIND_MM,
            steady=steady,
        )

    def finish(self, case: Case, probability: FloatArray, note: str) -> Prediction:
        """The lesion map [H, W, L] of a case, its cores added (`cgckit.lesion_evidence.cores`), with a note."""
        return Prediction(with_cores(torch.from_numpy(probability), case), note)

    def nothing(self, case: Case) -> Prediction:
        """What is said of a case in which nothing looks like a lesion."""
        note = f"nothing stands out {self.floor:g} MAD or more above the median: the map is empty"
        return Prediction(torch.zeros(case.brain.shape), note)
