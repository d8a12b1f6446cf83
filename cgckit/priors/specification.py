"""The words that name a prior: `name`, `mask:PATTERN`, `FILE.py:Class`, and several joined by `+`."""

from __future__ import annotations

from dataclasses import dataclass

from cgckit.errors import UsageError
from cgckit.plugins import NAME, split_file
from cgckit.plugins.loading import FILE_CLASS

_MASK = "mask:"


@dataclass(frozen=True)
class Specification:
    """One member of what the user wrote.

    Attributes:
        text: as the user wrote it.
        target: the registered name or `FILE.py:Class`.
        name: the registered name, or the class in the file; options are addressed to it as `name.key=value`.
        pattern: what follows `mask:`, or None.
    """

    text: str
    target: str
    name: str
    pattern: str | None = None

    @classmethod
    def read(cls, text: str) -> Specification:
        """Read one member; UsageError if it is none of the three forms."""
        if text.startswith(_MASK):
            return cls(text, "mask", "mask", pattern=text.removeprefix(_MASK))
        if located := split_file(text):
            return cls(text, text, located[1])
        if not text:
            raise UsageError("a prior has no name: give a name, mask:PATTERN, FILE.py:Class or a+b")
        return cls(text, text, text)


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
    return not text or text.startswith(_MASK) or bool(NAME.fullmatch(text) or FILE_CLASS.fullmatch(text))
