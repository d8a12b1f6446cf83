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
    recorded elsewhere. What is imported runs as it was when this process first looked, and is hashed as it was.
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
        for content in sorted({_digest(file, kind.__module__ if file == own else "") for file in files}):
            digest.update(content)
    except OSError:
        return None
    return digest.hexdigest()[:16]


@lru_cache(maxsize=4096)
def _digest(file: Path, module: str) -> bytes:
    """Hash of a file as it was when it was first asked for: an edited module is not imported again.

    A `FILE.py` is; but then it is another `module`.
    """
    return hashlib.sha256(file.read_bytes()).digest()


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
        for other in _imports(file, name):
            parts = other.split(".")
            # A package runs before its modules; that of everything counts by its version.
            packages = [".".join(parts[:end]) for end in range(1, len(parts))]
            waiting += [other, *(package for package in packages if package != start.partition(".")[0])]
    return frozenset(found.values())


def _file_of(name: str, start: str, home: str | None) -> Path | None:
    """The source of a module, if it is of the same author as `start`: in its package, or below the folder of `home`.

    The latter is for a file alone, whose neighbours count although they may not be imported yet.
    """
    top = start.partition(".")[0]
    if name == top or name.startswith(f"{top}."):
        origin = getattr(sys.modules.get(name), "__file__", None)
        if origin is None:
            try:
                specification = find_spec(name)
            except (ImportError, ValueError):
                specification = None
            origin = specification.origin if specification else None
        return Path(origin) if origin is not None and origin.endswith(".py") else None
    if "." in start or home is None:
        return None
    place = Path(home).parent.joinpath(*name.split("."))
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


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
