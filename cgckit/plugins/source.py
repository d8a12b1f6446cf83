"""The source that a class depends on, as a hash: results that were kept belong to one state of it."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path


def source_hash(kind: type) -> str | None:
    """Hash the code that a class runs, as far as it is its author's; None for a class typed in a session.

    That is the modules of the class and of its bases, and what they import, directly or through others, of their own
    packages or, for a file alone, of the folder that it lies in. Libraries count by their versions, which are
    recorded elsewhere.
    """
    files: set[Path] = set()
    for base in kind.__mro__:
        if base is not object:
            files |= sources(base.__module__)
    try:
        own = Path(inspect.getfile(kind))
    except (OSError, TypeError):
        return None
    files.add(own)
    digest = hashlib.sha256()
    try:
        for content in sorted({hashlib.sha256(file.read_bytes()).digest() for file in files}):
            digest.update(content)
    except OSError:
        return None
    return digest.hexdigest()[:16]


def sources(module: str) -> frozenset[Path]:
    """The source files of a module and of all that it imports of its author's."""
    return _reached(module, getattr(sys.modules.get(module), "__file__", None))


@lru_cache(maxsize=256)
def _reached(start: str, home: str | None) -> frozenset[Path]:
    """`sources` of a module that lies in the file `home`: one of that name may lie elsewhere later."""
    found: dict[str, Path] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        file = _file_of(name, start, home)
        if name in found or file is None:
            continue
        found[name] = file
        waiting += [other for other in _imports(file, name) if other not in found]
    return frozenset(found.values())


def _file_of(name: str, start: str, home: str | None) -> Path | None:
    """The source of a module, if it is of the same author as `start`: in its package, or beside its file `home`."""
    module = sys.modules.get(name)
    top = start.partition(".")[0]
    origin = getattr(module, "__file__", None)
    if origin is None and (name == top or name.startswith(f"{top}.")):
        try:
            specification = find_spec(name)
        except (ImportError, ValueError):
            specification = None
        origin = specification.origin if specification else None
    if origin is None or not origin.endswith(".py"):
        return None
    if name == top or name.startswith(f"{top}."):
        return Path(origin)
    alone = "." not in start and home is not None and Path(origin).parent == Path(home).parent
    return Path(origin) if alone else None


def _imports(file: Path, name: str) -> Iterator[str]:
    """The modules that a source file names in its imports; names of functions are among them, which lead nowhere."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
