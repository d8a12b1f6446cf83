"""`Known`: what the user says of which scans are prepared already."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cgckit.errors import BadInputError, UsageError
from cgckit.images.cohort import Subject
from cgckit.sealed import read_lines

AUTO, YES, NO = "auto", "yes", "no"
_ANSWERS = {AUTO: AUTO, YES: YES, NO: NO, "": AUTO, "n/a": AUTO}


@dataclass(frozen=True)
class Known:
    """Whether scans are prepared: "yes", "no", or "auto", which is to find out.

    Attributes:
        others: what holds of subjects that are not named.
        named: what holds of a subject, by its label or its name in the input.
    """

    others: str = AUTO
    named: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, words: str | os.PathLike[str] | Mapping[str, str] | Known) -> Known:
        """Read "auto", "yes", "no", a mapping from subjects to these, or a table `*.tsv` (subject, prepared).

        Raises:
            UsageError: another word.
            BadInputError: a table that cannot be read, or has other columns or words.
        """
        if isinstance(words, Known):
            return words
        if isinstance(words, Mapping):
            return cls(named={str(name): _answer(word, "prepared") for name, word in words.items()})
        if str(words).lower().endswith(".tsv"):
            return cls(named=_read(Path(words)))
        return cls(others=_answer(words, "--prepared"))

    def check(self, subjects: list[str]) -> None:
        """Raise UsageError for a name that is no subject's, as a misspelt one would go unnoticed."""
        for name in self.named:
            if name not in subjects:
                raise UsageError(f"--prepared names {name!r}, and there is no such subject")

    def says_of(self, subject: Subject) -> str:
        """What holds of a subject: "auto", "yes" or "no"."""
        return self.named.get(subject.source) or self.named.get(subject.label) or self.others


def _answer(word: object, where: str) -> str:
    answer = _ANSWERS.get(str(word).strip().lower())
    if answer is None:
        raise UsageError(f"{where}: {str(word)!r} is none of auto, yes and no, nor a table (.tsv: subject, prepared)")
    return answer


def _read(path: Path) -> dict[str, str]:
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: the table of --prepared cannot be read ({error})") from None
    rows = [line.split("\t") for line in lines if line.strip()]
    if not rows or rows[0][:2] != ["subject", "prepared"] or any(len(row) < 2 for row in rows):
        raise BadInputError(f"{path}: the columns subject and prepared are expected, with tabs between them")
    try:
        return {row[0]: _answer(row[1], str(path)) for row in rows[1:]}
    except UsageError as error:
        raise BadInputError(str(error)) from None
