"""`SystemRow`: what a row of Table 1 says, beside what the paper says; and the table as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cgckit.evaluation.result import Summary, summarise
from cgckit.evaluation.scoring import Scores
from cgckit.experiments.arms import BOTH
from cgckit.experiments.published import Published
from cgckit.experiments.results import OUTPUT, Outcome
from cgckit.experiments.table import Comparison, compare, decimal, gain_with_p, plain, spread, subject_scores
from cgckit.experiments.table_one.systems import System
from cgckit.images.layouts.labels import split_label


@dataclass(frozen=True)
class SystemRow:
    """One row: a system's scores over subjects, and the paper's.

    Attributes:
        system: whose.
        subjects: the scores by subject; none of a row that could not be measured.
        remark: why it could not be measured; empty if it was.
        ours: what the row of the method gains over this one, with Wilcoxon's test; None for that row itself, and where
            one of the two was not measured.
        published: the paper's figures, if it has them.
    """

    system: System
    subjects: Mapping[str, Scores] = field(default_factory=dict)
    remark: str = ""
    ours: Comparison | None = None
    published: Published | None = None

    @property
    def output(self) -> Summary:
        """Mean and deviation over the subjects."""
        return summarise(OUTPUT, list(self.subjects.values()))

    def cells(self) -> dict[str, Any]:
        """The row as a line of a table; what does not exist is None."""
        output, paper = self.output, self.published or Published(math.nan)
        cells = {
            "row": self.system.name,
            "labels": "yes" if self.system.uses_labels else "no",
            "subjects": output.subjects,
            "dice": output.mean.get("dice"),
            "dice_sd": output.sd.get("dice"),
            "sensitivity": output.mean.get("sensitivity"),
            "sensitivity_sd": output.sd.get("sensitivity"),
            "assd_mm": output.mean.get("assd"),
            "assd_sd_mm": output.sd.get("assd"),
            "assd_infinite": output.infinite.get("assd"),
            "gain_ours": self.ours.gain if self.ours else None,
            "p_ours": self.ours.p if self.ours else None,
            "paper_dice": paper.dice,
            "paper_dice_sd": paper.dice_sd,
            "paper_sensitivity": paper.sensitivity,
            "paper_assd_mm": paper.assd,
            "remark": self.remark or None,
        }
        return {name: plain(value) for name, value in cells.items()}

    def text(self) -> dict[str, str]:
        """The row as cells to read, by the heads of their columns."""
        cells = self.cells()
        measured = {
            "Dice": spread(cells["dice"], cells["dice_sd"]),
            "sensitivity": spread(cells["sensitivity"], cells["sensitivity_sd"]),
            "ASSD [mm]": spread(cells["assd_mm"], cells["assd_sd_mm"], cells["assd_infinite"], digits=2),
            "n": str(cells["subjects"]),
            "Ours over it (p)": gain_with_p(cells["gain_ours"], cells["p_ours"]),
        }
        if self.remark:
            measured = {**dict.fromkeys(measured, "-"), "Dice": "not measured"}
        return {
            "row": self.system.title,
            **measured,
            "paper: Dice": spread(cells["paper_dice"], cells["paper_dice_sd"], digits=4),
            "paper: sens.": decimal(cells["paper_sensitivity"], 4),
            "paper: ASSD": decimal(cells["paper_assd_mm"]),
        }


def make_rows(
    systems: Sequence[System],
    found: Mapping[str, Sequence[Outcome]],
    remarks: Mapping[str, str],
    modalities: Sequence[str],
) -> tuple[SystemRow, ...]:
    """The rows, each compared with the last refined one: that is the method.

    Args:
        systems: in the order of the rows.
        found: all outcomes of each row that was measured, by its name.
        remarks: why each other row was not.
        modalities: of the scans, which say what the paper has beside.
    """
    scores = {name: subject_scores(outcomes, OUTPUT) for name, outcomes in found.items()}
    method = next((system.name for system in reversed(systems) if system.arm == BOTH and system.name in scores), None)
    rows = []
    for system in systems:
        mine, paper = scores.get(system.name), system.published(modalities)
        if mine is None:
            rows.append(SystemRow(system, remark=remarks[system.name], published=paper))
        else:
            ours = None if method is None or method == system.name else compare(scores[method], mine)
            rows.append(SystemRow(system, mine, ours=ours, published=paper))
    return tuple(rows)


def heading(description: Mapping[str, Any], rows: Sequence[SystemRow], options: str) -> str:
    """What the figures are, in a few sentences.

    Args:
        description: of the experiment, as in the first line of its results.
        rows: of the table.
        options: of the priors, in words; empty for none.
    """
    modalities, settings, protocol = (description[name] for name in ("modalities", "settings", "protocol"))
    count, persons = len(description["inputs"]), len({split_label(label)[0] for label in description["inputs"]})
    folds = f"{min(protocol['folds'], persons)} folds by person"
    if protocol["hold_out"]:
        scored = f"Scored on held-out subjects, {folds}."
    else:
        scored = "Trained on all subjects, without labels, and scored on the same"
        labels = any(row.subjects and row.system.uses_labels for row in rows)
        scored += f"; what uses labels on held-out ones, {folds}." if labels else "."
    trained = f"{settings['steps']} steps" if settings["steps"] else f"{settings['epochs']} epochs"
    compared = [row.system.prior for row in rows if row.subjects and row.system.arm == BOTH]
    # The least p that the test can give, where that is no small one: all of so few differences of one sign.
    least = f", never below {2 ** (1 - count):.2g} for {count} subjects" if 1 < count < 6 else ""
    told = [
        f"{count} subjects, {', '.join(modalities)}; {trained} of training on a grid of {settings['spacing']:g} mm.",
        f"Options of the priors: {options}." if options else "",
        scored,
        "Mean ± SD over the subjects; infinite distances are counted, as (1∞).",
        f"Ours: refined from {compared[-1]}; p: Wilcoxon signed-rank of Dice, two-sided{least}." if compared else "",
        f"paper: what Yu, Zhao et al. report on {'CQ500' if 'ct' in modalities else 'BraTS'}.",
    ]
    return " ".join(part for part in told if part)


def texts(rows: Sequence[SystemRow]) -> list[dict[str, str]]:
    """The rows as cells to read, without columns that have nothing."""
    found = [row.text() for row in rows]
    filled = [column for column in found[0] if any(text[column] for text in found)]
    return [{column: text[column] for column in filled} for text in found]


def left_out(rows: Sequence[SystemRow]) -> list[str]:
    """Why rows were not measured: a sentence for each reason, with the names of its rows."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.remark:
            reasons.setdefault(row.remark, []).append(row.system.name)
    return [f"Not measured: {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def to_markdown(rows: Sequence[SystemRow], introduction: str) -> str:
    """The table, why rows are not in it, and Dice of every subject, as Markdown."""
    lines = texts(rows)
    measured = [row for row in rows if row.subjects]
    names = sorted({name for row in measured for name in row.subjects})
    dice = [[decimal(row.subjects.get(name, {}).get("dice")) for row in measured] for name in names]
    subjects = [[name, *cells] for name, cells in zip(names, dice, strict=True)]
    parts = [
        introduction,
        _table(list(lines[0]), [list(line.values()) for line in lines]),
        *left_out(rows),
        "Dice of every subject:",
        _table(["subject", *(row.system.name for row in measured)], subjects),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *lines]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in rows)
