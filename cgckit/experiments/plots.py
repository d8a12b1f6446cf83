"""Figures of an ablation, from the rows of its table alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cgckit.experiments.arms import GROUPS, SUPERVISED
from cgckit.experiments.table import ArmRow
from cgckit.report.figure import save_figure

_TITLES = {"paths": "What each path adds", "patches": "Patch size", "temperatures": "Temperature"}
_MEASURED, _PAPER, _BOUND, _SUBJECT = "#0b5394", "#c55a11", "#7f7f7f", "#9fc5e8"


def draw_ablation(rows: Sequence[ArmRow], path: str | Path) -> None:
    """Draw Dice and ASSD of each arm: the subjects, their mean, and the paper's figure if it has one.

    A column for each part of the paper's tables that has an arm. The supervised bound, which uses labels, is a dashed
    line and no arm.

    Raises:
        BadInputError: the file cannot be written.
    """
    save_figure(make_figure(rows), path)


def make_figure(rows: Sequence[ArmRow]) -> Figure:
    """Draw the figure of `draw_ablation`."""
    by_name = {row.arm: row for row in rows}
    grouped = {group: [by_name[name] for name in GROUPS[group] if name in by_name] for group in _TITLES}
    drawn = {group: found for group, found in grouped.items() if found}
    widths = [len(found) + 1 for found in drawn.values()]
    figure = Figure(figsize=(1.0 + 0.8 * sum(widths), 6.5), layout=ConstrainedLayoutEngine())
    axes = figure.subplots(2, len(drawn), squeeze=False, sharey="row", width_ratios=widths)
    for column, (group, found) in enumerate(drawn.items()):
        for row, metric in enumerate(("dice", "assd")):
            _draw(axes[row, column], found, metric, by_name.get(SUPERVISED))
        axes[0, column].set_title(_TITLES[group], fontsize=10)
    axes[0, 0].set_ylabel("Dice")
    axes[1, 0].set_ylabel("ASSD [mm], finite ones")
    axes[0, -1].legend(fontsize=8, loc="best")
    return figure


def _draw(axis: Axes, rows: Sequence[ArmRow], metric: str, bound: ArmRow | None) -> None:
    places = np.arange(len(rows))
    for place, row in zip(places, rows, strict=True):
        values = [scores.get(metric, np.nan) for scores in row.subjects.values()]
        finite = [value for value in values if np.isfinite(value)]
        label = "subject" if place == 0 else None
        axis.plot([place] * len(finite), finite, "o", color=_SUBJECT, markersize=4, label=label)
    axis.plot(
        places, [row.output.mean.get(metric, np.nan) for row in rows], "-D", color=_MEASURED, markersize=5, label="mean"
    )
    published = [np.nan if row.published is None else getattr(row.published, metric) for row in rows]
    if np.isfinite(published).any():
        axis.plot(places, published, ":s", color=_PAPER, markerfacecolor="none", label="paper, its own data")
    if bound is not None:
        axis.axhline(
            bound.output.mean.get(metric, np.nan), color=_BOUND, linestyle="--", linewidth=1, label="supervised bound"
        )
    names = [row.arm.removeprefix("patch-").removeprefix("temperature-") for row in rows]
    axis.set_xticks(places, names, rotation=30, fontsize=8)
    axis.grid(axis="y", alpha=0.3)
