"""The command line as a user calls it, in this process so that torch is imported once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from cgckit.cli.main import main


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def cgckit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ending]:
    """Call `cgckit` with arguments; what native code prints is captured too."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Ending:
        monkeypatch.setattr(sys, "argv", ["cgckit", *map(str, arguments)])
        capfd.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ending:
            code = ending.code or 0
        printed = capfd.readouterr()
        assert isinstance(code, int), f"the exit code is {code!r}"
        return Ending(code, printed.out, printed.err)

    return call
