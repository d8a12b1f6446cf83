"""Options: read from text by type, taken from Python as they are, and refused with a message that says what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import numpy as np
import pytest

from cgckit.errors import PluginError, UsageError
from cgckit.options import (
    POSITIVE,
    REQUIRED,
    SHARE,
    at_least,
    check_fields,
    from_json,
    options_of,
    read_values,
    read_words,
    replace_fields,
    to_json,
)
from cgckit.options.fields import require_all
from cgckit.options.values import describe_type, fit, format_value, parse


@dataclass
class Example:
    """Has an option of each kind.

    Attributes:
        count: how many.
        scale (float): a size that takes
            two lines to explain.
        size: edges in voxels.

    Raises:
        Nothing: at all.
    """

    count: int = 3
    scale: float | None = None
    names: tuple[str, ...] = ("a", "b")
    size: Annotated[tuple[int, int, int], at_least(1)] = (4, 4, 4)
    share: Annotated[float | None, SHARE] = None
    mode: Literal["fast", "slow"] = "fast"
    learned: str = field(default="", init=False)

    def __post_init__(self) -> None:
        check_fields(self, "example")


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("7", int, 7),
        ("-2", int, -2),
        ("1e-3", float, 0.001),
        ("7", float, 7.0),
        ("500.0", int, 500),
        ("5e2", int, 500),
        ("9" * 400, int, int("9" * 400)),
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
        ("48x48x32", tuple[int, int, int], (48, 48, 32)),
        ("48, 48,32", tuple[int, int, int], (48, 48, 32)),
        ("(48, 48, 32)", tuple[int, int, int], (48, 48, 32)),
        ("0.5x2", tuple[float, float], (0.5, 2.0)),
        ("axe,box", tuple[str, ...], ("axe", "box")),
    ],
)
def test_text_is_read_as_the_annotated_type(text, kind, value):
    found = parse(text, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        ("1.5", int, "whole number"),
        ("big", float, "number"),
        ("nan", float, "number"),
        ("1e400", int, "whole number"),
        ("2", bool, "true or false"),
        ("medium", Literal["fast", "slow"], "fast or slow"),
        ("x", int | None, "whole number or none"),
        ("1,y", tuple[int, ...], "whole number"),
        ("1,2,3", tuple[int, float], "whole number,number"),
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
        (500.0, int, 500),
        (np.float32(0.5), float, 0.5),
        (np.int64(3), int, 3),
        (np.bool_(True), bool, True),
        ([np.int32(1), 2.0], tuple[int, int], (1, 2)),
        ("a/b", Path, Path("a/b")),
        (math.inf, float, math.inf),
    ],
)
def test_python_values_are_fitted_to_the_type(value, kind, expected):
    found = fit(value, kind)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, int),
        (True, float),
        (1.5, int),
        (None, int),
        ([1], tuple[int, int]),
        (math.nan, float),
        (math.inf, int),
        (10**400, float),
        (1, bool),
        ("1", int),
    ],
)
def test_python_values_of_another_type_are_refused(value, kind):
    with pytest.raises(ValueError, match=r"number|true or false"):
        fit(value, kind)


@pytest.mark.parametrize("value", [None, True, 3, 0.5, (1, 2), "word"])
def test_a_value_is_written_as_it_is_read(value):
    kinds = {type(None): int | None, tuple: tuple[int, ...]}
    assert parse(format_value(value), kinds.get(type(value), type(value))) == value


def test_options_are_the_settable_fields_with_their_documentation():
    options = {option.name: option for option in options_of(Example)}
    assert list(options) == ["count", "scale", "names", "size", "share", "mode"]
    assert options["count"].doc == "how many."
    assert options["scale"].doc == "a size that takes two lines to explain."
    assert options["mode"].doc == ""
    assert [option.default_text for option in options.values()] == ["3", "none", "a,b", "4x4x4", "none", "fast"]
    assert options["scale"].type_name == "number or none"
    assert options["share"].type_name == "number from 0 to 1 or none"
    assert options["size"].type_name == "3 whole numbers of 1 or more"
    assert describe_type(tuple[int, ...]) == "whole number,..."


def test_a_class_inherits_options_and_their_documentation():
    @dataclass
    class Further(Example):
        """Has one more.

        Attributes:
            more: of it.
        """

        more: int = 0

    docs = {option.name: option.doc for option in options_of(Further)}
    assert docs["more"] == "of it."
    assert docs["count"] == "how many."


def test_a_class_that_is_no_dataclass_has_no_options():
    assert options_of(object) == ()


def test_an_annotation_that_names_nothing_is_the_authors_mistake():
    @dataclass
    class Careless:
        size: Undefined = 1  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(PluginError, match="Careless"):
        options_of(Careless)


def read(values: dict[str, object]) -> dict[str, object]:
    return read_values("prior example", options_of(Example), values)


def test_values_are_parsed_or_taken_as_they_are():
    given = {"count": "4", "scale": 2, "size": "2x3x4", "names": ["c"]}
    assert read(given) == {"count": 4, "scale": 2.0, "size": (2, 3, 4), "names": ("c",)}


def test_an_unknown_option_lists_what_there_is():
    with pytest.raises(UsageError) as caught:
        read({"scal": "4"})
    message = str(caught.value)
    assert "prior example: there is no option 'scal': did you mean scale?" in message
    assert "count (whole number, default 3)" in message
    assert "scale (number or none, default none)" in message


def test_a_bad_value_names_owner_and_option():
    with pytest.raises(UsageError, match="prior example: count: 'many' is not a whole number"):
        read({"count": "many"})


@pytest.mark.parametrize("value", ["0x4x4", (1, 2, 0)])
def test_each_number_of_a_tuple_is_held_to_the_range(value):
    with pytest.raises(UsageError, match="size: must be 3 whole numbers of 1 or more"):
        read({"size": value})


def test_a_range_counts_wherever_it_stands_in_the_annotation():
    @dataclass
    class Nested:
        share: Annotated[float, SHARE] | None = None
        sizes: tuple[Annotated[int, at_least(1)], ...] = ()

    share, sizes = options_of(Nested)
    assert share.type_name == "number from 0 to 1 or none"
    assert (share.read("0.5"), share.read("none"), sizes.read("1,2")) == (0.5, None, (1, 2))
    for option, value in ((share, 7.0), (share, ["x"]), (sizes, (-3,)), (sizes, "0")):
        with pytest.raises(ValueError, match="number"):
            option.read(value)


def test_numbers_beyond_any_float_are_refused_in_words():
    with pytest.raises(UsageError, match="size: must be"):
        read({"size": (-(10**400), 1, 1)})


def test_a_range_does_not_speak_of_none():
    assert read({"share": "none"}) == {"share": None}
    with pytest.raises(UsageError, match=r"share: must be a number from 0 to 1 or none, got 2\.0"):
        read({"share": 2})


def test_a_required_option_that_is_left_out_is_named():
    @dataclass
    class Needy:
        path: str

    # The annotation of a class made in a function is looked up in its module, where `str` is known.
    (option,) = options_of(Needy)
    assert option.default is REQUIRED
    with pytest.raises(UsageError, match=r"needs path=\.\.\."):
        require_all("prior needy", (option,), {})


def test_an_instance_is_checked_and_fitted_when_it_is_made():
    made = Example(count=4.0, size=[1, 2, 3])
    assert (made.count, type(made.count), made.size) == (4, int, (1, 2, 3))
    with pytest.raises(UsageError, match=r"example: count: 'x' is not a whole number; share: must be"):
        Example(count="x", share=-1)


def test_a_copy_with_other_values_is_checked_too():
    assert replace_fields(Example(), "example", {"count": "7"}) == Example(count=7)
    with pytest.raises(UsageError, match="example: count"):
        replace_fields(Example(), "example", {"count": "x"})


def test_options_survive_json():
    made = Example(count=4, scale=0.5, size=(1, 2, 3))
    plain = to_json(made)
    assert plain["size"] == [1, 2, 3]
    assert from_json(Example, "example", plain) == made
    with pytest.raises(UsageError, match="an object"):
        from_json(Example, "example", [1])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a=1", "b = x=y "], {"a": "1", "b": "x=y"}),
        ("a=1", {"a": "1"}),
        ({"a": 1}, {"a": 1}),
        (None, {}),
        ((), {}),
    ],
)
def test_words_are_read_as_names_and_values(words, expected):
    assert read_words(words, "--set") == expected


@pytest.mark.parametrize(("words", "fault"), [(["a"], "KEY=VALUE"), (["=1"], "KEY=VALUE"), (["a=1", "a=2"], "twice")])
def test_words_of_another_form_are_refused(words, fault):
    with pytest.raises(UsageError, match=f"--set.*{fault}"):
        read_words(words, "--set")


def test_a_positive_number_is_called_so():
    @dataclass
    class Sized:
        edge: Annotated[float, POSITIVE] = 1.0

    with pytest.raises(UsageError, match=r"edge: must be a number above 0, got 0\.0"):
        read_values("sized", options_of(Sized), {"edge": "0"})
