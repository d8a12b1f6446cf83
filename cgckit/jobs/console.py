"""Progress bars and log files of a run; both on stderr and on disk, never on stdout."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from io import TextIOWrapper
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

from cgckit.errors import BadInputError


class _Rate(TextColumn):
    def __init__(self) -> None:
        super().__init__("{task.speed:.2f}/s")

    def render(self, task):  # type: ignore[no-untyped-def]
        if task.speed is None:
            return ""
        return super().render(task)


def bars_console() -> Console:
    """Where bars are drawn: on stderr. Those of a notebook need ipywidgets; without, they come once all is done."""
    return Console(stderr=True, force_jupyter=None if find_spec("ipywidgets") else False)


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
        console=bars_console(),
        disable=not enabled,
    )


class _LogFile(logging.FileHandler):
    """A log file that is no link, and whose last lines may get lost on a full disk: the run does not end by it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        return open(descriptor, "a", encoding=self.encoding)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is that of `logging`
        """Say nothing: what cannot be written here is on the screen."""


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append everything that cgckit logs to `path` while the block runs, and the error that ends it.

    Raises:
        BadInputError: the file cannot be opened.
    """
    logger = logging.getLogger("cgckit")
    try:
        handler = _LogFile(path)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be written ({error.strerror})") from error
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
        with suppress(OSError):  # the disk is full, and some of it was not written yet
            handler.close()
