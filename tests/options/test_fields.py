"""Options of a prior: read from text by type, and refused with a message that says what to do."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from cgckit.errors import UsageError
from cgckit.options.fields import (
    REQUIRED,
    check,
    describe_type,
    format_value,
    options_of,
    parse,
    read_options,
)
from cgckit.priors.base import Prior

read = functools.partial(read_options, "example")


@dataclass
class Example(Prior):
    """A prior with an option of each kind.

    Attributes:
        count: how many.
        scale (float): a size that takes
            two lines to explain.

    Raises:
        Nothing: at all.
    """

    count: int = 3
    scale: float | None = None
    names: tuple[str, ...] = ("a", "b")
    mode: Literal["fast", "slow"] = "fast"
    learned: str = field(default="", init=False)

    def predict(self, case):
        return case.image[0]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("7", int, 7),
        ("-2", int, -2),
        ("1e-3", float, 0.001),
        ("7", float, 7.0),
        ("a=b, c", str, "a=b, c"),
        ("none", str, "none"),
        ("Yes", bool, True),
        ("off", bool, False),
        ("x/y.nii", Path, Path("x/y.nii")),
        ("slow", Literal["fast", "slow"], "slow"),
        ("3", Literal[1, 3], 3),
        ("none", Optional[int], None),  # noqa: UP045
        ("5", int | None, 5),
        ("none", str | None, None),
        ("0.5", int | float, 0.5),
        ("1, 2,3", tuple[int, ...], (1, 2, 3)),
        ("(1,2.5)", tuple[int, float], (1, 2.5)),
        ("", tuple[int, ...], ()),
    ],
)
def test_text_is_read_as_the_annotated_type(text, kind, value):
    found = parse(text, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        ("1.5", int, "int"),
        ("big", float, "float"),
        ("nan", float, "float"),
        ("2", bool, "true or false"),
        ("medium", Literal["fast", "slow"], "fast or slow"),
        ("x", int | None, "int or none"),
        ("1,x", tuple[int, ...], "int"),
        ("1,2,3", tuple[int, float], "int,float"),
        ("x", dict[str, int], "dict"),
    ],
)
def test_text_of_another_type_is_refused(text, kind, wanted):
    with pytest.raises(ValueError, match=wanted):
        parse(text, kind)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (2, float, 2.0),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        (None, int | None, None),
        ("fast", Literal["fast", "slow"], "fast"),
        ({"a": 1}, Any, {"a": 1}),
        (True, bool, True),
    ],
)
def test_python_values_are_fitted_to_the_type(value, kind, expected):
    found = check(value, kind)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"), [(True, int), (True, float), (1.5, int), (None, int), ([1], tuple[int, int])]
)
def test_python_values_of_another_type_are_refused(value, kind):
    with pytest.raises(ValueError, match=r"int|float"):
        check(value, kind)


@pytest.mark.parametrize("value", [None, True, 3, 0.5, (1, 2), "word"])
def test_a_value_is_written_as_it_is_read(value):
    kinds = {type(None): int | None, tuple: tuple[int, ...]}
    assert parse(format_value(value), kinds.get(type(value), type(value))) == value


def test_options_are_the_settable_fields_with_their_documentation():
    options = {option.name: option for option in options_of(Example)}
    assert list(options) == ["count", "scale", "names", "mode"]
    assert options["count"].doc == "how many."
    assert options["scale"].doc == "a size that takes two lines to explain."
    assert options["mode"].doc == ""
    assert [option.default_text for option in options.values()] == ["3", "none", "a,b", "fast"]
    assert options["scale"].type_name == "float or none"
    assert describe_type(tuple[int, ...]) == "int,int,..."


def test_a_class_that_is_no_dataclass_has_no_options():
    class Plain(Prior):
        def predict(self, case):
            return case.image[0]

    assert options_of(Plain) == ()


def test_values_are_parsed_or_checked():
    assert read(options_of(Example), {"count": "4", "scale": 2}) == {"count": 4, "scale": 2.0}


def test_an_unknown_option_lists_what_there_is():
    with pytest.raises(UsageError) as caught:
        read(options_of(Example), {"size": "4"})
    message = str(caught.value)
    assert "example has no option 'size'" in message
    assert "count (int, default 3)" in message
    assert "scale (float or none, default none)" in message


def test_a_bad_value_names_prior_and_option():
    with pytest.raises(UsageError, match="prior example: option count: 'many' is not an int"):
        read(options_of(Example), {"count": "many"})


def test_a_required_option_that_is_left_out_is_named():
    @dataclass
    class Needy(Prior):
        path: str

        def predict(self, case):
            return case.image[0]

    # The annotation of a class made in a function is looked up in its module, where `str` is known.
    (option,) = options_of(Needy)
    assert option.default is REQUIRED
    with pytest.raises(UsageError, match=r"needs path=\.\.\."):
        read((option,), {})
