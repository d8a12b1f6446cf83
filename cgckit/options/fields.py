"""The options of a prior: the fields of its dataclass, read from text and checked before any work starts."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from cgckit.errors import UsageError
from cgckit.priors.base import Prior

_T = TypeVar("_T")

REQUIRED = dataclasses.MISSING
"""The `default` of an option that has none."""

_SCALARS: dict[Any, str] = {
    int: "int",
    float: "float",
    bool: "true or false",
    str: "text",
    Path: "path",
    type(None): "none",
}
_TRUE, _FALSE = ["true", "yes", "on", "1"], ["false", "no", "off", "0"]


@dataclass(frozen=True)
class Option:
    """One option of a prior.

    Attributes:
        name: the field's name.
        type: its annotation, resolved.
        default: its default, or `REQUIRED`.
        doc: its entry in the `Attributes:` section of the class's docstring.
    """

    name: str
    type: Any
    default: Any
    doc: str = ""

    @property
    def type_name(self) -> str:
        """The type in words, for instance `float or none`."""
        return describe_type(self.type)

    @property
    def default_text(self) -> str:
        """The default as it would be written on the command line."""
        return "(required)" if self.default is REQUIRED else format_value(self.default)

    def read(self, value: object) -> object:
        """Return `value` as the option's type, parsed if it is text; ValueError says what is wrong."""
        return parse(value, self.type) if isinstance(value, str) else check(value, self.type)


def options_of(prior: type[Prior]) -> tuple[Option, ...]:
    """Return the options of a prior class, in the order of its fields; none if it is not a dataclass."""
    if not dataclasses.is_dataclass(prior):
        return ()
    hints = typing.get_type_hints(prior)
    docs = _documented_attributes(prior)
    return tuple(
        Option(field.name, hints[field.name], _default(field), docs.get(field.name, ""))
        for field in dataclasses.fields(prior)
        if field.init
    )


def read_options(label: str, options: tuple[Option, ...], values: Mapping[str, object]) -> dict[str, object]:
    """Check and parse `values` for the prior that the user calls `label`.

    Raises:
        UsageError: for an option that the prior does not have, a bad value, or a required option left out.
    """
    known = {option.name: option for option in options}
    read: dict[str, object] = {}
    for name, value in values.items():
        option = known.get(name)
        if option is None:
            raise UsageError(f"prior {label} has no option {name!r}; {describe_options(options)}")
        try:
            read[name] = option.read(value)
        except ValueError as error:
            raise UsageError(f"prior {label}: option {name}: {error}") from None
    missing = [option.name for option in options if option.default is REQUIRED and option.name not in read]
    if missing:
        raise UsageError(f"prior {label} needs {', '.join(f'{name}=...' for name in missing)}")
    return read


def describe_options(options: tuple[Option, ...]) -> str:
    """Say in one line which options there are, with types and defaults."""
    if not options:
        return "it has no options"
    listed = (f"{option.name} ({option.type_name}, default {option.default_text})" for option in options)
    return f"its options are {', '.join(listed)}"


def parse(text: str, kind: Any) -> object:
    """Read `text` as `kind`: scalar, Path, Literal, tuple or union of these; ValueError if it is none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is str:
        return text
    if kind is Path:
        return Path(text)
    if kind is type(None) and text.lower() == "none":
        return None
    if kind is bool and text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    if kind in (int, float):
        with contextlib.suppress(ValueError):
            number: float = kind(text)
            if not math.isnan(number):
                return number
    if origin is Literal:
        for choice in arguments:
            if str(choice) == text:
                return choice
    if origin is tuple:
        parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
        return tuple(parse(part, item) for part, item in _pair_items(parts, arguments, kind))
    if _is_union(origin):
        # None comes first: `str | None` would read "none" as a word.
        for member in sorted(arguments, key=lambda member: member is not type(None)):
            with contextlib.suppress(ValueError):
                return parse(text, member)
    raise ValueError(f"{text!r} is not {_with_article(describe_type(kind))}")


def check(value: object, kind: Any) -> object:
    """Return `value` as type `kind` (an int is a float, a list a tuple); ValueError if it does not fit."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # A class, not tuple[int, ...]: Python 3.10 takes that for one too.
    plain = origin is None and isinstance(kind, type)
    if plain and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, (tuple, list)):
        return tuple(check(part, item) for part, item in _pair_items(value, arguments, kind))
    if _is_union(origin):
        for member in arguments:
            with contextlib.suppress(ValueError):
                return check(value, member)
    raise ValueError(f"{value!r} is not {_with_article(describe_type(kind))}")


def describe_type(kind: Any) -> str:
    """Say a type in words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(str(choice) for choice in arguments)
    if _is_union(origin):
        return " or ".join(describe_type(member) for member in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"{describe_type(arguments[0])},{describe_type(arguments[0])},..."
    if origin is tuple:
        return ",".join(describe_type(item) for item in arguments)
    return _SCALARS.get(kind) or str(getattr(kind, "__name__", kind))


def format_value(value: object) -> str:
    """Write a value as `parse` reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(format_value(item) for item in value)
    return str(value) if str(value) else '""'


def _pair_items(values: Sequence[_T], arguments: tuple[Any, ...], kind: Any) -> list[tuple[_T, Any]]:
    """Pair the values of a tuple with the types in its annotation."""
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return [(value, arguments[0]) for value in values]
    if len(values) != len(arguments):
        raise ValueError(f"it has {len(values)} values where {describe_type(kind)} is wanted")
    return list(zip(values, arguments, strict=True))


def _is_union(origin: Any) -> bool:
    return origin in (Union, types.UnionType)


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}" if noun in ("int", "float", "path") else noun


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _documented_attributes(prior: type) -> dict[str, str]:
    """Read the `Attributes:` section of a Google-style docstring: name to description."""
    section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)*)", inspect.getdoc(prior) or "", re.MULTILINE)
    entries: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(section.group(1)).splitlines() if section else ():
        entry = re.match(r"(\w+)(?: \([^)]*\))?: *(.*)", line)
        if entry:
            name = entry.group(1)
            entries[name] = entry.group(2)
        elif name and line.strip():
            entries[name] += " " + line.strip()
    return entries
