"""Tables show what they are given, to the letter."""

from __future__ import annotations

import pytest

from cgckit.cli.tables import show_table


def test_brackets_are_shown_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"what": "crop [voxels]", "value": "48"}], title="Sizes [mm]")
    shown = capsys.readouterr().out
    assert "crop [voxels]" in shown
    assert "Sizes [mm]" in shown
