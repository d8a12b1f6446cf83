"""`Ratings`: what somebody thought of each subject of a run, and whom that excludes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cgckit.errors import BadInputError
from cgckit.images.layouts.labels import split_label
from cgckit.sealed import read_lines

logger = logging.getLogger(__name__)

WORDS = ("good", "doubtful", "bad")
EXCLUDED = "bad"
_NOTHING = ("", "n/a")


@dataclass(frozen=True)
class Ratings:
    """Whom a table excludes, and why.

    Attributes:
        path: the table.
        excluded: a reason for each name that it excludes: `sub-01`, or the name in the input.
        names: every name in it, by the row that it stands in.
    """

    path: Path
    excluded: dict[str, str]
    names: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, path: str | Path) -> Ratings:
        """Read tab-separated values, as the report of a run exports them.

        A row names a subject in `participant_id` (`sub-01`, or `sub-01_ses-a` for one session alone), `source` (its
        name in the input) or both. With a column `rating`, who is `bad` is excluded, and nobody else; without one,
        everybody in the table. `note` is the reason.

        Raises:
            BadInputError: no such table, none of the columns that name a subject, or another word for a rating, or a
                subject that is there twice.
        """
        path = Path(path)
        try:
            lines = read_lines(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise BadInputError(f"{path}: the table of --exclude cannot be read ({reason})") from error
        head, *rows = (line.split("\t") for line in lines)
        if not {"participant_id", "source"} & set(head):
            raise BadInputError(
                f"{path}: the table of --exclude needs a column participant_id or source, as in ratings.tsv"
            )
        excluded: dict[str, str] = {}
        names: list[tuple[str, ...]] = []
        for number, row in enumerate(rows, start=2):
            cells = {column: text.strip() for column, text in zip(head, row, strict=False)}
            own = tuple(
                text for column in ("participant_id", "source") if (text := cells.get(column, "")) not in _NOTHING
            )
            rating = cells.get("rating", EXCLUDED if "rating" not in head else "").lower()
            if rating not in (*WORDS, *_NOTHING):
                raise BadInputError(
                    f"{path}, line {number}: the rating is {rating!r}; choose {', '.join(WORDS)} or n/a"
                )
            if twice := [name for name in own if any(name in other for other in names)]:
                raise BadInputError(f"{path}, line {number}: {twice[0]} is there twice; leave one of the two rows")
            names += [own] * bool(own)
            if rating == EXCLUDED:
                note = cells.get("note", "")
                excluded |= dict.fromkeys(own, EXCLUDED if note in _NOTHING else f"{EXCLUDED}: {note}")
        return cls(path, excluded, tuple(names))

    def of(self, source: str, label: str | None) -> str | None:
        """Why a subject is excluded; None if it is not.

        Args:
            source: its name in the input.
            label: what outputs of it are called, without `sub-`; None if there are none.
        """
        return next((self.excluded[name] for name in _names(source, label) if name in self.excluded), None)

    def apply(self, subjects: Iterable[tuple[str, str | None]]) -> dict[str, str]:
        """Why subjects are excluded, by their name in the input; the log names them, and names that nobody has.

        Args:
            subjects: name in the input and label of each.

        Raises:
            BadInputError: nobody is left.
        """
        known = list(subjects)
        out = {source: reason for source, label in known if (reason := self.of(source, label)) is not None}
        if known and len(out) == len(known):
            raise BadInputError(f"{self.path}: excludes every subject, {len(out)} of {len(known)}; nobody is left")
        if out:
            logger.info("excluded by %s: %s", self.path, ", ".join(f"{name} ({why})" for name, why in out.items()))
        there = {name for source, label in known for name in _names(source, label)}
        if unknown := [names[-1] for names in self.names if not there.intersection(names)]:
            logger.warning("%s: no subject here is called %s", self.path, ", ".join(unknown))
        return out


def _names(source: str, label: str | None) -> tuple[str, ...]:
    """What a table may call a subject: the session, its name in the input, the person."""
    return f"sub-{label}", source, f"sub-{split_label(label or '')[0]}"
