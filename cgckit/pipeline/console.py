"""Progress bars and log files of a run; both on stderr and on disk, never on stdout."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class _Rate(TextColumn):
    def __init__(self) -> None:
        super().__init__("{task.speed:.2f}/s")

    def render(self, task):  # type: ignore[no-untyped-def]
        if task.speed is None:
            return ""
        return super().render(task)


def progress_bars(enabled: bool) -> Progress:
    """Bars with counts, rate, elapsed and remaining time; silent where `enabled` is false."""
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        disable=not enabled,
    )


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append everything that cgckit logs to `path` while the block runs, and the error that ends it."""
    logger = logging.getLogger("cgckit")
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    except BaseException as error:
        # To the file alone: whoever called says it in a way of their own.
        handler.emit(logger.makeRecord(logger.name, logging.ERROR, "", 0, f"{type(error).__name__}: {error}", (), None))
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
