"""`score`: the values of all metrics for a mask and its reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy.typing as npt

from cgckit.errors import PluginError
from cgckit.evaluation import metrics as built_in
from cgckit.evaluation.metric import Metric
from cgckit.evaluation.pair import Pair
from cgckit.plugins.specification import describe_error

Scores = Mapping[str, float]
"""The value of each metric, by its name."""

Metrics = Mapping[str, Metric]
"""Metrics by the names under which their values are kept."""

BUILT_IN = ("dice", "sensitivity", "precision", "assd", "hd95", "lesion_f1", "volume_ml", "reference_ml")
"""Names of the built-in metrics, in the order of tables."""


def choose_metrics(names: Sequence[str] | None = None) -> dict[str, Metric]:
    return {
        "dice": built_in.Dice(),
        "sensitivity": built_in.Sensitivity(),
        "precision": built_in.Precision(),
        "assd": built_in.Assd(),
        "hd95": built_in.Hd95(),
        "lesion_f1": built_in.LesionF1(),
        "volume_ml": built_in.PredictedVolume(),
        "reference_ml": built_in.ReferenceVolume(),
    }


def score(
    prediction: npt.ArrayLike, reference: npt.ArrayLike, spacing: Sequence[float], metrics: Metrics
) -> dict[str, float]:
    """Compare two masks on one grid.

    Args:
        prediction: bool [H, W, L].
        reference: bool [H, W, L].
        spacing: voxel edge lengths in mm.
        metrics: what to compute.

    Raises:
        ValueError: the shapes differ or are not three-dimensional, or there are not three spacings.
        PluginError: a metric raised, or gave no number.
    """
    pair = Pair.of(prediction, reference, spacing)
    scores = {}
    for name, metric in metrics.items():
        try:
            scores[name] = metric.value(pair)
        except Exception as error:
            raise PluginError(f"metric {name} failed: {describe_error(error)}") from error
    return scores
