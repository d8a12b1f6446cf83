"""The built-in metrics: overlap, surface distances, lesions found and volumes of a prediction P and a reference R."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cgckit.evaluation.metric import Metric
from cgckit.evaluation.pair import Pair


@dataclass
class Dice(Metric):
    """Overlap of both masks: 2 |P and R| / (|P| + |R|)."""

    title = "Dice"
    symmetric = True

    def measure(self, pair: Pair) -> float:
        """In [0, 1]."""
        return 2 * pair.common_voxels / (pair.predicted_voxels + pair.reference_voxels)


@dataclass
class Sensitivity(Metric):
    """Share of the reference that was found, also called recall: |P and R| / |R|."""

    title = "sens."

    def measure(self, pair: Pair) -> float:
        """In [0, 1]."""
        return pair.common_voxels / pair.reference_voxels


@dataclass
class Precision(Metric):
    """Share of the prediction that is right: |P and R| / |P|."""

    title = "prec."

    def measure(self, pair: Pair) -> float:
        """In [0, 1]."""
        return pair.common_voxels / pair.predicted_voxels


@dataclass
class Assd(Metric):
    """Average symmetric surface distance in mm, pooled over both surfaces.

    The mean, over the voxels of both surfaces together, of the distance to the other surface: the definition of MONAI
    and MedPy; others average two directed means.
    """

    title = "ASSD"
    note = "pooled"
    unit = "mm"
    direction = "lower"
    decimals = 2
    symmetric = True
    both_empty, one_empty = 0.0, math.inf

    def measure(self, pair: Pair) -> float:
        """In mm."""
        return float(np.concatenate(pair.surface_distances).mean())


@dataclass
class Hd95(Metric):
    """Hausdorff distance in mm without its tail: the larger of the two directed 95th percentiles."""

    title = "HD95"
    unit = "mm"
    direction = "lower"
    decimals = 1
    symmetric = True
    both_empty, one_empty = 0.0, math.inf

    def measure(self, pair: Pair) -> float:
        """In mm."""
        return float(max(np.percentile(distances, 95) for distances in pair.surface_distances))


@dataclass
class LesionF1(Metric):
    """F1 score over lesions, which are connected parts under the 26-neighbourhood: 2 s p / (s + p).

    A lesion of R is found if it shares a voxel with P, and a part of P is right if it shares one with R: s is the share
    of R's lesions that are found, p the share of P's parts that are right.
    """

    title = "F1"
    note = "by lesion"
    decimals = 2
    symmetric = True

    def measure(self, pair: Pair) -> float:
        """In [0, 1]."""
        found = float(pair.reference_parts.touched(pair.prediction).sum()) / pair.reference_parts.count
        right = float(pair.predicted_parts.touched(pair.reference).sum()) / pair.predicted_parts.count
        return 2 * found * right / (found + right) if found + right else 0.0


@dataclass
class PredictedVolume(Metric):
    """Volume of P."""

    title = "ml"
    unit = "ml"
    direction = "neither"
    decimals = 1
    both_empty, one_empty = None, None

    def measure(self, pair: Pair) -> float:
        """In ml."""
        return pair.predicted_voxels * pair.voxel_ml


@dataclass
class ReferenceVolume(Metric):
    """Volume of R."""

    title = "ref. ml"
    unit = "ml"
    direction = "neither"
    decimals = 1
    both_empty, one_empty = None, None

    def measure(self, pair: Pair) -> float:
        """In ml."""
        return pair.reference_voxels * pair.voxel_ml
