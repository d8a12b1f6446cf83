"""`Option`: a field of a dataclass as something that a user can set; read, checked and described in one way."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from cgckit.errors import PluginError, UsageError
from cgckit.options.ranges import Range
from cgckit.options.values import describe_type, fit, format_value, parse, with_article

T = TypeVar("T")

REQUIRED = dataclasses.MISSING
"""The `default` of an option that has none."""
_MANY = 12
"""Of more options than these, a message names the command that lists them, or leaves out their types."""


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: the field's name.
        type: its annotation, resolved.
        default: its default, or `REQUIRED`.
        range: which numbers it may be; None for any.
        doc: its entry in the `Attributes:` section of the class's docstring.
    """

    name: str
    type: Any
    default: Any
    range: Range | None = None
    doc: str = ""

    @property
    def type_name(self) -> str:
        """The type in words, for instance `number from 0 to 1 or none`."""
        words = describe_type(self.type)
        if self.range is None or not str(self.range):
            return words
        number, alternative, rest = words.partition(" or ")
        return f"{number} {self.range}{alternative}{rest}"

    @property
    def default_text(self) -> str:
        """The default as it would be written on the command line."""
        return "(required)" if self.default is REQUIRED else format_value(self.default)

    def read(self, value: object) -> object:
        """Return `value` as the option's type, parsed if it is text; ValueError says what is wrong."""
        found = parse(value, self.type) if isinstance(value, str) else fit(value, self.type)
        return self._within(found)

    def fit(self, value: object) -> object:
        """Return a value from Python as the option's type; ValueError says what is wrong."""
        return self._within(fit(value, self.type))

    def _within(self, value: object) -> object:
        if self.range is not None:
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and number not in self.range:
                    raise ValueError(f"must be {with_article(self.type_name)}, got {format_value(value)}")
        return value


def options_of(kind: type) -> tuple[Option, ...]:
    """Return the options of a class, in the order of its fields; none if it is not a dataclass.

    Raises:
        PluginError: an annotation that names nothing, or a default that cannot be made.
    """
    if not dataclasses.is_dataclass(kind):
        return ()
    try:  # annotations and factories of defaults are a plug-in's code
        hints, extras = typing.get_type_hints(kind), typing.get_type_hints(kind, include_extras=True)
        docs = documented_attributes(kind)
        return tuple(
            Option(field.name, hints[field.name], _default(field), _range(extras[field.name]), docs.get(field.name, ""))
            for field in dataclasses.fields(kind)
            if field.init
        )
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"{kind.__name__}: its options cannot be read ({reason})") from error


def read_values(
    owner: str, options: tuple[Option, ...], values: Mapping[str, object], listed_by: str = ""
) -> dict[str, object]:
    """Check and parse `values` for what the user calls `owner`, for instance `prior gmm`.

    Args:
        owner: whose options they are, as messages say it.
        options: those that there are.
        values: text, or values of their own type, by name.
        listed_by: the command that lists the options.

    Raises:
        UsageError: for an option that it does not have, or a bad value.
    """
    known = {option.name: option for option in options}
    read: dict[str, object] = {}
    for name, value in values.items():
        option = known.get(name)
        name = str(name)
        if option is None:
            close = difflib.get_close_matches(name, known, n=1)
            hints = [f"did you mean {close[0]}?"] if close else []
            if len(options) > _MANY and listed_by:
                hints.append(f"`{listed_by}` lists all")
            elif not (close and len(options) > _MANY):
                hints.append(describe_options(options))
            raise UsageError(f"{owner}: there is no option {name!r}: {' '.join(hints)}")
        try:
            read[name] = option.read(value)
        except ValueError as error:
            raise UsageError(f"{owner}: {name}: {error}") from None
    return read


def require_all(owner: str, options: tuple[Option, ...], read: Mapping[str, object]) -> None:
    """Raise UsageError if an option that has no default is not among the values that were `read`."""
    missing = [option.name for option in options if option.default is REQUIRED and option.name not in read]
    if missing:
        raise UsageError(f"{owner} needs {', '.join(f'{name}=...' for name in missing)}")


def check_fields(instance: object, owner: str) -> None:
    """Fit the fields of a dataclass instance to their types and ranges; for `__post_init__`.

    Raises:
        UsageError: naming every field that does not fit.
    """
    problems = []
    for option in options_of(type(instance)):
        given = getattr(instance, option.name)
        try:
            fitted = option.fit(given)
        except ValueError as error:
            problems.append(f"{option.name}: {error}")
            continue
        if fitted is not given:
            object.__setattr__(instance, option.name, fitted)
    if problems:
        raise UsageError(f"{owner}: {'; '.join(problems)}")


def replace_fields(instance: T, owner: str, values: Mapping[str, object], listed_by: str = "") -> T:
    """A copy of a dataclass instance with some options replaced; arguments and errors as those of `read_values`."""
    read = read_values(owner, options_of(type(instance)), values, listed_by)
    return dataclasses.replace(instance, **read)  # type: ignore[type-var]


def to_json(instance: object) -> dict[str, Any]:
    """The options of a dataclass instance as plain JSON values."""
    return {option.name: _plain(getattr(instance, option.name)) for option in options_of(type(instance))}


def from_json(kind: type[T], owner: str, values: object) -> T:
    """The inverse of `to_json`; UsageError for what is no object, and for values that do not fit."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{owner}: an object of options is expected")
    return kind(**read_values(owner, options_of(kind), values))


def describe_options(options: tuple[Option, ...]) -> str:
    """Say in one line which options there are; with types and defaults, unless they are many."""
    if not options:
        return "it has no options"
    if len(options) > _MANY:
        return f"its options are {', '.join(option.name for option in options)}"
    listed = (f"{option.name} ({option.type_name}, default {option.default_text})" for option in options)
    return f"its options are {', '.join(listed)}"


def documented_attributes(kind: type) -> dict[str, str]:
    """Read the `Attributes:` sections of the Google-style docstrings of a class and its bases: name to description."""
    entries: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        name = ""
        text = inspect.cleandoc(base.__doc__ or "")
        section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)*)", text, re.MULTILINE)
        for line in inspect.cleandoc(section.group(1)).splitlines() if section else ():
            entry = re.match(r"(\w+)(?: \([^)]*\))?: *(.*)", line)
            if entry:
                name = entry.group(1)
                entries[name] = entry.group(2)
            elif name and line.strip():
                entries[name] += " " + line.strip()
    return entries


def _range(hint: Any) -> Range | None:
    """The range in an annotation, wherever in it it stands."""
    for part in (*getattr(hint, "__metadata__", ()), *typing.get_args(hint)):
        found = part if isinstance(part, Range) else _range(part)
        if found is not None:
            return found
    return None


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _plain(value: object) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
