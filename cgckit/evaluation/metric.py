"""`Metric`: the one interface between cgckit and a figure that says how good a mask is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, get_args

from cgckit.evaluation.pair import Pair
from cgckit.plugins import Group, Plugin

Direction = Literal["higher", "lower", "neither"]
"""Which values are better."""


class Metric(Plugin, ABC):
    """A figure about a predicted mask and its reference, as Dice or a distance in mm.

    Subclasses are dataclasses: each field is an option with a type and a default. They are registered on the
    entry-point group `cgckit.metrics`; the name that they have there is their column in files. `measure` must be
    deterministic and must not change the masks; `cgckit.testing.check_metric` tests the whole contract.

    Two masks of which one is empty, or both, have the values `one_empty` and `both_empty`, and `measure` is not asked.
    By default these are the ones of an agreement: 0 and 1. A distance has `inf` and 0. None stands for no such rule:
    `measure` then takes empty masks too.

    Example:
        >>> from dataclasses import dataclass
        >>> from cgckit import Metric, Pair
        >>> @dataclass
        ... class Jaccard(Metric):
        ...     title = "Jaccard"
        ...     symmetric = True
        ...
        ...     def measure(self, pair: Pair) -> float:
        ...         common = pair.common_voxels
        ...         return common / (pair.predicted_voxels + pair.reference_voxels - common)
        >>> Jaccard().value(Pair.of([[[1, 1, 0]]], [[[0, 1, 1]]], (1, 1, 1))) == 1 / 3
        True
    """

    title: ClassVar[str] = ""
    """The head of its column in tables to read; by default its name."""

    note: ClassVar[str] = ""
    """What must be known of it, in one or two words below such a table: of several definitions, which one it has."""

    unit: ClassVar[str] = ""
    """`mm`, `ml` or nothing."""

    direction: ClassVar[Direction] = "higher"
    """Which values are better."""

    decimals: ClassVar[int] = 3
    """How many of them a table shows."""

    symmetric: ClassVar[bool] = False
    """Whether it is the same with prediction and reference exchanged."""

    both_empty: ClassVar[float | None] = 1.0
    """The value where neither mask has a voxel."""

    one_empty: ClassVar[float | None] = 0.0
    """The value where one mask has none."""

    @abstractmethod
    def measure(self, pair: Pair) -> float:
        """The value for two masks that are not empty; NaN where it has none, infinite if it is beyond all bounds."""

    def value(self, pair: Pair) -> float:
        """The value for any two masks, by the rule for empty ones or from `measure`."""
        voxels = pair.predicted_voxels, pair.reference_voxels
        rule = None if all(voxels) else self.one_empty if any(voxels) else self.both_empty
        return float(self.measure(pair)) if rule is None else rule


def declaration_faults(metric: Metric) -> list[str]:
    """What is wrong with what a metric declares of itself; nothing, as it should be."""
    faults = [
        f"{name} is {getattr(metric, name)!r}, not text"
        for name in ("title", "note", "unit")
        if not isinstance(getattr(metric, name), str)
    ]
    if metric.direction not in get_args(Direction):
        faults.append(f"direction is {metric.direction!r}, not one of {', '.join(get_args(Direction))}")
    if not isinstance(metric.decimals, int) or metric.decimals < 0:
        faults.append(f"decimals is {metric.decimals!r}, not 0, 1, 2, ...")
    for name in ("both_empty", "one_empty"):
        rule = getattr(metric, name)
        if not isinstance(rule, int | float | None):
            faults.append(f"{name} is {rule!r}, neither a number nor None")
    return faults


METRICS: Group[Metric] = Group(Metric, "cgckit.metrics", "metric")
"""The installed metrics."""
