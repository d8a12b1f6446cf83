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
    "F1": ("lesion_f1", 2),
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
    from itertools import groupby

    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from cgckit.cli.tables import standard_output

    title = f"{len({row.subject for row in result.rows})} subjects against their reference"
    # Ten columns have to fit in a terminal of 80: no frame, one space between them.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("subject", overflow="fold", min_width=8)
    table.add_column("map", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for subject, rows in groupby(result.rows, key=lambda row: row.subject):
        for index, row in enumerate(rows):
            table.add_row("" if index else subject, row.map, *_cells(asdict(row.scores)))
    table.add_section()
    for summary in map(result.summary, result.maps):
        table.add_row("mean", summary.map, *_cells(summary.mean, summary.infinite), style="bold")
        table.add_row("SD", "", *_cells(summary.sd))
    table.caption = "ASSD (pooled) and HD95 in mm; F1 by lesion; (n∞): infinite, left out of the mean"
    table.caption_justify = "left"
    standard_output().print(table)


def _cells(values: Mapping[str, float], infinite: Mapping[str, int] | None = None) -> list[str]:
    cells = []
    for metric, digits in _COLUMNS.values():
        value = values[metric]
        text = "-" if value != value else "inf" if value == float("inf") else f"{value:.{digits}f}"
        left_out = (infinite or {}).get(metric, 0)
        cells.append(f"{text} ({left_out}∞)" if left_out else text)
    return cells
