"""What the group page shows: a table of all subjects, how their figures are distributed, and who is unusual."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cgckit.report.distribution import Dot, outliers, stacked_dots
from cgckit.report.summary import cell, is_left_out, is_warning, number, remarks

Row = Mapping[str, str]


@dataclass(frozen=True)
class Column:
    """A figure of `summary.tsv`.

    Attributes:
        name: its column.
        title: how it reads.
        digits: how its numbers are written.
        scale: what makes its distribution even: volumes differ by factors.
    """

    name: str
    title: str
    digits: str
    scale: Callable[[float], float] = float

    def text(self, row: Row) -> str:
        """The cell of a row, as it stands if it holds no number."""
        value = number(row, self.name)
        return cell(row, self.name) if value is None else format(value, self.digits)


def _log(volume: float) -> float:
    """Volumes on a scale of factors, on which there is a place for 0 too."""
    return math.log1p(max(0.0, volume))


COLUMNS = (
    Column("prior_ml", "prior [ml]", ".2f", _log),
    Column("refined_ml", "refined [ml]", ".2f", _log),
    Column("changed_ml", "changed [ml]", ".2f", _log),
    Column("dice_prior_refined", "agreement (Dice)", ".3f"),
    Column("dropped_parts", "parts dropped", ".0f"),
    Column("learnt", "learnt by the network", ".0%"),
    Column("undecided_ml", "undecided [ml]", ".2f", _log),
)


@dataclass(frozen=True)
class Distribution:
    """How the numbers of a column are spread: dots, and what the axis says at its ends and middle."""

    column: Column
    dots: Sequence[Dot]
    ticks: Sequence[str]


@dataclass(frozen=True)
class Line:
    """A subject's line in the table.

    Attributes:
        subject: its participant_id.
        source: its name in the input.
        row: its row of `summary.tsv`, with its uncertainty.
        remarks: what is worth a look, warnings first.
        unusual: the columns in which it is an outlier.
        is_left_out: whether the run could not use it.
        picture: whether there is one of it.
    """

    subject: str
    source: str
    row: Row
    remarks: Sequence[str]
    unusual: Sequence[str]
    is_left_out: bool
    picture: bool

    @property
    def warnings(self) -> int:
        """How many of the remarks are warnings."""
        return sum(map(is_warning, self.remarks))


def used_columns(rows: Sequence[Row]) -> list[Column]:
    """The columns that the run has."""
    return [column for column in COLUMNS if any(cell(row, column.name) for row in rows)]


def unusual_subjects(rows: Sequence[Row]) -> dict[str, set[str]]:
    """Who is an outlier, by column."""
    return {column.name: outliers(_scaled(column, rows)) for column in used_columns(rows)}


def distributions(rows: Sequence[Row]) -> list[Distribution]:
    """Of every column in which subjects differ."""
    unusual = unusual_subjects(rows)
    found = []
    for column in used_columns(rows):
        values = _values(column, rows)
        if len(set(values.values())) > 1:
            dots = stacked_dots(_scaled(column, rows), unusual[column.name])
            ordered = sorted(values.values())
            ticks = [format(value, column.digits) for value in (ordered[0], ordered[-1])]
            found.append(Distribution(column, dots, ticks))
    return found


def lines(rows: Sequence[Row], pictured: set[str]) -> list[Line]:
    """The table, in the order of the run."""
    unusual = unusual_subjects(rows)
    return [
        Line(
            subject := row["participant_id"],
            row["source"],
            row,
            remarks(row),
            [column.name for column in used_columns(rows) if subject in unusual[column.name]],
            is_left_out(row),
            subject in pictured,
        )
        for row in rows
    ]


def titles(names: Sequence[str]) -> list[str]:
    """How columns read without their units."""
    return [column.title.split(" [")[0].split(" (")[0] for column in COLUMNS if column.name in names]


def _values(column: Column, rows: Sequence[Row]) -> dict[str, float]:
    found = {row["participant_id"]: number(row, column.name) for row in rows}
    return {subject: value for subject, value in found.items() if value is not None}


def _scaled(column: Column, rows: Sequence[Row]) -> dict[str, float]:
    return {subject: column.scale(value) for subject, value in _values(column, rows).items()}
