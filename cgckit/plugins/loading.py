"""Getting a class that a user names: `FILE.py:Class`."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from pathlib import Path

from cgckit.errors import PluginError, UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""What a registered name looks like; others could not be told from a path or a fusion of priors."""

FILE_CLASS = re.compile(r"(?P<file>.+\.py):(?P<name>\w+)")


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


def import_class(file: Path, name: str) -> object:
    """Run a Python file and return its attribute `name`.

    Raises:
        UsageError: there is no such file, or nothing of that name in it.
        PluginError: the file cannot be run.
    """
    if not file.is_file():
        raise UsageError(f"{file}:{name}: there is no file {file}")
    # The content is part of the name, so that an edited file is another plug-in to a cache, a moved one is not.
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    module_name = f"cgckit_plugin_{file.stem}_{digest}"
    specification = importlib.util.spec_from_file_location(module_name, file)
    if specification is None or specification.loader is None:
        raise UsageError(f"{file}:{name}: {file} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look their annotations up in the registered module.
    sys.modules[module_name] = module
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise PluginError(f"{file}:{name}: the file cannot be run: {describe_error(error)}") from error
    if not hasattr(module, name):
        classes = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module_name]
        raise UsageError(f"{file}:{name}: no {name} in the file; it has {', '.join(classes) or 'no class'}")
    found: object = getattr(module, name)
    return found


def describe_error(error: BaseException) -> str:
    """Return an error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
