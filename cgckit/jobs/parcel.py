"""`Parcel`: a step as it is sent to another process, and `Outcome`: what comes back."""

from __future__ import annotations

import logging
import os
import pickle
import platform
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import cloudpickle
import torch

from cgckit.errors import CgckitError, PluginError, UsageError
from cgckit.jobs.step import Doer
from cgckit.lock import alone
from cgckit.plugins.blame import describe_error
from cgckit.plugins.loading import files_of_modules, import_file
from cgckit.version import __version__

logger = logging.getLogger(__name__)

_WATCH_EVERY_S = 0.5


@dataclass(frozen=True)
class Outcome:
    """What a step gave for a subject in another process.

    Attributes:
        value: what it returned.
        error: what it raised; None if it did not.
        details: the error with its traceback.
        records: what was logged meanwhile.
    """

    value: dict[str, Any] | None
    error: Exception | None
    details: str
    records: list[logging.LogRecord]

    def get(self) -> dict[str, Any]:
        """Log what was logged, then return or raise, as if the step had been done here."""
        for record in self.records:
            origin = logging.getLogger(record.name)
            if origin.isEnabledFor(record.levelno):
                origin.handle(record)
        if self.error is not None:
            logger.debug("in another process:\n%s", self.details)
            raise self.error
        if self.value is None:
            raise CgckitError("another process gave nothing back")
        return self.value


@dataclass(frozen=True)
class Parcel:
    """A step, pickled, with what a process needs to know before it can open it.

    Attributes:
        token: tells parcels apart; a process opens each once.
        content: the step.
        plugins: the `FILE.py`s that classes in it come from.
        threads: that a subject is worked on with.
        level: from which on is logged.
        folder: the working directory that paths start from.
        version: of cgckit.
        parent: the process without which there is nothing to work for; None if it is on another machine.
        locks: folder of a lock for each subject, where a process that was given up may be at work still.
    """

    token: str
    content: bytes
    plugins: tuple[Path, ...]
    threads: int
    level: int
    folder: str
    version: str
    parent: int | None = None
    locks: Path | None = None

    @classmethod
    def of(cls, step: Doer[Any], threads: int, parent: int | None = None, locks: Path | None = None) -> Parcel:
        """Pack a step.

        Raises:
            UsageError: it cannot be pickled, as a plug-in that holds an open file.
        """
        try:
            content = cloudpickle.dumps(step)
        except Exception as error:
            raise UsageError(
                f"a plug-in cannot be sent to other processes ({describe_error(error)}); run it with one job"
            ) from error
        plugins = tuple(file for name, file in files_of_modules().items() if name.encode() in content)
        level = logging.getLogger("cgckit").getEffectiveLevel()
        return cls(uuid4().hex, content, plugins, threads, level, os.getcwd(), __version__, parent, locks)

    def open(self) -> Doer[Any]:
        """The step; UsageError if what it was made of is not what this process finds."""
        if self.version != __version__:
            raise UsageError(
                f"{platform.node()} has cgckit {__version__}, and the run {self.version}: install that there"
            )
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise UsageError(
                f"{platform.node()} has no folder {self.folder} ({error.strerror}): all processes need the same files"
            ) from error
        torch.set_num_threads(self.threads)
        if self.parent is not None:
            _end_with(self.parent)
        try:
            for file in self.plugins:
                import_file(file)
            # It comes from the first process of this very run.
            step: Doer[Any] = pickle.loads(self.content)  # nosec B301
        except CgckitError:
            raise
        except Exception as error:
            raise UsageError(
                f"a plug-in cannot be used in another process ({describe_error(error)}); run it with one job"
            ) from error
        return step


_opened: dict[str, Doer[Any]] = {}
_one_at_a_time = threading.Lock()


def work(parcel: Parcel, item: Any) -> Outcome:
    """Do a step for a subject, or the like, in a process that was made for that; what goes wrong is in the outcome."""
    value, failure, details = None, None, ""
    lock = nullcontext() if parcel.locks is None else alone(parcel.locks / f"{item.label}.lock")
    with _one_at_a_time, _overheard(parcel.level) as records:
        try:
            if parcel.token not in _opened:
                _opened.clear()
                _opened[parcel.token] = parcel.open()
            with lock:
                value = _opened[parcel.token].do(item)
        except BaseException as error:
            failure, details = _portable(error), traceback.format_exc()
    return Outcome(value, failure, details, records)


class _Overhearing(logging.Handler):
    """Keeps what this thread logs, as text that can be pickled."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self.records = records
        self.own = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self.own:
            return
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self.records.append(record)


@contextmanager
def _overheard(level: int) -> Iterator[list[logging.LogRecord]]:
    """What is logged in the block, by cgckit from `level` on, by others as they like."""
    records: list[logging.LogRecord] = []
    handler, root = _Overhearing(records), logging.getLogger()
    logging.getLogger("cgckit").setLevel(level)
    root.addHandler(handler)
    try:
        yield records
    finally:
        root.removeHandler(handler)


def _portable(error: BaseException) -> Exception:
    """The error, if it is the same after a journey; else one that says the same."""
    if not isinstance(error, Exception):
        return PluginError(f"a plug-in left the interpreter ({describe_error(error)}): it must raise an error instead")
    try:
        arrived = pickle.loads(pickle.dumps(error))  # nosec B301
        if type(arrived) is type(error) and str(arrived) == str(error):
            return error
    except Exception as failure:
        logger.debug("an error that cannot be pickled", exc_info=failure)
    if isinstance(error, CgckitError):
        return PluginError(str(error))
    return RuntimeError(describe_error(error))


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, however that came: what it would write is nobody's."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_EVERY_S)
        os._exit(1)

    if not any(thread.name == "cgckit-parent" for thread in threading.enumerate()):
        threading.Thread(target=watch, name="cgckit-parent", daemon=True).start()
