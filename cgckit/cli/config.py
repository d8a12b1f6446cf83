"""`--config FILE.toml`: the options of a command in a file, and such a file of the options that a command was given.

Keys are the names of the options without their dashes, and `inputs`; options that may be repeated are lists. All is
read as if it stood on the command line, paths too; what does stand there counts instead.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from cgckit.errors import BadInputError, UsageError
from cgckit.images.files import check_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_INPUTS = "inputs"
# What is no part of a file, and what is said of one call alone or changes no file of its result.
_NO_KEYS = {"config", "help"}
_OF_ONE_CALL = {*_NO_KEYS, "out", "overwrite", "quiet", "verbose", "stage", "shard", "scheduler"}


def read_config(context: typer.Context, file: Path | None) -> Path | None:
    """Take what is in a file for the defaults of the command at work.

    Raises:
        BadInputError: the file cannot be read, or is no TOML.
        UsageError: a key that is no option, or a value of another kind.
    """
    if file is not None and not context.resilient_parsing:
        known = {name: param for name, param in _keys(context.command) if name not in _NO_KEYS}
        context.default_map = {known[name].name: value for name, value in _read(file, known).items()}
    return file


def config_text(context: typer.Context) -> str:
    """The options of the command at work that its result depends on, as `--config` reads them."""
    command = f"cgckit {context.command.name} --config THIS-FILE --out FOLDER"
    lines = [f"# In {json.dumps(os.getcwd())}, `{command}` repeats the run."]
    for name, param in _keys(context.command):
        value = context.params.get(param.name)
        if name not in _OF_ONE_CALL and value is not False and value not in (None, [], ()):
            lines.append(f"{name} = {written(value)}")
    return "\n".join(lines) + "\n"


def written(value: Any) -> str:
    """A value as TOML, whose strings are those of JSON, but for a character that only JSON takes as it is."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _keys(command: Any) -> Iterator[tuple[str, Any]]:
    """What may stand in the file: the key of each option, and of the argument."""
    for param in command.params:
        is_argument = param.param_type_name == "argument"
        yield _INPUTS if is_argument else max(param.opts, key=len).removeprefix("--"), param


def _read(file: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """What is in a file, numbers as text, since all is read as from the command line."""
    check_file(file)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:
        raise BadInputError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise BadInputError(f"{file}: is no TOML ({error})") from None
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise UsageError(f"{file}: there is no option {key!r}: {hint}")
        if getattr(known[key], "is_flag", False):
            wanted, fits = "true or false", isinstance(value, bool)
        elif key == _INPUTS or known[key].multiple:
            wanted, fits = "a list of texts", isinstance(value, list) and all(map(_is_text, value))
        else:
            wanted, fits = "a text or a number", _is_text(value)
        if not fits:
            raise UsageError(f"{file}: {key} = {json.dumps(value, default=str)}: {wanted} is wanted")
        found[key] = (
            value if isinstance(value, bool) else list(map(str, value)) if isinstance(value, list) else str(value)
        )
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
