"""nnU-Net's rows, with commands in its place that copy the reference of a subject that they were trained on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cgckit.errors import UsageError
from cgckit.experiments.results import read_results
from cgckit.experiments.table_one import TableOne, table1
from cgckit.experiments.table_one.nnunet import EPOCHS
from cgckit.experiments.table_one.systems import System

WriteCohort = Callable[..., Path]
COMMANDS = {
    "nnUNetv2_plan_and_preprocess": 'ls "$raw/labelsTr" | sed "s/^/train /" >> "$said"; echo plan "$@" >> "$said"',
    "nnUNetv2_train": 'echo train "$@" >> "$said"',
    "nnUNetv2_predict": """
while [ $# -gt 0 ]; do case $1 in -i) in=$2;; -o) out=$2;; esac; shift; done
mkdir -p "$out"
for scan in "$in"/*_0000.nii.gz; do
    name=$(basename "$scan" _0000.nii.gz)
    cp "$(ls "$raw"/labelsTr/*.nii.gz | head -n 1)" "$out/$name.nii.gz"
done
echo predict $(ls "$in") >> "$said"
""",
}


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a command on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def write(name: str, body: str) -> None:
        head = f"#!/bin/sh\nset -e\nsaid={tmp_path}/said\nraw=$nnUNet_raw/Dataset001_table1\n"
        (folder / name).write_text(head + body + "\n")
        (folder / name).chmod(0o755)

    return write


@pytest.fixture
def commands(put: Callable[[str, str], None]) -> Callable[[str, str], None]:
    for name, body in COMMANDS.items():
        put(name, body)
    return put


def run(scans: Path, out: Path, rows: list[str]) -> TableOne:
    return table1(scans, f"{scans}-references", out, rows=rows, device="cpu")


def dice(scans: Path, one: str, other: str) -> float:
    folder = scans.with_name(f"{scans.name}-references")
    a, b = (np.asarray(nib.load(folder / f"{name}_seg.nii.gz").dataobj) > 0 for name in (one, other))
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_it_learns_from_the_references_of_other_folds_alone(
    write_cohort: WriteCohort, tmp_path: Path, commands: object
) -> None:
    scans, out = write_cohort(2), tmp_path / "out"
    table = run(scans, out, ["nnunet:50"])
    overlap = dice(scans, "case1", "case2")
    assert [scores["dice"] for scores in table.rows[0].subjects.values()] == pytest.approx([overlap] * 2)
    assert table.rows[0].cells()["labels"] == "yes"
    assert table.rows[0].text()["row"] == "nnU-Net, 50 epochs (uses labels)"
    assert table.rows[0].text()["paper: Dice"] == "0.9161"
    said = (tmp_path / "said").read_text()
    assert said.count("train 1 3d_fullres all -tr nnUNetTrainer_50epochs -device cpu --c") == 2
    assert "train case0000.nii.gz\nplan" in said
    assert "predict case0001_0000.nii.gz case0001_0001.nii.gz\n" in said
    described = json.loads(next(out.glob("work/nnunet/*/raw/*/dataset.json")).read_text())
    assert described["numTraining"] == 1
    assert described["channel_names"] == {"0": "flair", "1": "t1"}
    assert described["labels"] == {"background": 0, "lesion": 1}
    assert [outcome.training["epochs"] for outcome in read_results(out / "results.jsonl")[1]] == [50, 50]
    (tmp_path / "said").unlink()
    assert run(scans, out, ["nnunet:50"]).rows == table.rows
    assert not (tmp_path / "said").exists(), "nothing was left to do"


def test_other_epochs_are_another_row(write_cohort: WriteCohort, tmp_path: Path, commands: object) -> None:
    rows = run(write_cohort(2), tmp_path / "out", ["nnunet:1", "nnunet:1000"]).rows
    assert [row.output.subjects for row in rows] == [2, 2]
    said = (tmp_path / "said").read_text()
    assert said.count("-tr nnUNetTrainer_1epoch ") == said.count("-tr nnUNetTrainer ") == 2


def test_a_command_that_fails_is_told_and_does_not_plan_again(
    write_cohort: WriteCohort, tmp_path: Path, commands: Callable[[str, str], None]
) -> None:
    scans, out = write_cohort(2), tmp_path / "out"
    commands("nnUNetv2_train", "echo no memory; exit 3")
    table = run(scans, out, ["nnunet:5"])
    assert table.failed == ("nnunet:5",)
    assert "nnUNetv2_train failed (exit code 3; " in table.rows[0].remark
    assert table.rows[0].remark.endswith("no memory")
    commands("nnUNetv2_train", COMMANDS["nnUNetv2_train"])
    assert run(scans, out, ["nnunet:5"]).failed == ()
    assert (tmp_path / "said").read_text().count("plan") == 2, "once for each fold"


def test_scans_that_it_does_not_take_are_told(write_cohort: WriteCohort, tmp_path: Path, commands: object) -> None:
    scans = write_cohort(2)
    other = nib.Nifti1Image(np.random.default_rng(0).random((9, 9, 9), np.float32), np.diag([8.0, 8.0, 8.0, 1.0]))
    nib.save(other, scans / "case2" / "case2_t1.nii.gz")
    assert "not on the grid" in run(scans, tmp_path / "out", ["nnunet:1"]).rows[0].remark


@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
def test_an_interruption_ends_what_it_started(
    write_cohort: WriteCohort, tmp_path: Path, commands: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands("nnUNetv2_train", f"sleep 600 & echo $! > {tmp_path}/child; wait")

    def interrupted(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if not self.args[0].endswith("train") or (tmp_path / "told").exists():  # type: ignore[index, union-attr]
            return wait(self, timeout)
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
            time.sleep(0.01)
        (tmp_path / "told").touch()
        raise KeyboardInterrupt

    wait = subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(write_cohort(2), tmp_path / "out", ["nnunet:1"])
    child = (tmp_path / "child").read_text().strip()
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] in "ZX"


def test_without_it_the_row_says_so(write_cohort: WriteCohort, tmp_path: Path, put: Callable[[str, str], None]) -> None:
    table = run(write_cohort(2), tmp_path / "out", ["nnunet:50"])
    assert table.rows[0].remark == "not installed: comes with nnunetv2"
    assert table.failed == ("nnunet:50",), "it was asked for by name"


@pytest.mark.parametrize("name", ["nnunet", "nnunet:", "nnunet:7", "nnunet:many"])
def test_its_epochs_must_be_said_and_be_those_of_a_trainer(name: str) -> None:
    with pytest.raises(UsageError, match="as nnunet:50"):
        System.read(name)
    assert System.read("nnunet:250").epochs == 250
    assert 1000 in EPOCHS
