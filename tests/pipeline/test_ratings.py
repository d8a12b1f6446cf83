"""Ratings of a run: who is excluded by them in `refine` and `evaluate`, and what of a table is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import Tensor

import cgckit
from cgckit.errors import BadInputError
from cgckit.images.case import Case
from cgckit.jobs import Ratings
from cgckit.priors.base import Prior
from cgckit.sealed import read_json

QUICK = {"spacing": 4.0, "crop": (16, 16, 16), "widths": (4, 4, 4, 4), "projection": 4, "batch": 1, "steps": 2}
HEAD = "participant_id\tsource\trating\tnote\trated_at\n"
SUBJECTS = [("a 1", "a1"), ("b", "b"), ("c", "c")]


def table(folder: Path, text: str) -> Path:
    path = folder / "ratings.tsv"
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + "sub-a1\ta 1\tbad\tmotion\tt\nsub-b\tb\tdoubtful\tn/a\tt\n", {"a 1": "bad: motion"}),
        (HEAD + "sub-a1\tn/a\tBad\t\n", {"a 1": "bad"}),
        ("\ufeffsource\trating\r\na 1\tgood\r\nb\tbad\r\n", {"b": "bad"}),
        ("source\nc\n\n", {"c": "bad"}),
        ("note\tparticipant_id\nmoved, a lot\tsub-c\n", {"c": "bad: moved, a lot"}),
        (HEAD, {}),
        (HEAD + "sub-a1\ta 1\tn/a\tonly a note\tt\n", {}),
    ],
)
def test_who_is_bad_is_excluded_or_who_is_named_where_nobody_is_rated(
    tmp_path: Path, text: str, expected: dict[str, str]
) -> None:
    assert Ratings.read(table(tmp_path, text)).apply(SUBJECTS) == expected


def test_a_person_is_excluded_with_all_sessions_or_with_one(tmp_path: Path) -> None:
    visits = [("01 first", "01_ses-a"), ("01 second", "01_ses-b"), ("011", "011")]
    one, all_of_them = (
        Ratings.read(table(tmp_path, f"participant_id\n{name}\n")).apply(visits) for name in ("sub-01_ses-b", "sub-01")
    )
    assert set(one) == {"01 second"}
    assert set(all_of_them) == {"01 first", "01 second"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "column participant_id or source"),
        ("subject\tbad\n", "column participant_id or source"),
        (HEAD + "sub-a1\ta 1\tawful\n", "line 2.*'awful'.*good, doubtful, bad"),
        (HEAD + "sub-a1\ta 1\tbad\nsub-a1\ta 1\tgood\n", "line 3.*sub-a1 is there twice"),
        ("source\na 1\nb\nc\n", "excludes every subject, 3 of 3"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words) as caught:
        Ratings.read(table(tmp_path, text)).apply(SUBJECTS)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [None, b"participant_id\n\xff\n"])
def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ratings.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"ratings\.tsv: the table of --exclude"):
        Ratings.read(path)


def test_names_that_nobody_has_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ratings = Ratings.read(table(tmp_path, HEAD + "sub-x\txyz\tbad\n"))
    with caplog.at_level(logging.WARNING):
        assert ratings.apply(SUBJECTS) == {}
    assert "no subject here is called xyz" in caplog.text


@dataclass
class BrightFlair(Prior):
    """Everything above a threshold in FLAIR."""

    def predict(self, case: Case) -> Tensor:
        return ((case.channel("flair") > 2.5) & case.brain).float()


def test_refinement_leaves_out_who_is_bad_and_says_so(write_cohort: Callable[..., Path], tmp_path: Path) -> None:
    path = table(tmp_path, HEAD + "sub-case2\tcase2\tbad\tmotion\tt\n")
    run = cgckit.refine(write_cohort(2), BrightFlair(), tmp_path / "out", settings=QUICK, exclude=path, device="cpu")
    assert [subject.label for subject in run] == ["case1"]
    assert read_json(run.out / "run.json")["excluded"] == {"sub-case2": "bad: motion", "case2": "bad: motion"}
    assert "case2" not in (run.out / "participants.tsv").read_text()


def test_an_evaluation_leaves_out_who_is_bad(write_cohort: Callable[..., Path], tmp_path: Path) -> None:
    references = write_cohort(3).with_name("scans-references")
    path = table(tmp_path, HEAD + "n/a\tcase2\tbad\n")
    scored = cgckit.evaluate(references, references, exclude=path)
    assert {row.subject for row in scored.rows} == {"case1", "case3"}
