"""`cgckit evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgckit.cli import options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from cgckit.evaluation import EvaluationResult, Metric
_FOLDED = 8
"""Width to which a subject's name may be folded."""


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
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What to score by: a name of `cgckit plugins list`, FILE.py:Class; may be repeated. By default all.",
            autocompletion=options.registered("cgckit.metrics"),
        ),
    ] = None,
    metric_option: Annotated[
        list[str] | None,
        typer.Option("--metric-option", metavar="NAME.KEY=VALUE", help="An option of a metric; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for evaluation.tsv and evaluation.json.", metavar="DIR", parser=options.read_path),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw a row for each subject to this file (.png).", metavar="FILE", parser=options.read_path),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out subjects without reference.")
    ] = False,
    exclude: options.Exclude = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Score masks against references: Dice, sensitivity, precision, surface distances in mm, lesions found.

    Examples:

        cgckit evaluate refined/ references/ --out scores/ --picture scores/picture.png

        cgckit evaluate gmm/ mumford-shah/ references/ --picture both.png

        cgckit evaluate 'masks/{subject}.nii.gz' 'brats/{subject}/{subject}_seg.nii.gz' --label 1 --label 4
    """
    from cgckit.evaluation import evaluate as score_masks

    labels = tuple(label or ())
    result = score_masks(
        prediction,
        reference,
        labels=labels,
        metrics=metric,
        metric_options=metric_option or (),
        allow_missing=allow_missing,
        exclude=exclude,
        progress=not quiet,
    )
    _show(result)
    if out is not None:
        result.write(out)
    if picture is not None:
        from cgckit.report.comparison import draw_evaluation

        draw_evaluation(result, picture, labels)


def _show(result: EvaluationResult) -> None:
    from rich.measure import Measurement

    from cgckit.cli.tables import standard_output

    console = standard_output()
    unbounded = console.options.update(width=1000)

    def fits(table: Table) -> bool:
        table.columns[0].max_width = _FOLDED
        return Measurement.get(console, unbounded, table).maximum <= console.width

    names = list(result.metrics)
    while names:
        # What does not fit beside the others goes into a further table.
        count = next((count for count in range(len(names), 1, -1) if fits(_table(result, names[:count]))), 1)
        console.print(_table(result, names[:count]))
        names = names[count:]


def _table(result: EvaluationResult, metrics: Sequence[str]) -> Table:
    from itertools import groupby

    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    title = f"{len({row.subject for row in result.rows})} subjects against their reference"
    # Ten columns have to fit in a terminal of 80: no frame, one space between them.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("subject", overflow="fold", min_width=_FOLDED)
    table.add_column("map", no_wrap=True)
    for metric in metrics:
        table.add_column(Text(result.title(metric)), justify="right", no_wrap=True)

    def cells(values: Mapping[str, float], infinite: Mapping[str, int] | None = None) -> list[str]:
        left_out = infinite or {}
        return [_cell(values[metric], result.metrics[metric].decimals, left_out.get(metric, 0)) for metric in metrics]

    for subject, rows in groupby(result.rows, key=lambda row: row.subject):
        for index, row in enumerate(rows):
            table.add_row(Text("" if index else subject), Text(row.map), *cells(row.scores))
    table.add_section()
    for summary in map(result.summary, result.maps):
        table.add_row("mean", Text(summary.map), *cells(summary.mean, summary.infinite), style="bold")
        table.add_row("SD", "", *cells(summary.sd))
    legend = _legend({metric: result.metrics[metric] for metric in metrics})
    table.caption = Text("; ".join([*legend, "(n∞): infinite, left out of the mean"]))
    table.caption_justify = "left"
    return table


def _legend(metrics: Mapping[str, Metric]) -> list[str]:
    """What the heads of the columns do not say, options, notes and units: `ASSD (pooled) and HD95 in mm`."""
    from cgckit.options import to_json

    by_unit: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        title = metric.title or name
        unit = "" if metric.unit in title.split() else metric.unit
        details = [metric.note] * bool(metric.note) + [f"{key} {value}" for key, value in to_json(metric).items()]
        if unit or details:
            by_unit.setdefault(unit, []).append(f"{title} ({', '.join(details)})" if details else title)
    return [" and ".join(titles) + (f" in {unit}" if unit else "") for unit, titles in by_unit.items()]


def _cell(value: float, decimals: int, infinite: int) -> str:
    text = "-" if value != value else "inf" if value == float("inf") else f"{value:.{decimals}f}"
    return f"{text} ({infinite}∞)" if infinite else text
