"""What these commands share: their options and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgckit.errors import UsageError

if TYPE_CHECKING:
    from cgckit.experiments.table import ArmRow

Cohort = Annotated[
    str,
    typer.Argument(
        metavar="COHORT", help="Scans: a folder with one folder a subject, or a table (.tsv).", show_default=False
    ),
]
References = Annotated[
    str | None,
    typer.Argument(
        metavar="REFERENCES",
        help="Reference masks: a folder, or a pattern with {subject}; by default in the folder of the scans.",
        show_default=False,
    ),
]
Label = Annotated[
    list[int] | None,
    typer.Option(help="A value of the references that is lesion; may be repeated. By default all above 0."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another experiment's results in --out.")]
Seeds = Annotated[str, typer.Option(metavar="A,B,...", help="Train every arm with each of these seeds.")]


def split_seeds(text: str) -> list[int]:
    """Read the value of `--seeds`; UsageError for what is no list of whole numbers from 0 on."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--seeds takes whole numbers like 0,1, got {text!r}")
    return list(dict.fromkeys(int(part) for part in parts))


def beside(cohort: str) -> str:
    """Where references lie that are not named: in the folder of the scans; UsageError for a table, which has none."""
    if Path(cohort).is_file():
        raise UsageError(f"{cohort} is no folder: give REFERENCES, a folder or a pattern with {{subject}}")
    return cohort


def show_rows(rows: Sequence[ArmRow], title: str) -> None:
    """Print a table of arms; what used labels gets one of its own."""
    from cgckit.cli.tables import show_table

    bound = (
        "Bounds that use the references, no methods. oracle: the prior cut at each subject's best threshold; "
        "supervised: the same network trained on the references, scored on held-out subjects"
    )
    for labels, heading in ((False, title), (True, bound)):
        lines = [row.text() for row in rows if row.uses_labels == labels]
        if lines:
            columns = dict.fromkeys(column for line in lines for column in line)
            filled = [column for column in columns if any(line.get(column) for line in lines)]
            show_table([{column: line.get(column, "") for column in filled} for line in lines], title=heading)


def count(rows: Sequence[ArmRow]) -> str:
    """How many subjects a table is about, and what its p-values are."""
    subjects = max(row.output.subjects for row in rows)
    return f"mean ± SD over {subjects} subjects; p: Wilcoxon signed-rank of Dice, two-sided, n = {subjects}"
