"""Options: the fields of a dataclass, with their types, ranges and documentation, read from words or from Python.

Priors, brain extractors, metrics and settings all declare what they can be told in the same way:

    >>> from dataclasses import dataclass
    >>> from typing import Annotated
    >>> from cgckit.options import SHARE, at_least, options_of
    >>> @dataclass
    ... class Example:
    ...     '''Has two options.
    ...
    ...     Attributes:
    ...         quantile: share of the brain that is not lesion.
    ...         size: edges of a block in voxels.
    ...     '''
    ...
    ...     quantile: Annotated[float, SHARE] = 0.9
    ...     size: Annotated[tuple[int, int, int], at_least(1)] = (4, 4, 4)
    >>> [(option.name, option.type_name, option.default_text) for option in options_of(Example)]
    [('quantile', 'number from 0 to 1', '0.9'), ('size', '3 whole numbers of 1 or more', '4x4x4')]
"""

from cgckit.options.fields import (
    REQUIRED,
    Option,
    check_fields,
    from_json,
    options_of,
    read_values,
    replace_fields,
    to_json,
)
from cgckit.options.ranges import POSITIVE, SEED, SHARE, Range, at_least
from cgckit.options.words import read_words

__all__ = [
    "POSITIVE",
    "REQUIRED",
    "SEED",
    "SHARE",
    "Option",
    "Range",
    "at_least",
    "check_fields",
    "from_json",
    "options_of",
    "read_values",
    "read_words",
    "replace_fields",
    "to_json",
]
