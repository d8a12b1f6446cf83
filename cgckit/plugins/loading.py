"""Getting a class that a user names: `FILE.py:Class`."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from cgckit.errors import UsageError
from cgckit.plugins.blame import blame

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""What a registered name looks like; others could not be told from a path or a fusion of priors."""

FILE_CLASS = re.compile(r"(?P<file>.+\.py):(?P<name>\w+)")

_NOTHING = object()
_files: dict[str, Path] = {}


def split_file(text: str) -> tuple[Path, str] | None:
    """Read `FILE.py:Class`; None if `text` is not of this form.

    Raises:
        UsageError: a Python file without a class.
    """
    if match := FILE_CLASS.fullmatch(text):
        return Path(match["file"]).expanduser(), match["name"]
    if text.endswith(".py"):
        raise UsageError(f"{text!r}: say which class of the file, as {text}:Class")
    return None


def files_of_modules() -> dict[str, Path]:
    """The file of every module that `import_file` made in this process, by the module's name."""
    return dict(_files)


def import_class(file: Path, name: str) -> object:
    """Run a Python file and return its attribute `name`.

    Raises:
        UsageError: there is no such file, or nothing of that name in it.
        PluginError: the file cannot be run.
    """
    module = _run(file, f"{file}:{name}")
    try:
        with blame(f"{file}:{name}: the file cannot be run"):
            found: object = getattr(module, name, _NOTHING)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    if found is _NOTHING:
        classes = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise UsageError(f"{file}:{name}: no {name} in the file; it has {', '.join(classes) or 'no class'}")
    return found


def import_file(file: Path) -> None:
    """Run a Python file, so that what was pickled of its classes in another process can be read; errors as above."""
    _run(file, str(file))


def _run(file: Path, what: str) -> ModuleType:
    """The module of a Python file; `what` is how messages begin."""
    if not file.is_file():
        raise UsageError(f"{what}: there is no file {file}")
    # The content is part of the name, so that an edited file is another plug-in to a cache, a moved one is not.
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise UsageError(f"{what}: {file} cannot be read ({error.strerror})") from error
    module_name = f"cgckit_plugin_{file.stem}_{digest}"
    # Run once: a second class of the file must not make another module of it, which the first one's objects are not of.
    if module_name in sys.modules and _files.get(module_name) == file.absolute():
        return sys.modules[module_name]
    specification = importlib.util.spec_from_file_location(module_name, file)
    if specification is None or specification.loader is None:
        raise UsageError(f"{what}: {file} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look their annotations up in the registered module.
    sys.modules[module_name] = module
    try:
        with blame(f"{what}: the file cannot be run"):
            specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    _files[module_name] = file.absolute()
    return module
