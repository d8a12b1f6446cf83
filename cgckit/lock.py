"""One run at a time in an output folder."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cgckit.errors import BadInputError, UsageError

logger = logging.getLogger(__name__)

LOCK = Path("work", "lock")
"""The file in an output folder that is locked; it stays, and says who held it last."""


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a file, made if it is not there, for as long as the block runs; wait for whoever holds it.

    Raises:
        BadInputError: it cannot be written.
    """
    descriptor = _opened(path)
    try:
        with suppress(OSError):  # a file system without locks; `locked` has said so
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold an output folder for as long as the block runs. The system gives it back if the process is killed.

    Args:
        folder: the output folder.
        shared: others may hold it too who say the same.

    Raises:
        UsageError: another run is at work there.
        BadInputError: the folder cannot be written.
    """
    path = folder / LOCK
    descriptor = _opened(path)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(folder, descriptor) from None
        except OSError as error:  # a file system without locks
            logger.warning("%s: cannot be locked (%s); start no second run there", folder, error.strerror)
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
        except OSError as error:
            raise BadInputError(f"{path}: cannot be written ({error.strerror})") from error
        yield
    finally:
        os.close(descriptor)


def check_unlocked(folder: Path) -> None:
    """Raise UsageError if another run is at work in an output folder; nothing is written."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # nobody was at work there yet
        return
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _taken(folder, descriptor) from None
    finally:
        os.close(descriptor)


def _taken(folder: Path, descriptor: int) -> UsageError:
    holder = os.read(descriptor, 200).decode(errors="replace").strip()
    return UsageError(
        f"{folder}: another run of cgckit is at work there ({holder or 'it has just begun'}); wait for it to "
        "end, or choose another --out"
    )


def _opened(path: Path) -> int:
    """A descriptor of a file to be locked, made if it is not there; BadInputError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be written ({error.strerror})") from error
