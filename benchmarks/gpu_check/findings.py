"""Findings as lines of JSON."""

from __future__ import annotations

import json
from pathlib import Path


class Findings:
    """Writes a line a finding, to a file and to the terminal, and knows whether one was bad."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.bad = 0

    def note(self, good: bool, **values: object) -> None:
        """Write down what was found, and whether it is as it should be."""
        self.bad += not good
        self._write({"ok": bool(good), **values})

    def skip(self, **values: object) -> None:
        """Write down what was not looked at, and why."""
        self._write({"ok": None, **values})

    def _write(self, line: dict[str, object]) -> None:
        text = json.dumps(line)
        print(text, flush=True)
        with self._path.open("a") as file:
            file.write(text + "\n")
