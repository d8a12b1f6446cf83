"""Names and tables that are odd, or made to harm: they work, or one line says what to rename."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError
from cgckit.evaluation.pairing import Predicted, find_reference
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort
from cgckit.priors.external import ExternalPrior


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write an image of a subject that is named by its folder; give the folder above."""

    def write(subject: str, name: str = "flair.nii.gz") -> Path:
        scans = tmp_path / "scans"
        (scans / subject).mkdir(parents=True)
        image = np.random.default_rng(0).normal(100, 9, (8, 8, 8)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), scans / "image.nii.gz")
        (scans / "image.nii.gz").rename(scans / subject / name)
        return scans

    return write


def refusal(do: Callable[[], object]) -> str:
    with pytest.raises(BadInputError) as caught:
        do()
    assert len(str(caught.value).splitlines()) == 1
    str(caught.value).encode()
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["a\u2028b", "a\u2029b", "a\nb", "a\rb", "a\tb", "a\x0bb", "a\x0cb", "a\x1cb", "a\x85b", os.fsdecode(b"a\xff1")],
)
def test_a_name_that_no_table_could_hold_is_refused(write: Callable[[str], Path], name: str) -> None:
    scans = write(name)
    assert "rename" in refusal(lambda: Cohort.find(scans))
    assert "rename" in refusal(lambda: Case.from_arrays({"flair": np.ones((4, 4, 4))}, affine=np.eye(4), subject=name))


@pytest.mark.parametrize("name", ["Müller 1", "患者\u3000一1", "a\u00a0b", "<b>1</b>", "a;b,c'd\"1", "{subject}1"])
def test_odd_names_come_through_a_table_unchanged(write: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    scans = write(name.replace("/", "-"))
    cohort = Cohort.find(scans)
    out = Derivatives.create(tmp_path / "out")
    out.write_participants(cohort)
    assert list(out.subjects().values()) == [name.replace("/", "-")]


def test_a_name_too_long_for_the_outputs_is_refused_and_a_long_one_is_not(write: Callable[[str], Path]) -> None:
    assert "100 letters and digits" in refusal(lambda: Cohort.find(write("a" * 240)))
    assert Cohort.find(write("b" * 60 + "_" * 150) / ("b" * 60 + "_" * 150))[0].label == "b" * 60


def test_a_folder_or_file_whose_name_is_not_utf8_is_named(write: Callable[..., Path]) -> None:
    scans = write("p", os.fsdecode(b"\xff_flair.nii.gz"))
    assert r"\udcff_flair.nii.gz" in refusal(lambda: Cohort.find(scans))


# ---- tables


def table_of(folder: Path, text: str) -> Path:
    path = folder / "cohort.tsv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("twice", ["flair", "subject", "brain_mask", "age"])
def test_a_column_that_is_there_twice_is_named(write: Callable[[str], Path], twice: str) -> None:
    scans = write("p")
    rows = f"subject\tflair\t{twice}\t{twice}\np\tp/flair.nii.gz\tx\tp/flair.nii.gz\n"
    assert f"two columns are called {twice!r}" in refusal(lambda: Cohort.find(table_of(scans, rows)))


def test_two_spellings_of_a_modality_are_two_images(write: Callable[[str], Path]) -> None:
    rows = "subject\tT1c\tt1ce\np\tp/flair.nii.gz\tp/flair.nii.gz\n"
    assert "a second t1ce" in refusal(lambda: Cohort.find(table_of(write("p"), rows)))


def test_columns_without_a_name_hold_no_image(write: Callable[[str], Path]) -> None:
    scans = write("p")
    assert len(Cohort.find(table_of(scans, "subject\tflair\t\t\np\tp/flair.nii.gz\t\tseen\n"))) == 1
    rows = "subject\tflair\t\np\tp/flair.nii.gz\tp/flair.nii.gz\n"
    assert "line 2: p/flair.nii.gz is in a column without a name" in refusal(lambda: Cohort.find(table_of(scans, rows)))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_only_line_breaks_end_a_row(write: Callable[[str], Path], end: str) -> None:
    rows = end.join(["subject\tsite\tflair", "p\tthe\u2028site\x0b\x85\tp/flair.nii.gz", ""])
    assert Cohort.find(table_of(write("p"), rows))[0].source == "p"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no column 'subject'"),
        (b"\xff\xfes\0u\0b\0", "UTF-8"),
        (b"subject\tflair\np\tp/\0.nii.gz\n", "no such file"),
        (b"subject\tflair\np\t" + b"x" * 5000 + b".nii.gz\n", "File name too long"),
        (b"subject\tflair\np\tp/flair.nii.gz\tp\n", "3 cells under 2 columns"),
        (b"subject\tflair\n\0\tp/flair.nii.gz\n", "rename"),
        (b"subject\tflair\n../p\tp/flair.nii.gz\n", "leads to another folder"),
        (b"subject\tflair\na/../../p\tp/flair.nii.gz\n", "leads to another folder"),
        (b"subject\tflair\n/etc/p\tp/flair.nii.gz\n", "leads to another folder"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(write: Callable[[str], Path], content: bytes, word: str) -> None:
    scans = write("p")
    (scans / "cohort.tsv").write_bytes(content)
    assert word in refusal(lambda: Cohort.find(scans / "cohort.tsv"))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x"])
def test_no_subject_leads_out_of_a_patterns_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "rough").mkdir()
    (tmp_path / "x.nii.gz").write_bytes(b"somebody else's")
    pattern = f"{tmp_path}/rough/{{subject}}.nii.gz"
    word = "leads to another folder"
    assert word in refusal(lambda: ExternalPrior(pattern).find_file("x", name))
    assert word in refusal(lambda: find_reference(pattern, Predicted(name, None, {}), alone=False))
