"""`Ledger`: which files of an output folder cgckit wrote, for which run, and whether they are as it wrote them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cgckit.atomic import TEMPORARY_PREFIX, atomic_write
from cgckit.errors import BadInputError, UsageError
from cgckit.sealed import file_digest, read_file

LEDGER = "written.jsonl"
_GONE = "removed"


class Ledger:
    """The file `written.jsonl` of an output folder: a line that names the run, then lines that name files.

    A file is named before it is written and, with its SHA-256, afterwards; the last line about it counts. Lines that
    a killed run or a full disk cut short are passed over: what they spoke of counts as unfinished.

    Args:
        root: the output folder; it need not exist.

    Attributes:
        run: key of the run that the folder belongs to; None if there is none, or the line that named it was damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / LEDGER
        self.run: str | None = None
        self._files: dict[str, str | None] = {}
        self._load()

    def __contains__(self, path: Path) -> bool:
        """Whether a file below the folder is one of cgckit's."""
        return self._name(path) in self._files

    @property
    def exists(self) -> bool:
        """Whether cgckit has written into the folder."""
        return self.path.exists()

    def start(self, run: str, keep: Iterable[Path] = ()) -> None:
        """Begin anew: the folder belongs to `run`, and holds nothing of cgckit but the files to `keep`.

        Raises:
            BadInputError: the file cannot be written.
        """
        kept = [path for path in keep if path in self]
        with atomic_write(self.path) as temporary:
            temporary.write_text(json.dumps({"run": run}) + "\n", encoding="utf-8")
        self.run, self._files = run, {}
        self._note({self._name(path): None for path in kept})

    def adopt(self, run: str) -> None:
        """Name the run again, where the line that did was damaged.

        Raises:
            BadInputError: the file cannot be written.
        """
        self._append([{"run": run}])
        self.run = run

    def refuse_others(self, paths: Iterable[Path]) -> None:
        """Refuse to write files that somebody else wrote, and to write through a link.

        Raises:
            UsageError: one of the files is there and not cgckit's, or its folder is a link.
        """
        for path in paths:
            if link := self._link(path):
                raise UsageError(
                    f"{link}: is a link, and cgckit writes through none inside its output folder; choose another --out"
                )
            if path not in self and os.path.lexists(path):
                raise UsageError(
                    f"{path}: is there and was not written by cgckit, as {LEDGER} does not name it; choose another "
                    "--out, or move it away"
                )

    def intend(self, paths: Iterable[Path]) -> None:
        """Name files that are about to be written.

        Raises:
            UsageError: as `refuse_others`.
            BadInputError: the ledger cannot be written.
        """
        wanted = list(paths)
        self.refuse_others(wanted)
        self._note({self._name(path): None for path in wanted if path not in self})

    def record(self, paths: Iterable[Path]) -> None:
        """Note what is in files that were written; those that are not there are passed over.

        Raises:
            BadInputError: a file cannot be read, or the ledger cannot be written.
        """
        found = {self._name(path): _digest(path) for path in paths if path.exists()}
        self._note({name: digest for name, digest in found.items() if self._files.get(name) != digest})

    def is_whole(self, path: Path) -> bool:
        """Whether a file is there and as it was recorded."""
        known = self._files.get(self._name(path))
        try:
            return known is not None and file_digest(path) == known
        except OSError:
            return False

    def remove(self, path: Path) -> bool:
        """Remove a file if it is there as it was recorded; gives whether it was.

        Raises:
            BadInputError: it cannot be removed, or the ledger cannot be written.
        """
        if not self.is_whole(path):
            return False
        self._remove(path)
        self._note({self._name(path): _GONE})
        return True

    def remove_below(self, folder: Path, keep: Iterable[Path] = ()) -> bool:
        """Remove what was written into a folder, as `remove` does, with the folders that this leaves empty.

        Args:
            folder: the root, or a folder below it.
            keep: files that stay.
        """
        kept = {self._name(path) for path in keep}
        below = [
            path for name in list(self._files) if name not in kept and folder in (path := self.root / name).parents
        ]
        removed = [path for path in below if self.remove(path)]
        for path in removed:
            self._prune(path)
        return bool(removed)

    def sweep(self) -> None:
        """Remove what a killed run was writing."""
        for path in map(self.root.joinpath, self._files):
            self._remove(path.with_name(TEMPORARY_PREFIX + path.name))

    def clear(self, keep: Iterable[Path] = ()) -> None:
        """Remove the files that are named, and the folders that this leaves empty; no link is followed.

        Raises:
            BadInputError: a file cannot be removed.
        """
        self.sweep()
        kept = {self._name(path) for path in keep}
        for path in [self.root / name for name in self._files if name not in kept]:
            self._remove(path)
            self._prune(path)

    def _prune(self, path: Path) -> None:
        """Remove the folders that a removed file leaves empty."""
        for folder in path.parents[: len(path.relative_to(self.root).parts) - 1]:
            if folder.is_symlink() or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()

    def _remove(self, path: Path) -> None:
        if self._link(path) is not None:
            return
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise BadInputError(f"{path}: cannot be removed ({error.strerror})") from error

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _link(self, path: Path) -> Path | None:
        """The first folder between the root and a file that is a link."""
        folders = list(path.parents)[: len(path.relative_to(self.root).parts) - 1]
        return next((folder for folder in reversed(folders) if folder.is_symlink()), None)

    def _load(self) -> None:
        try:
            lines = read_file(self.path).decode(errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            try:
                content = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(content, dict):
                continue
            if isinstance(content.get("run"), str):
                self.run = content["run"]
            name = content.get("path")
            # A name that leads out of the folder is none that cgckit wrote.
            if isinstance(name, str) and name and not name.startswith("/") and ".." not in name.split("/"):
                self._files[name] = content.get("sha256")
        self._files = {name: digest for name, digest in self._files.items() if digest != _GONE}

    def _note(self, files: Mapping[str, str | None]) -> None:
        if files:
            self._append([{"path": name, "sha256": digest} for name, digest in files.items()])
        self._files = {name: digest for name, digest in {**self._files, **files}.items() if digest != _GONE}

    def _append(self, content: Sequence[Mapping[str, str | None]]) -> None:
        lines = "".join(json.dumps(line) + "\n" for line in content)
        try:
            with open(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666), "rb+") as file:
                with suppress(OSError):  # a file system without locks, where one run at a time is at work
                    fcntl.flock(file.fileno(), fcntl.LOCK_EX)
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                torn = file.read() not in (b"", b"\n")  # by a run that was killed, or by a full disk
                file.write(("\n" * torn + lines).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise BadInputError(f"{self.path}: cannot be written ({error.strerror})") from error


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error
