"""Writing what a model finds in a scan, and comparing it with the prior that went in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cgckit.arrays import BoolArray
from cgckit.cgc.model import Model
from cgckit.cgc.parts import parts_gone
from cgckit.derivatives import Derivatives
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.pipeline.engine import Engine
from cgckit.pipeline.prior_maps import PriorMap

_WORTH_A_REMARK_ML = 0.1


@dataclass(frozen=True)
class Refined:
    """A refined mask on the input's own grid, bool [H, W, L], and the volume of a voxel in ml."""

    mask: BoolArray
    voxel_ml: float

    @property
    def volume_ml(self) -> float:
        """Lesion volume in ml, to three digits."""
        return round(int(self.mask.sum()) * self.voxel_ml, 3)

    def compare(self, prior: BoolArray) -> dict[str, Any]:
        """What became of a prior's mask [H, W, L]: figures and remarks of `SubjectResult`."""
        overlap, both = int((prior & self.mask).sum()), int(prior.sum()) + int(self.mask.sum())
        return {
            "prior_ml": round(int(prior.sum()) * self.voxel_ml, 3),
            "refined_ml": self.volume_ml,
            "changed_ml": round(int((prior != self.mask).sum()) * self.voxel_ml, 3),
            "dice_prior_refined": round(2 * overlap / both, 4) if both else 1.0,
            "remarks": self._dropped(prior),
        }

    def _dropped(self, prior: BoolArray) -> list[str]:
        """A remark on the parts of the prior's mask that refinement dropped as a whole; specks are not worth one."""
        gone = [voxels for voxels in parts_gone(prior, self.mask) if voxels * self.voxel_ml >= _WORTH_A_REMARK_ML]
        if not gone:
            return []
        noun = "part" if len(gone) == 1 else "parts"
        return [f"{len(gone)} {noun} of the prior dropped, {sum(gone) * self.voxel_ml:.1f} ml"]


def write_refined(
    out: Derivatives, engine: Engine, model: Model, subject: Subject, case: Case, prior: PriorMap | None = None
) -> Refined:
    """Segment one subject and write its probability and its mask (probability of 0.5 or more).

    With the setting `uncertainty_views` its uncertainty is written too; without, what an earlier call left is removed.
    """
    probability = engine.segment(model, case, prior)
    mask = probability >= 0.5
    out.write_probability(subject.label, probability, subject.frame)
    out.write_mask(subject.label, mask, subject.frame)
    if model.settings.uncertainty_views:
        out.write_uncertainty(subject.label, engine.uncertainty(model, case, prior), subject.frame)
    else:
        out.remove(out.refined_uncertainty(subject.label))
    return Refined(mask, float(np.prod(case.native.spacing)) / 1000)
