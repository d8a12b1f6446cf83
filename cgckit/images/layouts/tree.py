"""`Tree`: the image files below a folder."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cgckit.errors import BadInputError
from cgckit.images.modalities import is_image_file

log = logging.getLogger(__name__)

# What BIDS keeps apart from the scans: none of it is anybody's scan.
_NOT_SCANS = {"derivatives", "sourcedata", "code", "stimuli"}


@dataclass(frozen=True)
class Tree:
    """A folder and the image files in it and below it, sorted; hidden ones are passed over.

    A link that leads nowhere is an image like another here: whoever opens it says that it is missing.

    Attributes:
        root: the folder.
        files: of each folder that has some.
    """

    root: Path
    files: dict[Path, list[Path]]

    @classmethod
    def of(cls, root: Path) -> Tree:
        """List a folder.

        Raises:
            BadInputError: it, or one below it, cannot be listed.
        """
        files: dict[Path, list[Path]] = {}
        for path in _walk(root, set()):
            files.setdefault(path.parent, []).append(path)
        return cls(root, files)

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [path for paths in self.files.values() for path in paths]


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """The image files in a folder and those below it; a folder that links lead to twice is walked once."""
    try:
        here = folder.resolve()
        if here in seen:
            return
        seen.add(here)
        modes = {path: _mode(path) for path in sorted(folder.iterdir())}
    except (OSError, RuntimeError) as error:  # before Python 3.13, a link in a circle is the latter
        raise BadInputError(f"{folder}: cannot be listed ({getattr(error, 'strerror', error)})") from error
    for path, mode in modes.items():
        if mode == 0 and not is_image_file(path.name) and path.suffix == "":
            log.warning("%s: a link to a folder that is not there; whoever is in it is left out", path)
        if is_image_file(path.name) and (stat.S_ISREG(mode) or mode == 0):
            yield path
    for path, mode in modes.items():
        if stat.S_ISDIR(mode) and not path.name.startswith(".") and path.name not in _NOT_SCANS:
            yield from _walk(path, seen)


def _mode(path: Path) -> int:
    """What a path is, as `stat` says; 0 for a link that leads nowhere."""
    try:
        return path.stat().st_mode
    except PermissionError:
        raise
    except OSError:
        return 0


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its ending, or by the letters that stand after its preamble."""
    if not os.path.isfile(path):
        return False
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
