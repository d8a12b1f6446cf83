"""`python -m benchmarks table1`: the kept table is made of the JSON lines alone, by the command's own rules."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import table1

MEASURED = sorted(table1.RESULTS.glob("table1-*.jsonl"))
QUICK = ["spacing=4", "crop=16,16,16", "widths=4,4,4,4", "projection=4", "batch=1", "steps=1", "starting_weight=0"]


def run(*words: object) -> None:
    parser = argparse.ArgumentParser()
    table1.add_arguments(parser)
    table1.run(parser.parse_args([str(word) for word in words]))


def test_it_keeps_what_the_command_measured(write_cohort: Callable[..., Path], tmp_path: Path) -> None:
    scans, kept = write_cohort(2), tmp_path / "kept"
    where = ("--cohort", scans, "--references", f"{scans}-references", "--results", kept, "--work", tmp_path / "work")
    options = ("--name", "x", "--rows", "ours:gmm,gmm", *(f"--set={word}" for word in QUICK))
    run(*where, *options)
    mine, its = (kept / "table1-x.md").read_text(), (tmp_path / "work" / "table1-x" / "table1.md").read_text()
    rows = [line for line in mine.splitlines() if line.startswith("| ")]
    assert set(its.splitlines()[4:6]) < set(rows), "the same figures"
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert names.index("mumford-shah") < names.index("gmm") < names.index("Ours (P from gmm)"), "in the paper's order"
    assert "| gmvae | not measured | - | - | - | - | 0.4418 | 0.5374 |" in mine
    assert not (kept / "table1-x.png").exists(), "pictures of scans are kept of simulated ones alone"


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_the_kept_tables_are_those_of_their_lines(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path)
    table1.write(tmp_path)
    assert (tmp_path / path.with_suffix(".md").name).read_text() == path.with_suffix(".md").read_text()


def test_the_documentation_shows_the_kept_table() -> None:
    page = (table1.RESULTS.parents[1] / "docs" / "measured.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- table1 -->")[2].partition("<!-- /table1 -->")[0].strip()
    kept = (table1.RESULTS / "table1-open-ms.md").read_text(encoding="utf-8").split("\n\n")[1].strip()
    assert shown == kept
    assert shown.startswith("| row | Dice |")
