"""The folder of an export: new, empty, or an earlier export of the same kind, which is replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cgckit.derivatives import Derivatives
from cgckit.errors import UsageError
from cgckit.ledger import Ledger


@contextmanager
def export_folder(out: Path, kind: str, inputs: Iterable[Path]) -> Iterator[Ledger]:
    """Make a folder ready for an export; what an earlier one of its `kind` left is removed first.

    Args:
        out: the folder.
        kind: what is exported, in a word.
        inputs: folders that are read: none of them may be `out` or hold it.

    Yields:
        The ledger, to note every file in before it is written.

    Raises:
        UsageError: it holds something else.
        BadInputError: it cannot be written.
    """
    for path in inputs:
        real = path.resolve()
        if out.resolve() == real or real in out.resolve().parents:
            raise UsageError(f"{out}: lies in {path}, which is read; choose another folder")
    ledger = Ledger(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; give a folder")
    if out.is_dir() and any(out.iterdir()) and ledger.run != f"export {kind}":
        raise UsageError(f"{out}: holds something else than an earlier export; choose a new folder")
    Derivatives.create(out)
    if ledger.exists:
        ledger.clear()
    ledger.start(f"export {kind}")
    yield ledger
