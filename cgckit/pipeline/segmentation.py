"""Applying a trained model to scans and writing what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from cgckit.arrays import BoolArray
from cgckit.cgc.inference import segment, uncertainty
from cgckit.cgc.model_files import TrainedModel
from cgckit.derivatives import Derivatives
from cgckit.errors import UsageError
from cgckit.images.case import Case, to_native
from cgckit.images.cohort import Cohort, Subject
from cgckit.pipeline.headers import check_headers


@dataclass(frozen=True)
class Refined:
    """A refined mask on the input's own grid, bool [H, W, L], and the volume of a voxel in ml."""

    mask: BoolArray
    voxel_ml: float

    @property
    def volume_ml(self) -> float:
        """Lesion volume in ml."""
        return int(self.mask.sum()) * self.voxel_ml


def find_cohort(
    inputs: Cohort | str | Path | Sequence[str | Path], modalities: Sequence[str] | None, allow_missing: bool
) -> Cohort:
    """Take a cohort as it is, and find one in anything else; either way its headers are checked."""
    cohort = inputs if isinstance(inputs, Cohort) else Cohort.find(inputs, modalities, allow_missing)
    check_headers(cohort)
    return cohort


def write_refined(
    out: Derivatives, model: TrainedModel, subject: Subject, case: Case, prior: Tensor | None = None
) -> Refined:
    """Segment one subject, see `segment`, and write its probability and its mask (probability of 0.5 or more).

    With the model's setting `uncertainty_views`, its `uncertainty` is written too.
    """
    if case.native is None:
        raise UsageError(f"{case.subject} was made in memory: it has no native grid to be written on")
    reference = next(iter(subject.files.values()))
    probability = to_native(segment(model, case, prior).numpy(), case)
    mask = probability >= 0.5
    out.write_probability(subject.label, probability, reference)
    out.write_mask(subject.label, mask, reference)
    if model.settings.uncertainty_views:
        out.write_uncertainty(subject.label, to_native(uncertainty(model, case, prior).numpy(), case), reference)
    return Refined(mask, float(np.prod(case.native.spacing)) / 1000)
