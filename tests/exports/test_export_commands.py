"""`cgckit export` and `cgckit lesions`, as they are called; and the files of labels' names."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from export_run import SHAPE, ball, make_run

from cgckit.cli.main import main
from cgckit.exports.label_names import write_label_names


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["cgckit", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ending:
        main()
    return int(ending.value.code or 0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    refined = (ball((-20, 0, 0), 10) * 0.9).astype(np.float32)
    return make_run(tmp_path, {"a": (refined, refined), "b": (np.zeros(SHAPE, np.float32), None)})


def test_nnunet(run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "export", "nnunet", run, run.parent / "Dataset501_Lesions") == 0
    assert "2 subjects in" in capfd.readouterr().out
    assert call(monkeypatch, "export", "nnunet", run, run.parent / "lesions") == 2
    assert "DatasetNNN_NAME" in capfd.readouterr().err


def test_lesions(run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "lesions", run) == 0
    assert "1 lesion in 1 subject\n" in capfd.readouterr().out
    assert call(monkeypatch, "lesions", run.parent / "scans") == 3
    assert capfd.readouterr().err.count("\n") == 1


def test_a_run_is_whole_after_its_table_was_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*.nii.gz")}
    assert call(monkeypatch, "lesions", run, "--out", run.parent / "table.tsv") == 0
    assert {path: path.read_bytes() for path in run.rglob("*.nii.gz")} == before
    assert (run.parent / "table.tsv").is_file()


def test_dicom_seg_of_what_is_no_dicom(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("highdicom", reason="highdicom is not in this environment")
    code = call(monkeypatch, "export", "dicom-seg", run, run.parent / "seg", "--dicom", run.parent / "scans")
    assert code == 3
    assert "is DICOM" in capfd.readouterr().err


def test_names_of_labels_are_read_as_itksnap_and_slicer_do(tmp_path: Path) -> None:
    """IDX R G B A VIS MSH LABEL, and number, name, R G B A."""
    snap, slicer = write_label_names(tmp_path / "labels")
    rows = [line.split(maxsplit=7) for line in snap.read_text().splitlines() if not line.startswith("#")]
    assert [(row[0], row[7].strip('"')) for row in rows] == [
        ("0", "Clear Label"),
        ("1", "lesion"),
        ("2", "not trusted"),
    ]
    assert all(len(row) == 8 and all(0 <= int(cell) <= 255 for cell in row[1:4]) for row in rows)
    table = [line.split() for line in slicer.read_text().splitlines() if not line.startswith("#")]
    assert [row[:2] for row in table] == [["0", "background"], ["1", "lesion"], ["2", "not_trusted"]]
    assert all(len(row) == 6 for row in table)
    assert [row[2:5] for row in table[1:]] == [row[1:4] for row in rows[1:]]
    assert write_label_names(tmp_path / "labels") == [snap, slicer]


@pytest.mark.parametrize("command", [("dicom", "a", "--out", "b"), ("export", "dicom-seg", "a", "b", "--dicom", "c")])
def test_a_package_that_is_missing_is_named(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from importlib import util

    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "pydicom" else found(name))
    assert call(monkeypatch, *command) == 2
    assert "pydicom is not installed: pip install 'cgckit[dicom]'" in capfd.readouterr().err
