"""Writing files so that a killed process leaves either the old content or the new, never half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there on success, remove it if the block raises.

    The temporary name ends like `path`, because libraries choose their format by the ending.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    path = Path(path)
    suffix = "".join(path.suffixes[-2:])
    handle, name = tempfile.mkstemp(prefix=f".{path.name.removesuffix(suffix)}-", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
