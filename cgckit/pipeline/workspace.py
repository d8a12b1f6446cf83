"""The output folder of a run: whose it is, what of it is done, and what is left over when it is complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cgckit.atomic import atomic_write
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError, UsageError
from cgckit.images.cohort import Cohort
from cgckit.pipeline.console import log_file

RECORD, RESULTS = "run.json", "results.jsonl"
"""What tells the folder of a run, and that of an experiment."""


class Workspace:
    """An output folder that belongs to the run with a certain key; nothing is touched before `claim`.

    `work/priors` caches prior maps across runs; `work/run` holds what an interrupted run needs to go on.

    Args:
        out: the folder.
        key: digest of what the run's work depends on: prior maps and training.
        maps_key: digest of what its refined maps depend on besides. A run that is made again with another one keeps its
            work and makes its maps anew.

    Attributes:
        worked: the stages in which something was done, rather than found done.
    """

    def __init__(self, out: Path, key: str, maps_key: str = "") -> None:
        self.out = Derivatives(Path(out))
        self.key, self.maps_key = key, maps_key
        self.scratch = self.out.root / "work" / "run"
        self.priors = self.out.root / "work" / "priors"
        self.model = self.out.root / "model"
        self.checkpoint = self.scratch / "checkpoint.safetensors"
        self.worked: set[str] = set()

    def claim(self, overwrite: bool) -> None:
        """Make the folder this run's.

        Another run that failed before it had trained anything is replaced, so that a command works once its input is
        mended.

        Args:
            overwrite: remove what a run with another key left there.

        Raises:
            BadInputError: the folder cannot be written.
            UsageError: it holds another run, and `overwrite` is false; or it holds an experiment.
        """
        Derivatives.create(self.out.root)
        if (self.out.root / RESULTS).exists():
            raise UsageError(f"{self.out.root}: holds an experiment, not a run; choose another --out")
        record = self.out.root / RECORD
        if record.exists() and self.read(record) is None:
            if not overwrite and not self._gave_up():
                raise UsageError(
                    f"{self.out.root}: holds a run with other inputs, options or versions; "
                    "choose another --out, or pass --overwrite"
                )
            self._clear()

    def read(self, path: Path) -> dict[str, Any] | None:
        """The content of a JSON file that this run wrote, or None: not there, unreadable, or of another run."""
        content = _read_json(path)
        return content if content.get("key") == self.key else None

    def write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a JSON file that `read` recognises as this run's."""
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps({"key": self.key, **content}, indent=2) + "\n", encoding="utf-8")

    @contextmanager
    def session(self, cohort: Cohort, facts: dict[str, Any]) -> Iterator[None]:
        """Describe the folder, log to `cgckit.log` and keep `run.json` up to date while the block runs.

        `run.json` holds `facts`, which the block may add to, and a status: "running", "complete", or "failed" with
        the error. That of a complete run stays as it is: doing nothing took no time, and the run did. What earlier
        calls of the run found out ("training", "seconds") is in `facts` when the block begins.
        """
        record = self.out.root / RECORD
        earlier = self.read(record) or {}
        facts["maps_key"] = self.maps_key
        for name in ("training", "seconds"):
            if name in facts:
                facts[name] = {**earlier.get(name, {}), **facts[name]}
        with log_file(self.out.root / "cgckit.log"):
            if earlier.get("status") == "complete" and earlier.get("maps_key") == self.maps_key:
                yield
                return
            self.write(record, {"status": "running", **facts})
            self.out.remove_report()
            self.out.write_description()
            self.out.write_participants(cohort)
            try:
                yield
            except Exception as error:
                with suppress(BadInputError):  # a disk that is full: the first error is the one to tell
                    self.write(record, {"status": "failed", "error": str(error), **facts})
                raise
            self.write(record, {"status": "complete", **facts})

    def once(
        self,
        stage: str,
        label: str,
        do: Callable[[], dict[str, Any]],
        *,
        writes: Sequence[Path],
        maps_key: str = "",
    ) -> dict[str, Any]:
        """The outcome of `do` for one subject, from an earlier call of this run if it got that far.

        With a `maps_key`, from an earlier call with the same one. The files that `do` `writes` must still be there.
        """
        marker = self.scratch / stage / f"{label}.json"
        content = self.read(marker)
        done = content is not None and content.get("maps_key", "") == maps_key and all(map(Path.exists, writes))
        if content is None or not done:
            marker.unlink(missing_ok=True)  # it speaks of files that are about to be others
            content = {"outcome": do(), "maps_key": maps_key}
            self.write(marker, content)
            self.worked.add(stage)
        outcome: dict[str, Any] = content["outcome"]
        return outcome

    def _gave_up(self) -> bool:
        """Whether the run in the folder ended by an error before there was anything worth keeping."""
        failed = _read_json(self.out.root / RECORD).get("status") == "failed"
        return failed and not self.checkpoint.exists() and not self.model.exists()

    def _clear(self) -> None:
        """Remove another run's results; its cached priors stay, they have keys of their own."""
        self.out.clear()
        for folder in (self.model, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
