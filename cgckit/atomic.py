"""Writing files so that a killed process leaves either the old content or the new, never half of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cgckit.errors import BadInputError

TEMPORARY_PREFIX = ".partial-"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`, to be written inside the `with` block.

    When the block ends the file is flushed to disk and renamed to `path`, so that readers see the old file or the
    whole new one; if the block raises, the temporary file is removed. The temporary name depends on `path` alone:
    what a killed run left behind is overwritten by the next, and a path has one writer at a time. Missing folders are
    made.

    Raises:
        BadInputError: if the folder or file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # were it a link, its target would be written to
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except BaseException as error:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BadInputError(f"{path}: cannot be written ({error.strerror or error})") from error
        raise


def _flush(path: Path) -> None:
    """Have the system put a file or folder on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
