"""`choose_metrics` and `score`: which metrics are asked, and what they say of a mask and its reference."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cgckit.errors import CgckitError, PluginError, UsageError
from cgckit.evaluation.metric import METRICS, Metric, declaration_faults
from cgckit.evaluation.pair import Pair
from cgckit.options import options_of, read_words
from cgckit.plugins import describe_error, split_file

logger = logging.getLogger(__name__)

Scores = Mapping[str, float]
"""The value of each metric, by its name."""
Metrics = Mapping[str, Metric]
"""Metrics by the names under which their values are kept."""

BUILT_IN = ("dice", "sensitivity", "precision", "assd", "hd95", "lesion_f1", "volume_ml", "reference_ml")
"""Names of the built-in metrics, in the order of tables."""
_COLUMNS = ("subject", "map", "prediction", "reference")
"""What else a row of scores has in files, where no metric can have the same name."""


def choose_metrics(
    metrics: str | Sequence[str] | Metrics | None = None, options: Sequence[str] | Mapping[str, object] = ()
) -> dict[str, Metric]:
    """Make the metrics that are asked for.

    Args:
        metrics: registered names, or `FILE.py:Class`; metrics by any names; or nothing, for all that are registered,
            the built-in ones first: one that cannot be used is then named in the log and left out.
        options: `KEY=VALUE`, or a mapping, for those that are given by name; `NAME.KEY` where several have the option.

    Raises:
        UsageError: an unknown metric, a name that no column can have, an unknown option or a bad value.
        PluginError: a metric that was asked for cannot be imported, or is none.
    """
    metrics = metrics or None
    if isinstance(metrics, Mapping):
        for name in metrics:
            _check_name(name)
        return dict(metrics)
    kinds = _named([metrics] if isinstance(metrics, str) else metrics) if metrics else _usable()
    shares = _share_options(kinds, read_words(options, "metric option"))
    chosen = {}
    for name, kind in kinds.items():
        try:
            chosen[name] = _make(kind, name, shares[name])
        except CgckitError as error:
            if metrics or shares[name]:
                raise
            logger.warning("%s: left out", error)
    return chosen


def score(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    spacing: Sequence[float],
    metrics: Metrics,
    *,
    forgiving: bool = False,
) -> dict[str, float]:
    """Compare two masks on one grid.

    Args:
        prediction: bool [H, W, L].
        reference: bool [H, W, L].
        spacing: voxel edge lengths in mm.
        metrics: what to compute.
        forgiving: a metric that nobody asked for by name has no value (NaN) where it fails, and the log says so.

    Raises:
        ValueError: the shapes differ or are not three-dimensional, or there are not three spacings.
        PluginError: a metric failed, or gave no number, and is not forgiven.
    """
    pair = Pair.of(prediction, reference, spacing)
    before = pair.prediction.copy(), pair.reference.copy()
    scores = {}
    for name, metric in metrics.items():
        try:
            scores[name] = metric.value(pair)
            # They cannot be written to, but there are ways around that.
            if not (np.array_equal(before[0], pair.prediction) and np.array_equal(before[1], pair.reference)):
                pair = Pair.of(*before, spacing)
                raise ValueError("it changed the masks")
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            logger.debug("the metric's own error", exc_info=error)
            if not forgiving:
                raise PluginError(f"metric {name} failed: {describe_error(error)}") from error
            logger.warning("metric %s failed: %s; it has no value here", name, describe_error(error))
            scores[name] = math.nan
    return scores


def _usable() -> dict[str, type[Metric]]:
    """All registered metrics that can be used, the built-in ones first."""
    kinds = {}
    installed = METRICS.installed()
    for name in sorted(installed, key=lambda name: BUILT_IN.index(name) if name in BUILT_IN else len(BUILT_IN)):
        try:
            _check_name(name)
            kinds[name] = installed[name].load()
        except CgckitError as error:
            logger.warning("%s: left out", error)
    return kinds


def _named(names: Sequence[str]) -> dict[str, type[Metric]]:
    kinds: dict[str, type[Metric]] = {}
    for words in names:
        name = words if split_file(words) is None else words.rpartition(":")[2]
        _check_name(name)
        kind = METRICS.load(words)
        if kinds.setdefault(name, kind) is not kind:
            raise UsageError(f"two metrics are called {name}: from Python, `metrics` takes them by other names")
    return kinds


def _make(kind: type[Metric], name: str, options: Mapping[str, object]) -> Metric:
    """Make a metric; PluginError if tables could not show it."""
    metric = METRICS.make(kind, name, options)
    if faults := declaration_faults(metric):
        raise PluginError(f"metric {name}: {'; '.join(faults)}")
    return metric


def _check_name(name: str) -> None:
    if name in _COLUMNS:
        raise UsageError(f"no metric can be called {name}: tables of scores have such a column")


def _share_options(kinds: Mapping[str, type[Metric]], options: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Give each option to the metric that it is meant for."""
    shares: dict[str, dict[str, object]] = {name: {} for name in kinds}
    for key, value in options.items():
        address, dot, field = key.rpartition(".")
        takers = [address] if dot else [name for name in kinds if field in (o.name for o in options_of(kinds[name]))]
        if len(takers) != 1 or takers[0] not in kinds:
            raise UsageError(f"metric option {key}: write NAME.KEY=VALUE, with NAME one of {', '.join(kinds)}")
        shares[takers[0]][field] = value
    return shares
