"""`Lines`: what a long benchmark has measured, on disk as JSON lines, so that it goes on where it was stopped."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cgckit.atomic import atomic_write
from cgckit.errors import BadInputError, UsageError

Line = dict[str, Any]
ROOT = Path(__file__).parent.parent


class Lines:
    """A file whose first line says what was measured, and each other one what was found, under a name of its own.

    It is replaced as a whole with each line, so that a killed benchmark leaves whole lines and goes on after them.

    Args:
        path: the file; it need not be there.
        description: what all lines share; "key" is the digest by which the measurement is taken up again.
        overwrite: replace the file of another measurement.

    Attributes:
        found: the lines by name.

    Raises:
        UsageError: the file holds another measurement, and `overwrite` is false.
        BadInputError: it holds none.
    """

    def __init__(self, path: Path, description: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path, self.description = path, dict(description)
        self.found: dict[str, Line] = {}
        if not path.exists():
            return
        there, lines = read_lines(path)
        if there.get("key") == self.description["key"]:
            self.found = {line["name"]: line for line in lines}
        elif not overwrite:
            raise UsageError(
                f"{path}: measured with other scans, options or versions; give another --name, or --overwrite"
            )

    def add(self, line: Line) -> None:
        """Write a line, in place of the one of that name if there is one."""
        self.found[line["name"]] = line
        with atomic_write(self.path) as temporary:
            lines = [self.description, *self.found.values()]
            temporary.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")


def read_lines(path: Path) -> tuple[dict[str, Any], list[Line]]:
    """What `Lines` wrote: the description and the lines.

    Raises:
        BadInputError: the file cannot be read, or is none of measurements.
    """
    try:
        description, *lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
        if not isinstance(description, dict) or not all("name" in line for line in lines):
            raise ValueError("its lines have no names")
        return description, lines
    except (OSError, ValueError, TypeError) as error:
        raise BadInputError(f"{path}: no file of measurements ({error})") from error


def commit() -> str:
    """The commit that is measured; "+changes" where the package differs from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "cgckit"], capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in [columns, ["---"] * len(columns), *rows])
