"""The table of what constants matter, made from the lines."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.constants.inspection import LEFT_OUT
from benchmarks.constants.measuring import PRIOR, REFINED, WITHOUT
from benchmarks.given import describe
from benchmarks.lines import Line, read_lines, table

BASELINE = "baseline"
COLUMNS = ("constant", "value", "prior, half", "prior, double", "refined, half", "refined, double")
NOTHING = 0.0005
"""A change of mean Dice below this is none."""
_PACKAGE = "cgckit."


def write(results: Path) -> None:
    """Write the table of every `constants-*.jsonl` in a folder."""
    for path in sorted(results.glob("constants-*.jsonl")):
        description, lines = read_lines(path)
        baseline = next((line for line in lines if line["name"] == BASELINE), {})
        constants = [line for line in lines if line["name"] != BASELINE]
        reached = [line for line in constants if "nothing" not in line]
        ordered = sorted(reached, key=lambda line: (-_largest(line, baseline), line["name"]))
        rows = [_row(line, baseline) for line in ordered]
        notes = _notes([line["name"] for line in constants if "nothing" in line])
        path.with_suffix(".md").write_text(
            f"{_heading(description, baseline, constants)}\n\n{table(COLUMNS, rows)}\n{notes}", encoding="utf-8"
        )


def changes(line: Line, baseline: Line) -> dict[tuple[str, str], float]:
    """The change of mean Dice by what is measured (prior, or refined) and way (half, double)."""
    found = {}
    for way in ("half", "double"):
        for map_ in (PRIOR, WITHOUT, REFINED):
            if map_ in line.get(way, {}):
                what = PRIOR if map_ == PRIOR else REFINED
                found[what, way] = fmean(line[way][map_].values()) - fmean(baseline[map_].values())
    return found


def _largest(line: Line, baseline: Line) -> float:
    return max((abs(change) for change in changes(line, baseline).values()), default=-math.inf)


def _row(line: Line, baseline: Line) -> list[str]:
    found = changes(line, baseline)
    cells = []
    for what in (PRIOR, REFINED):
        for way in ("half", "double"):
            measured = line["kind"] == "prior" or what == REFINED
            cells.append(_cell(line, way, found.get((what, way))) if measured else "")
    return [_short(line["name"]), _value(line["value"]), *cells]


def _cell(line: Line, way: str, change: float | None) -> str:
    if change is not None:
        return "nothing" if abs(change) < NOTHING else f"{change:+.3f}"
    if way not in line:
        return "the same"
    return "refused" if "refused" in line[way] else "fails"


def _value(value: Any) -> str:
    return f"({', '.join(map(_value, value))})" if isinstance(value, list) else f"{value:.4g}"


def _short(name: str) -> str:
    return f"`{name.removeprefix(_PACKAGE)}`"


def _heading(description: dict[str, Any], baseline: Line, constants: list[Line]) -> str:
    means = [f"{map_} {fmean(baseline[map_].values()):.3f}" for map_ in (PRIOR, WITHOUT, REFINED) if map_ in baseline]
    commits = sorted({line["commit"] for line in constants})
    return (
        f"Change of mean Dice when a constant is halved or doubled: {describe(description)}. As they are: "
        f"{', '.join(means)}. *Refined* is without network for what shapes the prior, with the network trained once "
        "for the rest, and with one of its own for a setting of training. Of what cannot cross 1, as a share above one "
        "half, the distance to 1 is varied: *half* is the smaller number, *double* the larger. *Nothing*: below "
        f"{NOTHING:g}. *The same*: there is no such whole number. *Refused*: cgckit takes no such "
        f"value; *fails*: it takes it, and gives no map. Commit {', '.join(commits)}."
    )


def _notes(unreached: list[str]) -> str:
    text = ""
    if unreached:
        text += f"Not reached with these scans and this prior: {', '.join(map(_short, sorted(unreached)))}.\n\n"
    reasons: dict[str, list[str]] = {}
    for name, why in LEFT_OUT.items():
        reasons.setdefault(why, []).append(_short(name))
    left = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
    return f"{text}Left out: {left}.\n"
