"""Values of options: read from text, or taken from Python as they are, by the type that is wanted."""

from __future__ import annotations

import contextlib
import math
import numbers
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

_T = TypeVar("_T")

_SCALARS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    type(None): "none",
}
_TRUE, _FALSE = ["true", "yes", "on", "1"], ["false", "no", "off", "0"]


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
            return fit(int(text) if kind is int and text.lstrip("+-").isdecimal() else float(text), kind)
    if origin is Literal:
        for choice in arguments:
            if str(choice) == text:
                return choice
    if origin is tuple:
        # Sizes are written 48x48x48 too.
        numeric = all(item in (int, float, Ellipsis) for item in arguments)
        parts = [part.strip() for part in re.split("[,xX]" if numeric else ",", text.strip("()[] ")) if part.strip()]
        return tuple(parse(part, item) for part, item in _pair_items(parts, arguments, kind))
    if _is_union(origin):
        # None comes first: `str | None` would read "none" as a word.
        for member in sorted(arguments, key=lambda member: member is not type(None)):
            with contextlib.suppress(ValueError):
                return parse(text, member)
    raise ValueError(f"{text!r} is not {with_article(describe_type(kind))}")


def fit(value: object, kind: Any) -> object:
    """Return `value` as type `kind`; ValueError if it does not fit.

    A whole number is a float, a float without fraction a whole number, a list is a tuple; what NumPy and torch
    have counts as the numbers and lists that it stands for.
    A type that cannot be judged, as a mapping or a function, takes everything.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if hasattr(value, "tolist"):  # numbers and arrays of NumPy and torch, of which neither need be here
        value = value.tolist()
    if kind in (int, float):
        if kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
            return int(value)
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):  # a whole number too large for a float
                number = float(value)
                if kind is float and not math.isnan(number):
                    return number
                if kind is int and number.is_integer():
                    return int(number)
    elif kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is Path:
        if isinstance(value, str | Path):
            return Path(value)
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin is tuple:
        if isinstance(value, tuple | list):
            return tuple(fit(part, item) for part, item in _pair_items(value, arguments, kind))
    elif _is_union(origin):
        for member in arguments:
            with contextlib.suppress(ValueError):
                return fit(value, member)
    # A class, not tuple[int, ...]: Python 3.10 takes that for one too.
    elif kind is Any or origin is not None or not isinstance(kind, type) or isinstance(value, kind):
        return value
    raise ValueError(f"{value!r} is not {with_article(describe_type(kind))}")


def describe_type(kind: Any) -> str:
    """Say a type in words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(str(choice) for choice in arguments)
    if _is_union(origin):
        return " or ".join(describe_type(member) for member in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"{describe_type(arguments[0])},..."
    if origin is tuple and len(set(arguments)) == 1:
        return f"{len(arguments)} {describe_type(arguments[0])}s"
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
        whole = len(value) > 1 and all(isinstance(item, int) for item in value)
        return ("x" if whole else ",").join(format_value(item) for item in value)
    return str(value) if str(value) else '""'


def with_article(noun: str) -> str:
    """`a whole number`, but `true or false`."""
    return f"a {noun}" if noun.startswith(("whole number", "number", "path")) else noun


def _pair_items(values: Sequence[_T], arguments: tuple[Any, ...], kind: Any) -> list[tuple[_T, Any]]:
    """Pair the values of a tuple with the types in its annotation."""
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return [(value, arguments[0]) for value in values]
    if len(values) != len(arguments):
        raise ValueError(f"it has {len(values)} values where {describe_type(kind)} are wanted")
    return list(zip(values, arguments, strict=True))


def _is_union(origin: Any) -> bool:
    return origin in (Union, types.UnionType)
