"""`Told`: a `series.tsv` that the user corrected, which decides instead of the rules."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cgckit.dicom.choice import Candidate
from cgckit.dicom.weighting import WEIGHTINGS, Finding
from cgckit.errors import BadInputError

_KEY = ("participant_id", "session_id", "series", "part")
_COLUMNS = {*_KEY, "shows", "taken"}


@dataclass(frozen=True)
class Told:
    """What a table says: of each series by person, study, number and part, what it shows and whether it is taken."""

    path: Path
    rows: dict[tuple[str, ...], tuple[str, bool]]

    @classmethod
    def read(cls, path: Path) -> Told:
        """Read a table.

        Raises:
            BadInputError: it cannot be read, has not the columns of `series.tsv`, takes what is no weighting, or two
                images of one weighting of a study.
        """
        try:
            table = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")), delimiter="\t"))
        except (OSError, ValueError, csv.Error) as error:
            raise BadInputError(f"{path}: cannot be read as a table of tab-separated values") from error
        rows: dict[tuple[str, ...], tuple[str, bool]] = {}
        taken: set[tuple[str, str, str]] = set()
        for number, row in enumerate(table, 2):
            if not row.keys() >= _COLUMNS or any(row[name] is None for name in _COLUMNS):
                raise BadInputError(f"{path}, line {number}: the columns of a series.tsv are expected")
            cells = {name: row[name].strip() for name in _COLUMNS}
            if cells["taken"] not in ("yes", "no"):
                raise BadInputError(f"{path}, line {number}: taken is {cells['taken']!r}; write yes or no")
            if cells["taken"] == "yes":
                if cells["shows"] not in WEIGHTINGS:
                    raise BadInputError(f"{path}, line {number}: shows is none of {', '.join(WEIGHTINGS)}")
                place = (cells["participant_id"], cells["session_id"], cells["shows"])
                if place in taken:
                    raise BadInputError(f"{path}, line {number}: a second {cells['shows']} of {' '.join(place[:2])}")
                taken.add(place)
            rows[tuple(cells[name] for name in _KEY)] = cells["shows"], cells["taken"] == "yes"
        return cls(path, rows)

    def apply(self, candidates: Sequence[Candidate]) -> None:
        """Have candidates show what the table says; those that it does not take, or does not name, are left out.

        Raises:
            BadInputError: it names a series that is not there.
        """
        left = dict(self.rows)
        for candidate in candidates:
            row = candidate.row("")
            key = tuple("n/a" if row[name] is None else str(row[name]) for name in _KEY)
            shows, taken = left.pop(key, ("", False))
            if taken and shows != candidate.finding.name:
                candidate.finding = Finding(shows, "said by --series", candidate.finding.enhanced)
            candidate.told = "" if taken else "not taken by --series"
        if left:
            who = ", ".join(f"{name} {cell}" for name, cell in zip(_KEY, next(iter(left)), strict=True))
            raise BadInputError(f"{self.path}: there is no {who} among the DICOM files; give the table of this import")
