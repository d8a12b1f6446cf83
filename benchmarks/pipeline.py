"""`python -m benchmarks.pipeline`: cgckit against what a user would pick instead: the prior itself, or a copy of it.

`pipeline-NAME.jsonl` holds what was measured (`cgckit.experiments.results`: one line for each arm, fold and seed), and
`pipeline-NAME.md` two tables of it: the arms, and Dice and ASSD of every subject. `--halves` puts a third between them,
Dice of every other subject: what was chosen while looking at one half is told by the other.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from cgckit.experiments.commands import ablate
from cgckit.experiments.experiment import Experiment
from cgckit.experiments.published import published
from cgckit.experiments.results import read_results
from cgckit.experiments.table import ArmRow, by_subject, tabulate
from cgckit.options import read_words
from cgckit.phantom import write_cohort

RESULTS = Path(__file__).parent / "results"
ARMS = "paths,bounds"
SUBJECTS = "Every subject, mean over the seeds; ASSD in mm:"
HALVES = "Mean Dice of every other subject by name, from the first (odd) and from the second (even), and of all:"
COLUMNS = {
    "arm": "arm",
    "labels": "labels",
    "seeds": "seeds",
    "Dice": "dice",
    "SD": "dice_sd",
    "SD of seeds": "dice_seed_sd",
    "over prior": "gain_prior",
    "p": "p_prior",
    "over network": "gain_network",
    "p ": "p_network",
    "network alone": "dice_network_alone",
    "sens.": "sensitivity",
    "ASSD [mm]": "assd_mm",
    "infinite": "assd_infinite",
    "fine share": "fine_share",
    "paper Dice": "paper_dice",
    "paper ASSD": "paper_assd_mm",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="phantom", help="of the files of results (default phantom)")
    parser.add_argument("--cohort", type=Path, help="scans; by default six simulated subjects")
    parser.add_argument("--references", type=Path, help="reference masks; by default beside the scans")
    parser.add_argument("--prior", default="gmm")
    parser.add_argument("--prior-option", action="append", default=[], metavar="KEY=VALUE", help="of the prior")
    parser.add_argument("--modalities", help="use only these, A,B,...")
    parser.add_argument("--arms", default=ARMS, help=f"as in `cgckit ablate` (default {ARMS})")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a setting")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)")
    parser.add_argument("--show", action="store_true", help="measure nothing, write the tables again")
    parser.add_argument("--halves", action="store_true", help="tell odd and even subjects apart too; tables keep it")
    parser.add_argument("--work", type=Path, default=Path("benchmarks-work"), help="folder for what is not kept")


def run(arguments: argparse.Namespace) -> None:
    if not arguments.show:
        measure(arguments)
    write(arguments.results, halves=arguments.halves)


def measure(arguments: argparse.Namespace) -> None:
    """Run the arms, or those that are missing, and keep what they reached."""
    cohort, references = arguments.cohort, arguments.references or arguments.cohort
    if cohort is None:
        cohort = write_cohort(arguments.work / "scans", subjects=6)
        references = cohort.with_name("references")
    out = arguments.work / arguments.name
    experiment = Experiment.find(
        cohort,
        references,
        arguments.prior,
        out,
        prior_options=arguments.prior_option,
        settings=read_words(arguments.set, "--set"),
        modalities=arguments.modalities and arguments.modalities.split(","),
        folds=arguments.folds,
        overwrite=True,
    )
    ablate(experiment, arguments.arms.split(","), [int(seed) for seed in arguments.seeds.split(",")], progress=True)
    arguments.results.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(experiment.results.path, arguments.results / f"pipeline-{arguments.name}.jsonl")


def write(results: Path, *, halves: bool = False) -> None:
    """Write the table of every file of results, with that of the halves if it is wanted or was there before."""
    for path in sorted(results.glob("pipeline-*.jsonl")):
        description, outcomes = read_results(path)
        arms = tabulate(outcomes, published(description["prior"]["name"], description["modalities"]))
        rows = [row.cells() for row in arms]
        columns = [name for name, key in COLUMNS.items() if any(row[key] is not None for row in rows)]
        table = _table(columns, [[_cell(row[COLUMNS[name]]) for name in columns] for row in rows])
        subjects = by_subject(arms)
        listed = _table(list(subjects[0]), [list(line.values()) for line in subjects])
        page = path.with_suffix(".md")
        known = page.exists() and HALVES in page.read_text()
        split = f"{HALVES}\n\n{_halves(arms)}\n" if halves or known else ""
        page.write_text(f"{_heading(description, rows)}\n\n{table}\n{split}{SUBJECTS}\n\n{listed}")


def _halves(arms: Sequence[ArmRow]) -> str:
    """The table of mean Dice of odd and even subjects, sorted by name, and of all."""
    parts = {"odd": slice(0, None, 2), "even": slice(1, None, 2), "all": slice(None)}
    lines = []
    for row in arms:
        dice = [row.subjects[subject]["dice"] for subject in sorted(row.subjects)]
        lines.append([row.arm, *(_cell(fmean(dice[part])) if dice[part] else "" for part in parts.values())])
    count = len(arms[0].subjects)
    return _table(["arm", *(f"{name} ({len(range(count)[part])})" for name, part in parts.items())], lines)


def _heading(description: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    protocol, prior = description["protocol"], description["prior"]
    options = [f"{name} {value}" for name, value in prior["options"].items() if isinstance(value, int | float | str)]
    prior = f"{prior['name']} ({', '.join(options)})" if options else prior["name"]
    count = rows[0]["subjects"]
    scored = "held-out subjects" if protocol["hold_out"] else "the subjects trained on, without labels"
    notes = {
        "oracle": "oracle, a bound that uses the references: the prior cut at each subject's best threshold.",
        "supervised": "supervised, another: the network trained on the references and scored on held-out subjects "
        f"({min(protocol['folds'], count)} folds).",
    }
    return " ".join(
        [
            f"{count} subjects, {', '.join(description['modalities'])}; prior {prior}, "
            f"{description['settings']['steps']} steps. Scored on {scored}. "
            "p: Wilcoxon signed-rank of Dice over the subjects, two-sided. "
            "paper: what Yu, Zhao et al. report with this kind of prior on BraTS or, for CT, CQ500.",
            *(notes[row["arm"]] for row in rows if row["arm"] in notes),
        ]
    )


def _table(columns: list[str], lines: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in [columns, ["---"] * len(columns), *lines])


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    add_arguments(parser)
    run(parser.parse_args())
