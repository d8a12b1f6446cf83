"""`python -m benchmarks pipeline --halves`: odd and even subjects beside all of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import pipeline


def write_results(folder: Path, dice: dict[str, Sequence[float]], names: Sequence[str]) -> Path:
    """A file of results of arms without labels, with one seed."""
    description = {
        "key": "k",
        "prior": {"name": "gmm", "options": {}},
        "modalities": ["flair"],
        "protocol": {"hold_out": False, "folds": 5},
        "settings": {"steps": 5},
    }
    outcomes = [
        {
            "arm": arm,
            "uses_labels": False,
            "fold": None,
            "seed": 0,
            "unit": arm,
            "settings": {},
            "training": {},
            "seconds": {},
            "scores": [
                {"subject": name, "map": "output", "dice": value, "sensitivity": value, "assd": 1.0}
                for name, value in zip(names, values, strict=True)
            ],
        }
        for arm, values in dice.items()
    ]
    path = folder / "pipeline-x.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [description, *outcomes]))
    return path


def show(folder: Path, *words: str) -> list[str]:
    """The rows of the table of halves after a call that measures nothing."""
    parser = argparse.ArgumentParser()
    pipeline.add_arguments(parser)
    pipeline.run(parser.parse_args(["--show", "--results", str(folder), *words]))
    text = (folder / "pipeline-x.md").read_text()
    if pipeline.HALVES not in text:
        return []
    return text.split(pipeline.HALVES)[1].split(pipeline.SUBJECTS)[0].strip().splitlines()


def test_odd_and_even_subjects_are_counted_by_name(tmp_path: Path) -> None:
    write_results(tmp_path, {"prior": [0.9, 0.1, 0.2], "both": [0.6, 0.5, 0.8]}, ["c", "a", "b"])
    assert show(tmp_path) == []
    table = ["| arm | odd (2) | even (1) | all (3) |", "| --- | --- | --- | --- |"]
    table += ["| prior | 0.500 | 0.200 | 0.400 |", "| both | 0.550 | 0.800 | 0.633 |"]
    assert show(tmp_path, "--halves") == table
    assert show(tmp_path) == table, "a table that is there is kept, and written again"


def test_one_subject_has_no_other_half(tmp_path: Path) -> None:
    write_results(tmp_path, {"prior": [0.9]}, ["a"])
    assert show(tmp_path, "--halves")[-1] == "| prior | 0.900 |  | 0.900 |"


@pytest.mark.parametrize("path", sorted(pipeline.RESULTS.glob("pipeline-*.jsonl")), ids=lambda path: path.stem)
def test_what_was_measured_can_be_halved(path: Path, tmp_path: Path) -> None:
    (tmp_path / "pipeline-x.jsonl").write_text(path.read_text())
    rows = show(tmp_path, "--halves")
    assert len(rows) > 3
    assert all(row.count("|") == 5 for row in rows)
