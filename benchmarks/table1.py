"""`python -m benchmarks table1`: `cgckit table1`, kept: every prior alone and refined, the paper's figures beside.

`table1-NAME.jsonl` holds what was measured (`cgckit.experiments.results`), `table1-NAME.md` the table of it, and of a
simulated cohort `table1-NAME.png` the picture. A measurement that was interrupted or is given other rows goes on.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from cgckit.experiments.results import Outcome, read_results
from cgckit.experiments.table_one import table1
from cgckit.experiments.table_one.rows import heading, make_rows, to_markdown
from cgckit.experiments.table_one.systems import OURS, System, in_order, paper_systems
from cgckit.options import read_words
from cgckit.phantom import write_cohort

RESULTS = Path(__file__).parent / "results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="phantom", help="of the files of results (default phantom)")
    parser.add_argument("--cohort", type=Path, help="scans; by default six simulated subjects")
    parser.add_argument("--references", type=Path, help="reference masks; by default beside the scans")
    parser.add_argument("--rows", default="all", help="as of `cgckit table1` (default all)")
    parser.add_argument("--prior-option", action="append", default=[], metavar="KEY=VALUE", help="of the priors")
    parser.add_argument("--folds", type=int, help="cross-validate what needs no labels too")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a setting")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)")
    parser.add_argument("--show", action="store_true", help="measure nothing, write the tables again")
    parser.add_argument("--work", type=Path, default=Path("benchmarks-work"), help="folder for what is not kept")


def run(arguments: argparse.Namespace) -> None:
    if not arguments.show:
        measure(arguments)
    write(arguments.results)


def measure(arguments: argparse.Namespace) -> None:
    """Measure the rows that are missing, and keep what was found."""
    cohort, references = arguments.cohort, arguments.references or arguments.cohort
    simulated = cohort is None
    if simulated:
        cohort = write_cohort(arguments.work / "scans", subjects=6)
        references = cohort.with_name("references")
    out = arguments.work / f"table1-{arguments.name}"
    table1(
        cohort,
        references,
        out,
        rows=arguments.rows.split(","),
        prior_options=arguments.prior_option,
        settings=read_words(arguments.set, "--set"),
        folds=arguments.folds,
        progress=True,
    )
    arguments.results.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(out / "results.jsonl", arguments.results / f"table1-{arguments.name}.jsonl")
    if simulated:  # nobody's brain
        shutil.copyfile(out / "table1.png", arguments.results / f"table1-{arguments.name}.png")


def write(results: Path) -> None:
    """Write the table of every file of results; rows of the paper and refined priors that are not in it are named."""
    for path in sorted(results.glob("table1-*.jsonl")):
        description, outcomes = read_results(path)
        found = _complete(outcomes, len(description["inputs"]))
        measured = [System.read(name) for name in found]
        refined = [System.read(f"{OURS}:{system.prior}") for system in measured if system.prior]
        systems = in_order(list(dict.fromkeys((*measured, *paper_systems(), *refined))))
        missing = {system.name: "not in the file of results" for system in systems if system not in measured}
        rows = make_rows(systems, found, missing, description["modalities"])
        text = to_markdown(rows, heading(description, rows, _budgets(found)))
        path.with_suffix(".md").write_text(text, encoding="utf-8")


def _complete(outcomes: Sequence[Outcome], subjects: int) -> dict[str, list[Outcome]]:
    """The outcomes of each row that was measured on every subject; with other options, those measured last."""
    by_row: dict[str, dict[int | None, Outcome]] = {}
    for outcome in outcomes:
        by_row.setdefault(outcome.arm, {})[outcome.fold] = outcome
    return {
        name: list(found.values())
        for name, found in by_row.items()
        if len({item.subject for outcome in found.values() for item in outcome.scores}) == subjects
    }


def _budgets(found: dict[str, list[Outcome]]) -> str:
    """How long the priors were trained that are."""
    outcomes = [outcome for row in found.values() for outcome in row if outcome.prior]
    priors = {outcome.prior["name"]: outcome.prior["options"] for outcome in outcomes}
    return ", ".join(f"{name}.steps={options['steps']}" for name, options in priors.items() if "steps" in options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table1", description=__doc__)
    add_arguments(parser)
    run(parser.parse_args())
