"""Whether what is given is there to be read; nothing is imported for it that takes time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cgckit.errors import BadInputError


def check_file(path: Path) -> None:
    """Raise BadInputError unless `path` is a regular file: of a pipe or a device there would be no end."""
    if os.path.isfile(path):
        return
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for what can be no path
        if os.path.islink(path):
            raise BadInputError(
                f"{path}: a link to a file that is not there; fetch it, as with `git annex get` or `datalad get`"
            ) from None
        raise BadInputError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error
    raise BadInputError(f"{path}: not a regular file")


def check_places(inputs: Sequence[str], out: Path) -> None:
    """Check that inputs are there and an output folder can be: what a run would find out, seconds later.

    Raises:
        BadInputError: an input that is neither a folder nor a regular file, or a folder that cannot be written.
    """
    for path in map(Path, inputs):
        if not os.path.isdir(path) and path.suffix.lower() != ".img":  # of a pair, the header is what is read
            check_file(path)
    there = next((place for place in (out, *out.parents) if os.path.lexists(place)), Path())
    if not os.path.isdir(there):
        raise BadInputError(f"{out}: cannot be written ({there} is no folder)")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInputError(f"{out}: cannot be written (Permission denied)")
