"""A page about a run: one HTML file that opens offline, with every subject's slices, volumes, health and remarks."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, UndefinedError
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from rich.console import Console
from rich.progress import track

from cgckit.arrays import BoolArray
from cgckit.atomic import atomic_write
from cgckit.derivatives import REPORT, Derivatives, image_of
from cgckit.errors import BadInputError
from cgckit.images.volume import Volume
from cgckit.ledger import Ledger
from cgckit.report.view import COLOURS, AxialView, spread_levels
from cgckit.sealed import DamagedError, read_json

_SLICES = 6
_PANEL_INCHES = 2.0
_DOTS_PER_INCH = 90
_JPEG = {"quality": 85, "subsampling": 0}  # the colours of thin contours at full resolution

# Columns of summary.tsv, as they read on the page. A column that a run does not have is left out.
_VOLUMES = {"prior_ml": "prior", "refined_ml": "refined", "changed_ml": "changed"}
_HEALTH = {
    "dice_prior_refined": ("overlap of prior and refined (Dice)", ".3f"),
    "fraction": ("prior's share of the brain", ".1%"),
    "contrast": ("contrast to surroundings [robust SD]", ".1f"),
    "components": ("separate parts", ".0f"),
    "largest_ml": ("largest part [ml]", ".2f"),
    "edge_share": ("share at the brain's edge", ".1%"),
}
_ABSENT = ("", "n/a")


def write_page(folder: str | Path, path: Path, progress: bool = False) -> None:
    """Write the page about an output folder of `refine`, `predict` or `prior`.

    Args:
        folder: the output folder of a run that is complete.
        path: the HTML file.
        progress: show a progress bar on stderr.

    Raises:
        BadInputError: the folder holds no complete run, one of its files is damaged, or the page cannot be written.
        UsageError: the page would replace a file in the folder that cgckit did not write.
    """
    results = Derivatives(Path(folder))
    ledger = Ledger(results.root)
    record = _read_record(results.root / "run.json")
    if record.get("status") != "complete":
        raise BadInputError(f"{folder}: holds no complete run of cgckit; let the run finish first")
    summary = results.root / "summary.tsv"
    if summary in ledger and not ledger.is_whole(summary):
        raise BadInputError(f"{summary}: is not as the run wrote it; the command of the run writes it again")
    rows = results.read_table(summary.name)
    if not rows or not {"participant_id", "source"} <= rows[0].keys():
        raise BadInputError(f"{summary}: the columns participant_id and source are expected")
    if own := [path] if ledger.exists and path.resolve() == (results.root / REPORT).resolve() else []:
        path = results.root / REPORT
        ledger.intend([path])
    try:
        _write(results, record, rows, path, progress)
    except (KeyError, TypeError, AttributeError, UndefinedError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInputError(f"{folder}: run.json or summary.tsv is not as cgckit writes it ({reason})") from error
    ledger.record(own)


def _write(
    results: Derivatives, record: Mapping[str, Any], rows: Sequence[Mapping[str, str]], path: Path, progress: bool
) -> None:
    shown = track(rows, "Drawing", console=Console(stderr=True), transient=True, disable=not progress)
    page = _template().stream(
        title=f"cgckit: {len(rows)} subject{'s' * (len(rows) != 1)}",
        facts=_facts(record),
        columns={name: text for name, text in _VOLUMES.items() if any(name in row for row in rows)},
        rows=rows,
        colours=COLOURS,
        subjects=(_subject(results, row) for row in shown),  # one after the other, as the page is written
        options=_flat(record["options"]),
        versions=record["versions"],
    )
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(page)


def _read_record(path: Path) -> dict[str, Any]:
    """What a run was made of; nothing if there is no run."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return {}
    except DamagedError as error:
        raise BadInputError(f"{path}: is damaged ({error}); the command of the run writes it again") from error


def _template() -> Template:
    """The page, in which everything that is put in is escaped."""
    loader = PackageLoader("cgckit.report")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters |= {"number": _number, "remarks": _remarks}
    return environment.get_template("page.html.j2")


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of the whole run."""
    options = record["options"]
    return _known(
        {
            "prior": options.get("prior", {}).get("name"),
            "preset": options.get("preset"),
            "modalities": ", ".join(options["modalities"]),
            "seed": options.get("seed"),
            "training steps": record.get("training", {}).get("steps"),
            "crops with two positive patches or more": _percent(record.get("training", {}).get("fine_share")),
            "device": record.get("machine", {}).get("device"),
            "time [min]": _minutes(record.get("seconds")),
        }
    )


def _subject(results: Derivatives, row: Mapping[str, str]) -> dict[str, Any]:
    """What the page says of one subject: its row of the summary, and slices through its lesion."""
    choice = row.get("choice", "")
    return {
        "id": row["participant_id"],
        "source": row["source"],
        "remarks": _remarks(row),
        "facts": _known({text: _number(row.get(name, ""), digits) for name, (text, digits) in _HEALTH.items()}),
        "choice": "" if choice in _ABSENT else choice,
        **({"picture": "", "missing": "left out"} if _is_left_out(row) else _picture(results, row)),
    }


def _is_left_out(row: Mapping[str, str]) -> bool:
    """Whether a run could not use a subject, as its remark says."""
    return row.get("remarks", "").startswith("left out: ")


def _picture(results: Derivatives, row: Mapping[str, str]) -> dict[str, str]:
    """Slices through a subject's lesion with its masks, and the name of the scan, or why there are none."""
    label = row["participant_id"].removeprefix("sub-")
    files = {f"prior {index}": path for index, path in enumerate(results.prior_probabilities(label))}
    if results.refined_mask(label).exists():
        files["refined"] = results.refined_mask(label)
    if not files:
        raise BadInputError(f"{results.root}: there is no map of sub-{label}; was it removed?")
    try:
        scan = image_of(next(iter(files.values())))
        image = Volume.load(scan)
        masks = {name: Volume.load(path, allow_constant=True).array >= 0.5 for name, path in files.items()}
        picture = base64.b64encode(_draw(AxialView(image), masks)).decode()
    except (BadInputError, ValueError) as error:  # the scans may lie elsewhere by now: the figures still stand
        return {"picture": "", "missing": str(error)}
    return {"picture": picture, "scan": scan.name}


def _draw(view: AxialView, masks: Mapping[str, BoolArray]) -> bytes:
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


def _remarks(row: Mapping[str, str]) -> list[str]:
    degenerate = row.get("degenerate", "")
    excluded = [] if degenerate in _ABSENT else [f"prior excluded: {degenerate}"]
    return excluded + [text for text in row.get("remarks", "").split("; ") if text not in _ABSENT]


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that there are."""
    return {name: value for name, value in facts.items() if value is not None and value not in _ABSENT}


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


def _flat(options: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested options as dotted names."""
    pairs: list[tuple[str, Any]] = []
    for name, value in options.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return pairs
