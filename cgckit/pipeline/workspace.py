"""The output folder of a run: whose it is, what of it is done, and what is left over when it is complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cgckit.atomic import atomic_write
from cgckit.derivatives import Derivatives
from cgckit.errors import UsageError

_RECORD = "run.json"


class Workspace:
    """An output folder that belongs to the run with a certain key.

    `work/priors` caches prior maps across runs; `work/run` holds what an interrupted run needs to go on.

    Args:
        out: the folder; made if it is not there.
        key: digest of everything that the run's result depends on.
        overwrite: remove what a run with another key left there.

    Raises:
        BadInputError: the folder cannot be written.
        UsageError: it holds another run, and `overwrite` is false.
    """

    def __init__(self, out: Path, key: str, overwrite: bool) -> None:
        self.out = Derivatives.create(out)
        self.key = key
        self.scratch = self.out.root / "work" / "run"
        self.priors = self.out.root / "work" / "priors"
        record = self.out.root / _RECORD
        if record.exists() and self.read(record) is None:
            if not overwrite:
                raise UsageError(
                    f"{out}: holds a run with other inputs, options or versions; "
                    "choose another --out, or pass --overwrite"
                )
            self._clear()

    def read(self, path: Path) -> dict[str, Any] | None:
        """The content of a JSON file that this run wrote, or None: not there, unreadable, or of another run."""
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if content.get("key") == self.key else None

    def write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a JSON file that `read` recognises as this run's."""
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps({"key": self.key, **content}, indent=2) + "\n", encoding="utf-8")

    def record(self, content: Mapping[str, Any]) -> None:
        """Write `run.json`."""
        self.write(self.out.root / _RECORD, content)

    def once(self, stage: str, label: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The outcome of `do` for one subject, from an earlier call of this run if it got that far."""
        marker = self.scratch / stage / f"{label}.json"
        content = self.read(marker)
        if content is None:
            content = {"outcome": do()}
            self.write(marker, content)
        outcome: dict[str, Any] = content["outcome"]
        return outcome

    def _clear(self) -> None:
        """Remove another run's results; its cached priors stay, they have keys of their own."""
        self.out.clear()
        for folder in (self.out.root / "model", self.scratch):
            shutil.rmtree(folder, ignore_errors=True)
