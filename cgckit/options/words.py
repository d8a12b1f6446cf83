"""`KEY=VALUE`, as options are given on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cgckit.errors import UsageError


def read_words(words: Sequence[str] | Mapping[str, object] | None, what: str) -> dict[str, object]:
    """Read `KEY=VALUE` words; a mapping is taken as it is.

    Args:
        words: the words, one word, or a mapping of names to values.
        what: what they are called in a message, for instance `--set`.

    Raises:
        UsageError: a word that is not of this form, or a key that is given twice.
    """
    if isinstance(words, Mapping):
        return dict(words)
    read: dict[str, object] = {}
    for word in [words] if isinstance(words, str) else words or ():
        key, equals, value = word.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"{what} {word!r}: write it as KEY=VALUE")
        if key in read:
            raise UsageError(f"{what} {key} is given twice")
        read[key] = value.strip()
    return read
