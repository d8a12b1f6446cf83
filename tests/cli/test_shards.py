"""Stages and shards: processes that know nothing of each other work on one run in one folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cgckit.errors import UsageError
from cgckit.jobs import Part
from cgckit.ledger import Ledger
from cgckit.lock import locked

WriteCohort = Callable[..., Path]
TINY = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "steps=3"]
QUICK = ["--device", "cpu", "--quiet", *(word for setting in TINY for word in ("--set", setting))]

PRIOR = """
from dataclasses import dataclass
import torch
from cgckit import Prior

@dataclass
class Learned(Prior):
    def fit(self, cases):
        self.learned = max(float(case.image.max()) for case in cases) / 4
        return self

    def state(self):
        return {"learned": torch.tensor([self.learned])}

    def load_state(self, state):
        self.learned = float(state["learned"])

    def predict(self, case):
        return ((case.channel("flair") > self.learned) & case.brain).float()
"""


@pytest.fixture
def command(write_cohort: WriteCohort, tmp_path: Path) -> list[object]:
    (tmp_path / "mine.py").write_text(PRIOR)
    return ["refine", write_cohort(3), "--prior", f"{tmp_path}/mine.py:Learned", *QUICK]


def at_once(command: list[object], stage: str, count: int) -> None:
    """Start one process a shard, all at the same time, and wait for them."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "cgckit", *map(str, command), "--stage", stage, "--shard", f"{number}/{count}"],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(1, count + 1)
    ]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert f"stage {stage}, shard" in out


def results(out: Path) -> dict[str, bytes]:
    files = [*out.glob("sub-*/anat/*"), *out.glob("*.tsv"), *out.glob("model/*.safetensors")]
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(files)}


def status(out: Path) -> str:
    return str(json.loads((out / "run.json").read_text())["status"])


def test_shards_at_once_come_to_what_one_command_does(cgckit, command, tmp_path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert cgckit(*command, "--out", whole).code == 0
    command = [*command, "--out", out]
    at_once(command, "prior", 3)
    assert len(list(out.glob("sub-*/anat/*seg-Learned*.nii.gz"))) == 3
    assert (out / "cgckit.log").read_text().count("fitting the prior on 3 subjects") == 1
    assert cgckit(*command, "--stage", "train").code == 0
    assert (out / "model" / "model.json").exists()
    assert status(out) == "running"
    at_once(command, "infer", 2)
    assert not (out / "summary.tsv").exists()
    made = {path: path.stat().st_mtime_ns for path in out.glob("sub-*/anat/*.nii.gz")}
    assert cgckit(*command).code == 0
    assert status(out) == "complete"
    assert results(out) == results(whole)
    assert {path: path.stat().st_mtime_ns for path in made} == made, "nothing is done twice"
    ledger = Ledger(out)
    assert all(ledger.is_whole(path) for path in made)


def test_masks_are_not_made_before_there_is_a_model(cgckit, command, tmp_path) -> None:
    ending = cgckit(*command, "--out", tmp_path / "out", "--stage", "infer", "--shard", "2/3")
    assert ending.code == 2
    assert "nothing is trained yet" in ending.err
    assert len(list((tmp_path / "out").glob("sub-*"))) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stage", "all"], "unknown stage 'all'"),
        (["--shard", "1/2"], "stages prior or infer"),
        (["--stage", "train", "--shard", "1/2"], "stages prior or infer"),
        (["--stage", "prior", "--shard", "0/2"], "a shard is i/n"),
        (["--stage", "prior", "--shard", "3/2"], "a shard is i/n"),
        (["--stage", "prior", "--shard", "one"], "a shard is i/n"),
        (["--stage", "prior", "--shard", "1/2", "--overwrite"], "without a stage"),
    ],
)
def test_what_is_no_part_of_a_run_is_refused(cgckit, tmp_path, arguments, words) -> None:
    ending = cgckit("refine", tmp_path, "--out", tmp_path / "out", "--quiet", *arguments)
    assert ending.code == 2, ending.err
    assert words in ending.err
    assert not (tmp_path / "out").exists()


def test_shards_are_all_subjects_each_once() -> None:
    subjects = list(range(7))
    shares = [Part.of("prior", f"{number}/3").share(subjects) for number in (1, 2, 3)]  # type: ignore[type-var]
    assert sorted(subject for share in shares for subject in share) == subjects
    assert Part.of("infer", "9/9").share(subjects[:2]) == []


def test_a_whole_run_and_a_shard_keep_each_other_out(cgckit, command, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked(out, shared=True), locked(out, shared=True):
        ending = cgckit(*command, "--out", out)
        assert ending.code == 2
        assert "another run of cgckit is at work there" in ending.err
    with locked(out), pytest.raises(UsageError, match="another run"), locked(out, shared=True):
        pass


def test_lines_of_many_writers_stay_whole(tmp_path: Path) -> None:
    Ledger(tmp_path).start("run")

    def note(writer: int) -> None:
        ledger = Ledger(tmp_path)
        for number in range(20):
            ledger.intend([tmp_path / f"{writer}-{number}-{'x' * 3000}"])

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(note, range(4)))
    lines = (tmp_path / "written.jsonl").read_text().splitlines()
    assert len({json.loads(line).get("path") for line in lines}) == 4 * 20 + 1
