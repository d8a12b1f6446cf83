"""The table of a robustness measurement, made from its lines."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.given import describe
from benchmarks.lines import Line, read_lines, table
from benchmarks.robustness.perturbations import PERTURBATIONS, UNPERTURBED

COLUMNS = ("perturbation", "prior", "refined", "difference", "change of refined", "worst subject's change")


def write(results: Path) -> None:
    """Write the table of every `robustness-*.jsonl` in a folder."""
    for path in sorted(results.glob("robustness-*.jsonl")):
        description, lines = read_lines(path)
        by_name = {line["name"]: line for line in lines}
        ordered = [by_name[name] for name in PERTURBATIONS if name in by_name]
        rows = [_row(line, by_name.get(UNPERTURBED, {}).get("subjects", {})) for line in ordered]
        legend = "".join(_explain(line) for line in ordered)
        path.with_suffix(".md").write_text(
            f"{_heading(description, lines)}\n\n{table(COLUMNS, rows)}\n{legend}", encoding="utf-8"
        )


def _row(line: Line, unperturbed: dict[str, dict[str, float]]) -> list[str]:
    if "subjects" not in line:
        return [line["name"], line["nothing"].split(":")[0], "", "", "", ""]
    prior, refined = ({name: score[map_] for name, score in line["subjects"].items()} for map_ in ("prior", "refined"))
    changes = {name: value - unperturbed[name]["refined"] for name, value in refined.items() if name in unperturbed}
    means = fmean(prior.values()), fmean(refined.values())
    cells = [line["name"], *(f"{mean:.3f}" for mean in means), f"{means[1] - means[0]:+.3f}"]
    if not changes or line["name"] == UNPERTURBED:
        return [*cells, "", ""]
    worst = min(changes, key=lambda name: changes[name])
    return [*cells, f"{fmean(changes.values()):+.3f}", f"{changes[worst]:+.3f} ({worst})"]


def _explain(line: Line) -> str:
    which = f" ({line['modality']})" if "modality" in line else ""
    return f"- {line['name']}: {line['what']}{which}{'; ' + line['nothing'] if 'nothing' in line else ''}\n"


def _heading(description: dict[str, Any], lines: list[Line]) -> str:
    commits = sorted({line["commit"] for line in lines})
    trained = (
        "a network trained on each perturbed cohort"
        if description["options"]["retrain"]
        else "the unperturbed cohort's network applied to the others, without the prior"
    )
    return (
        f"Dice of {describe(description)}; {trained}. Changes are to the unperturbed scans. Brain masks come "
        f"along with the scans. Commit {', '.join(commits)}."
    )
