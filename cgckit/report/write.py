"""`write_report`: pages about a run that open offline: one of the group, one of each subject."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError
from rich.progress import track

from cgckit.atomic import atomic_write
from cgckit.derivatives import REPORT
from cgckit.errors import BadInputError, UsageError
from cgckit.jobs.console import bars_console
from cgckit.ledger import Ledger
from cgckit.report import group
from cgckit.report.distribution import HEIGHT, RADIUS, WIDTH
from cgckit.report.embedding import embed, layers
from cgckit.report.maps import Maps
from cgckit.report.pictures import Pictures, draw_pictures
from cgckit.report.summary import Summary, cell, is_left_out, is_warning, number, remarks

INDEX = "index.html"
_HEALTH = {
    "dice_prior_refined": ("overlap of prior and refined (Dice)", ".3f"),
    "prior_ml": ("prior [ml]", ".2f"),
    "refined_ml": ("refined [ml]", ".2f"),
    "changed_ml": ("changed [ml]", ".2f"),
    "dropped_parts": ("parts dropped", ".0f"),
    "dropped_ml": ("dropped [ml]", ".2f"),
    "learnt": ("share of the prior's lesion that the network learnt", ".0%"),
    "undecided_ml": ("undecided: probability within one SD of 0.5 [ml]", ".2f"),
    "fraction": ("prior's share of the brain", ".1%"),
    "contrast": ("contrast to surroundings [robust SD]", ".1f"),
    "components": ("separate parts of the prior", ".0f"),
    "largest_ml": ("largest part [ml]", ".2f"),
    "edge_share": ("share at the brain's edge", ".1%"),
}


def write_report(folder: str | Path, out: str | Path | None = None, *, progress: bool = False) -> Path:
    """Write the pages about an output folder of `refine`, `predict` or `prior`.

    They are `index.html`, a page for each subject, pictures and what the pages need, all in one folder that can be
    moved. Nothing is loaded from anywhere else.

    Args:
        folder: the output folder of a run that is complete.
        out: the folder of the pages; by default `report` in the output folder.
        progress: show a progress bar on stderr.

    Returns:
        The group page.

    Raises:
        BadInputError: the folder holds no complete run, one of its files is damaged, or a page cannot be written.
        UsageError: a page would replace a file that cgckit did not write, or `out` is named like a page.
    """
    summary = Summary.read(Path(folder))
    place = summary.results.root / REPORT if out is None else Path(out)
    if place.suffix.lower() in (".html", ".htm") or place.is_file():
        raise UsageError(f"{place}: a report is a folder of pages; give the name of one to --out")
    try:
        with _recorded(summary, place):
            return _Report(summary, place).write(progress)
    except (KeyError, TypeError, AttributeError, UndefinedError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInputError(f"{folder}: run.json or summary.tsv is not as cgckit writes it ({reason})") from error


@contextmanager
def _recorded(summary: Summary, place: Path) -> Iterator[None]:
    """Note what is written: in the ledger of the run, if the pages lie in its folder, else in one of their own."""
    run = Ledger(summary.results.root)
    within = run.exists and place.resolve() == (summary.results.root / REPORT).resolve()
    place = summary.results.root / REPORT if within else place
    ledger = run if within else Ledger(place)
    names = [INDEX, *(f"assets/{name}" for name in _assets())]
    for row in summary.rows:
        names += [f"{row['participant_id']}.html", f"figures/{row['participant_id']}.jpg"]
    wanted = [place / name for name in names]
    ledger.refuse_others(wanted)
    if not ledger.exists:
        ledger.start(summary.key)
    ledger.intend(wanted)
    yield
    ledger.record(wanted)
    ledger.remove_below(place, keep=wanted)  # pages of subjects that are none any more


class _Report:
    """The pages of one run, to be written into a folder."""

    def __init__(self, summary: Summary, place: Path) -> None:
        self.summary, self.place = summary, place
        self.pages = _environment()
        self.ids = [row["participant_id"] for row in summary.rows]
        self.common = {"key": summary.key, "versions": summary.record["versions"], "subjects": self._names()}

    def write(self, progress: bool) -> Path:
        """Write everything; the group page last, as it makes the rest findable."""
        for name, content in _assets().items():
            self._write(f"assets/{name}", content)
        rows, pictured = [], set()
        shown = track(self.summary.rows, "Drawing", console=bars_console(), transient=True, disable=not progress)
        for index, row in enumerate(shown):
            maps, missing = self._maps(row)
            if maps is not None:
                undecided = maps.undecided_ml()
                row = {**row, **({} if undecided is None else {"undecided_ml": f"{undecided:.6g}"})}
            try:
                pictures = None if maps is None else draw_pictures(maps.scan, maps.masks())
            except ValueError as error:
                maps, pictures, missing = None, None, str(error)
            self._subject(index, row, maps, pictures, missing)
            rows.append(row)
            if pictures is not None:
                pictured.add(row["participant_id"])
                self._write(f"figures/{row['participant_id']}.jpg", pictures.small)
        self._render(
            INDEX,
            "group.html.j2",
            title=f"{self.summary.results.root.resolve().name}: {len(rows)} subject{'s' * (len(rows) != 1)}",
            facts=_facts(self.summary.record),
            warnings=list(self.summary.record.get("warnings", [])),
            columns=group.used_columns(rows),
            lines=group.lines(rows, pictured),
            distributions=group.distributions(rows),
            drawing={"width": WIDTH, "height": HEIGHT, "radius": RADIUS},
            options=_flat(self.summary.record["options"]),
        )
        return self.place / INDEX

    def _names(self) -> list[dict[str, str]]:
        return [{"id": row["participant_id"], "source": row["source"]} for row in self.summary.rows]

    def _maps(self, row: Mapping[str, str]) -> tuple[Maps | None, str]:
        """A subject's maps, or why there is nothing to be seen: the scans may lie elsewhere by now."""
        if is_left_out(row):
            return None, "left out"
        label = row["participant_id"].removeprefix("sub-")
        if not (self.summary.results.prior_probabilities(label) or self.summary.results.refined_mask(label).exists()):
            raise BadInputError(f"{self.summary.results.root}: there is no map of sub-{label}; was it removed?")
        try:
            return Maps.load(self.summary.results, label), ""
        except (BadInputError, ValueError) as error:
            return None, str(error)

    def _subject(
        self, index: int, row: Mapping[str, str], maps: Maps | None, pictures: Pictures | None, missing: str
    ) -> None:
        embedded = None if maps is None else embed(maps)
        self._render(
            f"{row['participant_id']}.html",
            "subject.html.j2",
            id=row["participant_id"],
            source=row["source"],
            previous=self.ids[index - 1] if index else None,
            next=self.ids[index + 1] if index + 1 < len(self.ids) else None,
            place=f"{index + 1} of {len(self.ids)}",
            remarks=remarks(row),
            facts=_known({text: _number(row, name, digits) for name, (text, digits) in _HEALTH.items()}),
            choice=cell(row, "choice"),
            scan=maps.scan.path.name if maps else "",
            slices=[base64.b64encode(picture).decode() for picture in pictures.slices] if pictures else [],
            missing=missing,
            embedded=embedded,
            layers=layers(embedded) if embedded else [],
        )

    def _render(self, name: str, template: str, **content: Any) -> None:
        page = self.pages.get_template(template).render(**self.common, **content)
        self._write(name, page.encode("utf-8"))

    def _write(self, name: str, content: bytes) -> None:
        with atomic_write(self.place / name) as temporary:
            temporary.write_bytes(content)


def _environment() -> Environment:
    """Templates in which everything that is put in is escaped."""
    loader = PackageLoader("cgckit.report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests |= {"warning": is_warning}
    environment.filters |= {"titles": group.titles}
    return environment


def _assets() -> dict[str, bytes]:
    """What the pages need besides themselves, by name."""
    folder = files("cgckit.report") / "assets"
    return {
        item.name: item.read_bytes()
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith((".js", ".css", ".LICENSE.txt"))
    }


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of the whole run."""
    options = record["options"]
    training = record.get("training", {})
    return _known(
        {
            "prior": options.get("prior", {}).get("name"),
            "preset": options.get("preset"),
            "modalities": ", ".join(options["modalities"]),
            "seed": options.get("seed"),
            "training steps": training.get("steps"),
            "learnt of the priors": _percent(record.get("learnt")),
            "crops with two positive patches or more": _percent(training.get("fine_share")),
            "device": record.get("machine", {}).get("device"),
            "time [min]": _minutes(record.get("seconds")),
        }
    )


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that there are."""
    return {name: value for name, value in facts.items() if value not in (None, "", "n/a")}


def _number(row: Mapping[str, str], column: str, digits: str) -> str:
    """A cell with so many digits, or as it stands if it holds no number."""
    value = number(row, column)
    return cell(row, column) if value is None else format(value, digits)


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
