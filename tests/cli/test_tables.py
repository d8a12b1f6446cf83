"""Tables show what they are given, to the letter."""

from __future__ import annotations

import pytest

from cgckit.cli.experiments.common import show_rows
from cgckit.cli.tables import show_table
from cgckit.experiments.results import OUTPUT, Outcome, Scored
from cgckit.experiments.table import tabulate


def test_brackets_are_shown_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"what": "crop [voxels]", "value": "48"}], title="Sizes [mm]")
    shown = capsys.readouterr().out
    assert "crop [voxels]" in shown
    assert "Sizes [mm]" in shown


def test_an_arm_without_a_metric_that_others_have_has_a_blank(capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"prior": {"dice": 0.5}, "both": {"dice": 0.75, "jaccard": 0.25}}
    outcomes = [
        Outcome(arm, False, None, 0, arm, {}, {}, {}, (Scored("a", OUTPUT, values),)) for arm, values in scores.items()
    ]
    show_rows(tabulate(outcomes, {}), "One subject")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("┃", "│"))]
    header, prior, both = ([cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")] for line in lines)
    column = header.index("mean jaccard")
    assert (prior[column], both[column]) == ("", "0.250")
    assert "ASSD [mm]" not in header
