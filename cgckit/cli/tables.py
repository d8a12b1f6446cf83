"""Tables on stdout."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def standard_output() -> Console:
    """Where results go; what is not read in a terminal has no width to fit in."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=140)


def show_table(rows: Sequence[Mapping[str, str]], title: str) -> None:
    """Print rows under the columns of the first; columns of numbers are aligned to the right."""
    table = Table(title=Text(title), title_justify="left")
    for column in rows[0] if rows else ():
        numeric = all(_is_number(row[column]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        # As it stands: a cell's brackets, as in a unit, are not markup.
        table.add_row(*map(Text, row.values()))
    standard_output().print(table)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
