"""`cgckit evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgckit.cli import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cgckit.evaluation import EvaluationResult

_COLUMNS = {
    "Dice": ("dice", 3),
    "sens.": ("sensitivity", 3),
    "prec.": ("precision", 3),
    "ASSD": ("assd", 2),
    "HD95": ("hd95", 1),
    "les. F1": ("lesion_f1", 2),
    "ml": ("volume_ml", 1),
    "ref. ml": ("reference_ml", 1),
}


def evaluate(
    prediction: Annotated[
        list[str],
        typer.Argument(
            metavar="PREDICTION...",
            help="Output folder of cgckit, mask, folder of masks or pattern with {subject}; several are compared.",
            show_default=False,
        ),
    ],
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="Reference mask, a folder of them or of subjects' folders, or a pattern with {subject}.",
            show_default=False,
        ),
    ],
    label: Annotated[
        list[int] | None,
        typer.Option(help="A value of the reference that is lesion; may be repeated. By default all above 0."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.tsv and evaluation.json.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw a row for each subject to this file (.png).")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out subjects without reference.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Score masks against references: Dice, sensitivity, precision, surface distances in mm, lesions found.

    Examples:

        cgckit evaluate refined/ references/ --out scores/ --picture scores/picture.png

        cgckit evaluate gmm/ mumford-shah/ references/ --picture both.png

        cgckit evaluate 'masks/{subject}.nii.gz' 'brats/{subject}/{subject}_seg.nii.gz' --label 1 --label 4
    """
    from cgckit.evaluation import evaluate as score_masks

    labels = tuple(label or ())
    result = score_masks(prediction, reference, labels=labels, allow_missing=allow_missing, progress=not quiet)
    _show(result)
    if out is not None:
        result.write(out)
    if picture is not None:
        from cgckit.evaluation.picture import draw_evaluation

        draw_evaluation(result, picture, labels)


def _show(result: EvaluationResult) -> None:
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{len({row.subject for row in result.rows})} subjects against their reference")
    table.title_justify = "left"
    table.add_column("subject", overflow="fold")
    table.add_column("map")
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for index, row in enumerate(result.rows):
        last = index + 1 == len(result.rows) or result.rows[index + 1].subject != row.subject
        table.add_row(row.subject, row.map, *_cells(asdict(row.scores)), end_section=last)
    for summary in map(result.summary, result.maps):
        table.add_row("mean", summary.map, *_cells(summary.mean, summary.infinite), style="bold")
        table.add_row("SD", summary.map, *_cells(summary.sd), end_section=True)
    table.caption = "ASSD (pooled) and HD95 in mm; (n∞): infinite, left out of the mean"
    table.caption_justify = "left"
    console = Console()
    # What does not go to a terminal has no width to fit in.
    console = console if console.is_terminal else Console(width=140)
    console.print(table)


def _cells(values: Mapping[str, float], infinite: Mapping[str, int] | None = None) -> list[str]:
    cells = []
    for metric, digits in _COLUMNS.values():
        value = values[metric]
        text = "-" if value != value else "inf" if value == float("inf") else f"{value:.{digits}f}"
        left_out = (infinite or {}).get(metric, 0)
        cells.append(f"{text} ({left_out}∞)" if left_out else text)
    return cells
