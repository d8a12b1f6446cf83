"""`Summary`: what a run left on disk about itself, read for a report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgckit.derivatives import Derivatives, label_of
from cgckit.errors import BadInputError
from cgckit.ledger import Ledger
from cgckit.sealed import DamagedError, read_json

_ABSENT = ("", "n/a")
_IDENTIFIER = re.compile(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?")
_WARNING, _LEFT_OUT = "warning: ", "left out: "


@dataclass(frozen=True)
class Summary:
    """A complete run: its folder, its `run.json`, and a row of `summary.tsv` for each subject.

    Attributes:
        results: the folder.
        record: the content of `run.json`.
        rows: cells by column.
    """

    results: Derivatives
    record: Mapping[str, Any]
    rows: Sequence[Mapping[str, str]]

    @classmethod
    def read(cls, folder: Path) -> Summary:
        """Read the output folder of `refine`, `predict` or `prior`.

        Raises:
            BadInputError: the folder holds no complete run, or one of its files is damaged.
        """
        results, ledger = Derivatives(folder), Ledger(folder)
        record = _read_record(folder / "run.json")
        if record.get("status") != "complete":
            raise BadInputError(f"{folder}: holds no complete run of cgckit; let the run finish first")
        table = folder / "summary.tsv"
        if table in ledger and not ledger.is_whole(table):
            raise BadInputError(f"{table}: is not as the run wrote it; the command of the run writes it again")
        rows = results.read_table(table.name)
        if not rows or not {"participant_id", "source"} <= rows[0].keys():
            raise BadInputError(f"{table}: the columns participant_id and source are expected")
        # Pages, and rows of ratings, are called by person and session.
        rows = [{**row, "participant_id": f"sub-{label_of(row)}"} for row in rows]
        for row in rows:
            if not _IDENTIFIER.fullmatch(row["participant_id"]):
                raise BadInputError(f"{table}: {row['participant_id']!r} is no participant_id of cgckit")
        return cls(results, record, rows)

    @property
    def key(self) -> str:
        """What tells the maps of this run from those of any other."""
        return f"{self.record.get('key', '')}:{self.record.get('maps_key', '')}"


def cell(row: Mapping[str, str], column: str) -> str:
    """What a row says in a column; empty where it says nothing."""
    text = row.get(column, "")
    return "" if text in _ABSENT else text


def number(row: Mapping[str, str], column: str) -> float | None:
    """The number in a column, if there is one."""
    try:
        value = float(cell(row, column))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def remarks(row: Mapping[str, str]) -> list[str]:
    """What is worth a look in a subject, warnings first."""
    excluded = f"prior excluded: {cell(row, 'degenerate')}" if cell(row, "degenerate") else ""
    found = [text for text in [excluded, *row.get("remarks", "").split("; ")] if text not in _ABSENT]
    return sorted(found, key=lambda text: not is_warning(text))


def is_warning(remark: str) -> bool:
    """Whether a remark says that something went wrong, rather than that something is unusual."""
    return remark.startswith((_WARNING, _LEFT_OUT))


def is_left_out(row: Mapping[str, str]) -> bool:
    """Whether a run could not use a subject, as its remark says."""
    return row.get("remarks", "").startswith(_LEFT_OUT)


def _read_record(path: Path) -> dict[str, Any]:
    """What a run was made of; nothing if there is no run."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return {}
    except DamagedError as error:
        raise BadInputError(f"{path}: is damaged ({error}); the command of the run writes it again") from error
