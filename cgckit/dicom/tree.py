"""`Tree`: the images in all files below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cgckit.dicom.slices import Slice, UnreadableError, read_slices
from cgckit.errors import BadInputError


@dataclass
class Tree:
    """All that was found below a folder.

    Attributes:
        slices: in the order of their files.
        unreadable: files that say that they are DICOM and cannot be used, and why.
        others: how many files are no DICOM.
        copies: how many files repeat another one.
    """

    slices: list[Slice] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)
    others: int = 0
    copies: int = 0


def read_tree(folder: Path, step: Callable[[], None] = lambda: None) -> Tree:
    """Read the headers of all DICOM files below a folder, or of one file; `step` is called for each.

    Raises:
        BadInputError: there is no such folder, or none of its files is DICOM.
    """
    tree = Tree()
    seen: set[tuple[str, int]] = set()
    for path in list_files(folder):
        step()
        try:
            slices = read_slices(path)
        except UnreadableError as error:
            tree.unreadable[path] = str(error)
            continue
        if slices is None:
            tree.others += 1
            continue
        fresh = [item for item in slices if (item.instance_uid, item.frame) not in seen]
        tree.copies += len(fresh) < len(slices)
        seen.update((item.instance_uid, item.frame) for item in fresh)
        tree.slices += fresh
    if not tree.slices and not tree.unreadable:
        raise BadInputError(f"{folder}: none of its {tree.others} files is DICOM")
    return tree


def list_files(folder: Path) -> list[Path]:
    """All files below a folder by name; a folder that links lead to twice is listed once."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise BadInputError(f"{folder}: no such file or folder")
    found: list[Path] = []
    seen: set[str] = set()

    def fail(error: OSError) -> None:
        raise BadInputError(f"{error.filename}: cannot be listed ({error.strerror})") from error

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        found += [path for name in sorted(names) if os.path.isfile(path := Path(parent, name))]
    return found
