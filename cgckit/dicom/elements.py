"""Elements of a header as numbers and words, whatever is written there; nothing for what is none."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

B_VALUES = (0x0019100C, 0x00431039)
"""Where Siemens and GE keep the b-value."""
_MOST_TEXT = 200


def private_b(header: Dataset) -> float | None:
    """The b-value [s/mm2] where only a vendor's own element has it."""
    for tag in B_VALUES:
        if tag in header:
            value = header[tag].value
            first = value[0] if isinstance(value, list | tuple | MultiValue) and value else value
            try:
                found = float(first.decode() if isinstance(first, bytes) else first) % 1e9  # GE adds a billion
            except (TypeError, ValueError, UnicodeDecodeError):
                continue
            return found if 0 <= found < 1e5 else None
    return None


def padding_of(header: Dataset) -> float | None:
    """What stands for no measurement, as it is stored; written unsigned by some where the pixels are signed."""
    value = number(header, "PixelPaddingValue")
    signed = number(header, "PixelRepresentation") == 1
    return value - 65536 if value is not None and signed and value > 32767 else value


def numbers(header: Dataset, name: str, count: int) -> tuple[float, ...] | None:
    """An element's values; None unless it has `count`, all of them finite."""
    value = header.get(name)
    try:
        found = tuple(float(item) for item in value)
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and np.isfinite(found).all() else None


def number(header: Dataset, name: str) -> float | None:
    """An element's first value; None if it is no number."""
    value = header.get(name)
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if value else None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if abs(found) < 1e12 else None  # NaN is not


def texts(header: Dataset, name: str) -> tuple[str, ...]:
    """An element's values as text, each cut to what a name or a word needs."""
    value = header.get(name)
    if value is None:
        return ()
    several = value if isinstance(value, MultiValue | list | tuple) else [value]
    return tuple(str(item)[:_MOST_TEXT].strip() for item in several)


def text(header: Dataset, name: str) -> str:
    """An element's first value as text; empty if there is none."""
    return next(iter(texts(header, name)), "")
