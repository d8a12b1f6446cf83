"""The words that name a prior: `name`, `mask:PATTERN`, `FILE.py:Class`, and several joined by `+`."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from cgckit.errors import PluginError, UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""What a registered name looks like; others could not be told from a path or a fusion."""

_MASK = "mask:"
_FILE = re.compile(r"(?P<file>.+\.py):(?P<name>\w+)")


@dataclass(frozen=True)
class Specification:
    """One member of what the user wrote: exactly one of `name` (with a mask's `pattern`) and `file` is meant.

    Attributes:
        text: as the user wrote it.
        name: the registered name, or the class in `file`; options are addressed to it as `name.key=value`.
        pattern: what follows `mask:`, or None.
        file: the Python file that holds the class, or None.
    """

    text: str
    name: str
    pattern: str | None = None
    file: Path | None = None

    @classmethod
    def read(cls, text: str) -> Specification:
        """Read one member; UsageError if it is none of the three forms."""
        if text.startswith(_MASK):
            return cls(text, "mask", pattern=text.removeprefix(_MASK))
        if match := _FILE.fullmatch(text):
            return cls(text, match["name"], file=Path(match["file"]).expanduser())
        if text.endswith(".py"):
            raise UsageError(f"prior {text!r}: say which class of the file, as {text}:Class")
        if not text:
            raise UsageError("a prior has no name: give a name, mask:PATTERN, FILE.py:Class or a+b")
        return cls(text, text)


def read_specifications(text: str) -> tuple[Specification, ...]:
    """Split `a+b` into its members.

    A `+` inside a path is no separator: on both sides of a separator there is a bare name, `mask:PATTERN` or
    `FILE.py:Class`.

    Raises:
        UsageError: a member is empty, of unknown form, or named twice.
    """
    members: list[str] = []
    for piece in text.split("+"):
        if not members or (_is_member(members[-1]) and _is_member(piece)):
            members.append(piece)
        else:
            members[-1] += f"+{piece}"
    specifications = tuple(Specification.read(member.strip()) for member in members)
    if len(set(specifications)) < len(specifications):
        raise UsageError(f"prior {text!r} names the same prior twice")
    return specifications


def _is_member(text: str) -> bool:
    """Whether `text` is of one of the three forms; nothing counts too, so that it is complained about."""
    return not text or text.startswith(_MASK) or bool(NAME.fullmatch(text) or _FILE.fullmatch(text))


def import_class(file: Path, name: str) -> object:
    """Run a Python file and return its attribute `name`.

    Raises:
        UsageError: there is no such file, or nothing of that name in it.
        PluginError: the file cannot be run.
    """
    if not file.is_file():
        raise UsageError(f"prior {file}:{name}: there is no file {file}")
    # The content is part of the name, so that an edited file is another prior to a cache, a moved one is not.
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    module_name = f"cgckit_prior_{file.stem}_{digest}"
    specification = importlib.util.spec_from_file_location(module_name, file)
    if specification is None or specification.loader is None:
        raise UsageError(f"prior {file}:{name}: {file} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look their annotations up in the registered module.
    sys.modules[module_name] = module
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise PluginError(f"prior {file}:{name}: the file cannot be run: {describe_error(error)}") from error
    if not hasattr(module, name):
        classes = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module_name]
        raise UsageError(f"prior {file}:{name}: no {name} in the file; it has {', '.join(classes) or 'no class'}")
    found: object = getattr(module, name)
    return found


def describe_error(error: BaseException) -> str:
    """Return an error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
