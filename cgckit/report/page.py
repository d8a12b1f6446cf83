"""A page about a run: one HTML file that opens offline, with every subject's slices, volumes, health and remarks."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from rich.console import Console
from rich.progress import track

from cgckit.atomic import atomic_write
from cgckit.derivatives import Derivatives, image_of
from cgckit.errors import BadInputError
from cgckit.images.volume import Volume
from cgckit.report.view import COLOURS, AxialView, Mask, spread_levels

_SLICES = 6
_PANEL_INCHES = 2.0
_DOTS_PER_INCH = 90
_JPEG = {"quality": 85, "subsampling": 0}  # the colours of thin contours at full resolution

# Columns of summary.tsv, as they read on the page. A column that a run does not have is left out.
_VOLUMES = {"prior_ml": "prior", "refined_ml": "refined", "changed_ml": "changed"}
_HEALTH = {
    "dice_prior_refined": ("overlap of prior and refined (Dice)", ".3f"),
    "fraction": ("prior's share of the brain", ".1%"),
    "contrast": ("contrast to its surroundings [MAD]", ".1f"),
    "components": ("separate parts", ".0f"),
    "largest_ml": ("largest part [ml]", ".2f"),
    "edge_share": ("share at the brain's edge", ".1%"),
}
_ABSENT = ("", "n/a")

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --quiet: #777; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem 1.5rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
.lead { margin-top: 0; } .quiet, .lead, figcaption { color: var(--quiet); }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .25rem .8rem .25rem 0; text-align: left; }
th { font-weight: 600; } tr { border-bottom: 1px solid var(--line); } .number { text-align: right; }
.number, dd { font-variant-numeric: tabular-nums; }
article { border-top: 2px solid var(--line); padding: 1rem 0; } figure { margin: 0 0 .6rem; }
img { background: #000; border-radius: 4px; display: block; height: auto; max-width: 100%; }
dl { display: flex; flex-wrap: wrap; gap: .4rem 2rem; margin: .5rem 0; }
dt { color: var(--quiet); font-size: .85em; } dd { margin: 0; } pre { overflow-x: auto; }
.remark { border-left: 4px solid #e08a00; margin: .4rem 0; padding-left: .6rem; }
.key { border-radius: 2px; display: inline-block; height: .7em; margin: 0 .3em 0 .9em; width: 1.4em; }
@media print { article { break-inside: avoid; } }
"""


def write_page(folder: str | Path, path: Path, progress: bool = False) -> None:
    """Write the page about an output folder of `refine`, `predict` or `prior`.

    Args:
        folder: the output folder of a run that is complete.
        path: the HTML file.
        progress: show a progress bar on stderr.

    Raises:
        BadInputError: the folder holds no complete run, or the page cannot be written.
    """
    results = Derivatives(Path(folder))
    record = results.read_json("run.json") or {}
    if record.get("status") != "complete":
        raise BadInputError(f"{folder}: holds no complete run of cgckit; let the run finish first")
    rows = results.read_table("summary.tsv")
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(_head(record, rows))
        for row in track(rows, "Drawing", console=Console(stderr=True), transient=True, disable=not progress):
            file.write(_subject(results, row))
        file.write(_foot(record))


def _head(record: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> str:
    options = record["options"]
    facts = {
        "prior": options.get("prior", {}).get("name"),
        "preset": options.get("preset"),
        "modalities": ", ".join(options["modalities"]),
        "seed": options.get("seed"),
        "training steps": record.get("training", {}).get("steps"),
        "crops with two positive patches or more": _percent(record.get("training", {}).get("fine_share")),
        "device": record.get("machine", {}).get("device"),
        "time [min]": _minutes(record.get("seconds")),
    }
    columns = {name: f"{text} [ml]" for name, text in _VOLUMES.items() if any(name in row for row in rows)}
    names = "".join(f'<th class="number">{text}</th>' for text in columns.values())
    lines = "".join(
        f'<tr><td><a href="#{escape(row["participant_id"])}">{escape(row["source"])}</a></td>'
        + "".join(f'<td class="number">{_number(row.get(name, ""), ".2f")}</td>' for name in columns)
        + f"<td>{escape(_note(row))}</td></tr>\n"
        for row in rows
    )
    title = f"cgckit: {len(rows)} subject{'s' * (len(rows) != 1)}"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n<body>\n'
        f'<h1>{title}</h1>\n<p class="lead">Lesions segmented without labels, by cgckit '
        f"{escape(record['versions']['cgckit'])}. For research; no medical device.</p>\n{_facts(facts)}"
        f"<table>\n<tr><th>subject</th>{names}<th>note</th></tr>\n{lines}</table>\n"
        f'<p class="quiet">Slices run from foot to head, front at the top, the subject\'s left at the left. '
        f"{_key(COLOURS[0])}prior, laid over{_key(COLOURS[1])}refined, outlined</p>\n"
    )


def _subject(results: Derivatives, row: Mapping[str, str]) -> str:
    label = row["participant_id"].removeprefix("sub-")
    facts = {text: _number(row.get(name, ""), digits) for name, (text, digits) in _HEALTH.items()}
    remarks = "".join(f'<p class="remark">{escape(text)}</p>\n' for text in _remarks(row))
    choice = row.get("choice", "")
    return (
        f'<article id="{escape(row["participant_id"])}">\n<h2>{escape(row["source"])}</h2>\n'
        f"{_figure(results, label, row['source'])}{remarks}{_facts(facts)}"
        + (f'<p class="quiet">{escape(choice)}</p>\n' if choice not in _ABSENT else "")
        + "</article>\n"
    )


def _figure(results: Derivatives, label: str, source: str) -> str:
    """Slices through a subject's lesion with its masks."""
    files = {f"prior {index}": path for index, path in enumerate(results.prior_probabilities(label))}
    if results.refined_mask(label).exists():
        files["refined"] = results.refined_mask(label)
    if not files:
        raise BadInputError(f"{results.root}: there is no map of sub-{label}; was it removed?")
    scan = image_of(next(iter(files.values())))
    try:
        image = Volume.load(scan)
        masks = {name: Volume.load(path, allow_constant=True).array >= 0.5 for name, path in files.items()}
        picture = base64.b64encode(_draw(AxialView(image), masks)).decode()
    except (BadInputError, ValueError) as error:  # the scans may lie elsewhere by now: the figures still stand
        return f'<p class="remark">no picture: {escape(str(error))}</p>\n'
    return (
        f'<figure><img alt="axial slices of {escape(source)} with prior and refined mask" '
        f'src="data:image/jpeg;base64,{picture}"><figcaption>{escape(scan.name)}</figcaption></figure>\n'
    )


def _draw(view: AxialView, masks: Mapping[str, Mask]) -> bytes:
    """A strip of slices that share the voxels of all masks evenly, as a JPEG: a fifth of the size of a PNG."""
    levels = spread_levels(np.sum([view.areas(mask) for mask in masks.values()], axis=0), _SLICES)
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    size = (_PANEL_INCHES * _SLICES, _PANEL_INCHES * 1.2)
    figure = Figure(figsize=size, facecolor="black", layout=layout)
    panels = figure.subplots(1, _SLICES, squeeze=False)[0]
    for panel in panels[len(levels) :]:
        panel.set_axis_off()
    for panel, level in zip(panels, levels, strict=False):
        view.show(panel, level)
        for name, mask in masks.items():
            # Two contours would hide each other wherever they agree.
            if name == "refined":
                view.outline(panel, mask, level, COLOURS[1])
            else:
                view.veil(panel, mask, level, COLOURS[0], opacity=0.4)
    view.mark_sides(panels[0])
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="jpg", dpi=_DOTS_PER_INCH, facecolor="black", pil_kwargs=_JPEG)
    return buffer.getvalue()


def _foot(record: Mapping[str, Any]) -> str:
    options = "\n".join(f"{name} = {value}" for name, value in _flat(record["options"]))
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"<details><summary>Options and versions</summary>\n<pre>{escape(options)}</pre>\n"
        f"<p>{escape(versions)}</p></details>\n</body>\n</html>\n"
    )


def _remarks(row: Mapping[str, str]) -> list[str]:
    degenerate = row.get("degenerate", "")
    excluded = [] if degenerate in _ABSENT else [f"prior excluded: {degenerate}"]
    return excluded + [text for text in row.get("remarks", "").split("; ") if text not in _ABSENT]


def _note(row: Mapping[str, str]) -> str:
    return "; ".join(_remarks(row))


def _facts(facts: Mapping[str, Any]) -> str:
    known = {name: value for name, value in facts.items() if value is not None and value not in _ABSENT}
    if not known:
        return ""
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in known.items())
    return f"<dl>{pairs}</dl>\n"


def _number(text: str, digits: str) -> str:
    """A cell with so many digits, or as it stands if it holds no number."""
    try:
        return format(float(text), digits)
    except ValueError:
        return text


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"


def _minutes(seconds: Mapping[str, float] | None) -> str | None:
    return ", ".join(f"{name} {time / 60:.1f}" for name, time in seconds.items()) if seconds else None


def _key(colour: str) -> str:
    return f'<span class="key" style="background:{colour}"></span>'


def _flat(options: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested options as dotted names."""
    pairs: list[tuple[str, Any]] = []
    for name, value in options.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return pairs
