"""Which of several images of one weighting is taken, and who is who."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydicom", reason="pydicom is not in this environment")
pytest.importorskip("dcm2niix", reason="dcm2niix is not in this environment")

import dicom_study as study
import pydicom

from cgckit import BadInputError
from cgckit.dicom import import_dicom
from cgckit.dicom.choice import Candidate, candidates_of, choose
from cgckit.dicom.people import People
from cgckit.dicom.tree import Tree, read_tree


def write(folder: Path, person: study.Person, tags: dict[str, Any] = study.T1, **options: Any) -> None:
    shape, affine = study.box(options.pop("edges", (20, 20, 5)), height=options.pop("height", 126))
    study.write_series(folder, person, study.head(shape, affine), affine, tags, **options)


def chosen(folder: Path) -> Candidate:
    tree = read_tree(folder)
    candidates = candidates_of(tree.slices, People.of(tree.slices))
    choose(candidates, lambda candidate: "")
    (found,) = [candidate for candidate in candidates if candidate.taken]
    assert all(candidate.why or candidate.finding.why for candidate in candidates if not candidate.taken)
    return found


MPR = ("DERIVED", "SECONDARY", "MPR")
BETTER_AND_WORSE = {
    "acquired before reformatted": ({"edges": (20, 20, 10)}, {"image_type": MPR}),
    "thinner before thicker": ({"edges": (4, 4, 4)}, {"edges": (4, 4, 5)}),
    "corrected for the coil": ({}, {"image_type": ("ORIGINAL", "PRIMARY", "M", "ND")}),
    "a whole head": ({}, {"edges": (20, 20, 2), "height": 40}),
}


@pytest.mark.parametrize("reason", BETTER_AND_WORSE)
@pytest.mark.parametrize("turned", [False, True])
def test_the_better_image_is_taken_in_whatever_order_they_came(tmp_path: Path, reason: str, turned: bool) -> None:
    better, worse = BETTER_AND_WORSE[reason]
    person = study.Person()
    for number, options in enumerate([worse, better] if turned else [better, worse]):
        write(tmp_path / str(number), person, edges=options.get("edges", (20, 20, 5)), **{
            name: value for name, value in options.items() if name != "edges"
        })  # fmt: skip
    assert chosen(tmp_path).stack.first.number == (2 if turned else 1)


@pytest.mark.parametrize(("tags", "number"), [(study.T2, 2), (study.FLAIR, 2), (study.T1, 1)])
def test_of_equal_ones_the_later_is_taken_but_for_t1(tmp_path: Path, tags: dict[str, Any], number: int) -> None:
    """A T1 that is made again may have a contrast agent that no header names."""
    person = study.Person()
    write(tmp_path / "1", person, tags)
    write(tmp_path / "2", person, tags)
    assert chosen(tmp_path).stack.first.number == number


def test_a_soft_ct_is_taken_before_a_sharp_one(tmp_path: Path) -> None:
    person = study.Person()
    write(tmp_path / "1", person, {"ConvolutionKernel": "H31s"}, modality="CT", intercept=-1024, edges=(20, 20, 5))
    write(tmp_path / "2", person, {"ConvolutionKernel": "H60s"}, modality="CT", intercept=-1024, edges=(20, 20, 2))
    assert chosen(tmp_path).stack.first.number == 1


def test_an_overview_in_the_series_of_a_ct_is_told_from_it(tmp_path: Path) -> None:
    person, uid = study.Person(), study.generate_uid()
    options = {"modality": "CT", "intercept": -1024, "uid": uid}
    write(tmp_path / "1", person, {"KVP": 120}, image_type=("ORIGINAL", "PRIMARY", "AXIAL"), **options)
    person.series = 0
    shape, affine = study.box((20, 20, 150), study.SAGITTAL)
    scout = study.head(shape, affine)
    tags = {"KVP": 120}
    study.write_series(tmp_path / "2", person, scout, affine, tags, image_type=TOPOGRAM, **options)
    assert chosen(tmp_path).finding.name == "ct"


TOPOGRAM = ("ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP")


def people(tree: Tree) -> People:
    return People.of(tree.slices)


def place(found: People, tree: Tree, folder: str) -> tuple[str, str]:
    return found.place(next(item for item in tree.slices if item.path.parent.name == folder))


def test_persons_are_told_apart_and_their_studies_are_in_the_order_of_dates(tmp_path: Path) -> None:
    jane, rick = study.Person(date="20240301"), study.Person("PID-2", "ROE^Rick")
    for name, person in {"jane": jane, "rick": rick, "earlier": jane.again("20200101")}.items():
        write(tmp_path / name, person)
    tree = read_tree(tmp_path)
    found = people(tree)
    assert place(found, tree, "jane")[0] == place(found, tree, "earlier")[0] != place(found, tree, "rick")[0]
    assert [place(found, tree, name)[1] for name in ("jane", "earlier", "rick")] == ["2", "1", "1"]
    assert found.has_sessions
    assert found.doubts == []


def test_a_name_that_is_spelt_in_two_ways_is_one_person_and_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a", study.Person(name="DOEBLING^Xanthippe"))
    write(tmp_path / "b", study.Person(name="Doebling^Xanthippe^^Dr"))
    found = people(read_tree(tmp_path))
    assert set(found.subjects.values()) == {"001"}
    (doubt,) = found.doubts
    assert "different names" in doubt


def test_one_identifier_with_two_dates_of_birth_is_two_persons_and_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a", study.Person(birth="19500307"))
    write(tmp_path / "b", study.Person(birth="19800307"))
    found = people(read_tree(tmp_path))
    assert len(found.subjects) == 2
    assert "sub-001, sub-002: one identifier" in found.doubts[0]


def test_without_an_identifier_name_and_date_of_birth_count(tmp_path: Path) -> None:
    for name, person in {"a": ("DOE^A", "19500101"), "b": ("DOE^A", "19500101"), "c": ("DOE^B", "19500101")}.items():
        write(tmp_path / name, study.Person("", *person))
    tree = read_tree(tmp_path)
    found = people(tree)
    assert place(found, tree, "a")[0] == place(found, tree, "b")[0] != place(found, tree, "c")[0]


def test_acquisitions_of_one_series_are_told_apart_where_they_overlap(tmp_path: Path) -> None:
    person, uid = study.Person(), study.generate_uid()
    for number in (1, 2):
        person.series = 0
        write(tmp_path / str(number), person, {**study.T2, "AcquisitionNumber": number}, uid=uid)
    tree = read_tree(tmp_path)
    assert [item.part for item in candidates_of(tree.slices, people(tree))] == [1, 2]


def test_slices_that_are_acquisitions_of_their_own_are_one_image(tmp_path: Path) -> None:
    shape, affine = study.box((20, 20, 5))
    paths = study.write_series(tmp_path, study.Person(), study.head(shape, affine), affine, {"KVP": 120}, modality="CT",
                               intercept=-1024)  # fmt: skip
    for number, path in enumerate(paths):
        file = pydicom.dcmread(path)
        file.AcquisitionNumber = number + 1
        file.save_as(path)
    assert chosen(tmp_path).part == 0


@pytest.mark.parametrize("nobody", ["", "ANONYMOUS", "anonymized", "0000", "xxx", "Unknown"])
def test_studies_that_name_nobody_are_persons_of_their_own(tmp_path: Path, nobody: str) -> None:
    for name in "abc":
        write(tmp_path / name, study.Person(nobody, nobody, ""))
    found = people(read_tree(tmp_path))
    assert sorted(found.subjects.values()) == ["001", "002", "003"]
    assert "3 studies name no patient" in found.doubts[0]


def test_labels_follow_neither_names_nor_dates(tmp_path: Path) -> None:
    """Of ten persons in alphabetical order, some come later than who is after them."""
    for number in range(10):
        write(tmp_path / str(number), study.Person(f"P{number}", f"N{number}", date=f"2020010{number}"))
    tree = read_tree(tmp_path)
    found = people(tree)
    labels = [place(found, tree, str(number))[0] for number in range(10)]
    assert len(set(labels)) == 10
    assert labels != sorted(labels)


@pytest.mark.parametrize("content", ["", "a\tb\n1\t2\n", "participant_id\n"])
def test_what_is_no_mapping_is_bad_input_unless_it_is_empty(tmp_path: Path, content: str) -> None:
    write(tmp_path / "dicom", study.Person())
    mapping = tmp_path / "who.tsv"
    mapping.write_text(content)
    if content in ("", "participant_id\n"):
        import_dicom(tmp_path / "dicom", tmp_path / "out", mapping=mapping)
        assert len(mapping.read_text().splitlines()) == 2
    else:
        with pytest.raises(BadInputError, match=r"who\.tsv"):
            import_dicom(tmp_path / "dicom", tmp_path / "out", mapping=mapping)
        assert mapping.read_text() == content


def test_the_same_files_twice_in_a_tree_count_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write(tmp_path / "a", study.Person())
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a").iterdir():
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    assert chosen(tmp_path).stack.fault == ""
    assert read_tree(tmp_path).copies == len(list((tmp_path / "a").iterdir()))
