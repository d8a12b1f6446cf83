"""Several processes at once: the same files as one makes, and the same ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import cgckit as package
from cgckit.errors import PluginError, UsageError
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort, Subject
from cgckit.jobs import Workers, memory
from cgckit.jobs.parcel import Parcel, work
from cgckit.jobs.step import Step

WriteCohort = Callable[..., Path]
TINY = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "steps=3"]
SETTINGS = [word for setting in TINY for word in ("--set", setting)]
QUICK = ["--device", "cpu", "--quiet", *SETTINGS]

PRIOR = """
from dataclasses import dataclass
from pathlib import Path
import os, signal, sys, time
import torch
from cgckit import Prior

@dataclass
class Bright(Prior):
    threshold: float = 2.5

    def predict(self, case):
        {deed}
        return ((case.channel("flair") > self.threshold) & case.brain).float()

@dataclass
class Learned(Bright):
    def fit(self, cases):
        self.learned = max(float(case.image.max()) for case in cases) / 4
        return self

    def state(self):
        return {{"learned": torch.tensor([self.learned])}}

    def load_state(self, state):
        self.learned = float(state["learned"])

    def predict(self, case):
        return ((case.channel("flair") > self.learned) & case.brain).float()
"""


@pytest.fixture
def prior(tmp_path: Path) -> Callable[[str], str]:
    """Write a prior that does something before it predicts."""

    def write(deed: str = "pass", kind: str = "Bright") -> str:
        (tmp_path / "mine.py").write_text(PRIOR.format(deed=deed))
        return f"{tmp_path}/mine.py:{kind}"

    return write


def written(out: Path) -> dict[str, bytes]:
    """What a run made, without what says when and how."""
    files = [*out.glob("sub-*/anat/*"), *out.glob("*.tsv"), *out.glob("model/*.safetensors")]
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(files)}


@pytest.mark.parametrize("kind", ["Bright", "Learned"])
def test_two_jobs_write_what_one_writes(cgckit, write_cohort: WriteCohort, prior, tmp_path, kind) -> None:
    scans, one, two = write_cohort(3), tmp_path / "one", tmp_path / "two"
    command = ["refine", scans, "--prior", prior(kind=kind), *QUICK]
    assert cgckit(*command, "--out", one).code == 0
    ending = cgckit(*command, "--out", two, "--jobs", 2)
    assert (ending.code, ending.err) == (0, "")
    assert written(two) == written(one)
    assert len(written(two)) == 3 * 8 + 3
    records = [json.loads((out / "run.json").read_text()) for out in (one, two)]
    assert [record["jobs"] for record in records] == [[{"jobs": 1, "threads": 1}], [{"jobs": 2, "threads": 1}]]
    assert records[0]["key"] == records[1]["key"]
    logs = [[line.split(" ", 2)[2] for line in (out / "cgckit.log").read_text().splitlines()] for out in (one, two)]
    assert logs[0] == logs[1]

    # What is taken up with another number of jobs is the same run.
    (two / "sub-case2" / "anat" / "sub-case2_space-orig_label-L_desc-cgc_mask.nii.gz").unlink()
    assert cgckit(*command, "--out", two).code == 0
    assert written(two) == written(one)


def test_new_scans_get_the_same_masks_from_two_jobs(cgckit, write_cohort: WriteCohort, prior, tmp_path) -> None:
    scans = write_cohort(2)
    assert cgckit("refine", scans, "--prior", prior(), *QUICK, "--out", tmp_path / "model").code == 0
    for jobs in (1, 2):
        command = ["predict", scans, "--model", tmp_path / "model", "--out", tmp_path / f"{jobs}", *QUICK[:3]]
        assert cgckit(*command, "--jobs", jobs).code == 0
    assert written(tmp_path / "2") == written(tmp_path / "1")


def test_who_cannot_be_used_is_left_out_by_any_number_of_jobs(cgckit, write_cohort, prior, tmp_path) -> None:
    scans = write_cohort(4)
    flair = scans / "case2" / "case2_flair.nii.gz"
    content = bytearray(flair.read_bytes())
    content[len(content) // 2] ^= 1
    flair.write_bytes(content)
    outs = tmp_path / "one", tmp_path / "two"
    command = ["prior", scans, "--prior", prior(), "--quiet"]
    endings = [cgckit(*command, "--out", out, "--jobs", jobs) for jobs, out in enumerate(outs, 1)]
    assert [ending.code for ending in endings] == [6, 6]
    assert endings[0].err == endings[1].err
    assert written(outs[0]) == written(outs[1])
    record = (outs[1] / "run.json").read_bytes()
    assert cgckit(*command, "--out", outs[1], "--jobs", 2).code == 6  # nothing to do: it stays as it is
    assert (outs[1] / "run.json").read_bytes() == record
    strict = cgckit(*command, "--out", tmp_path / "strict", "--jobs", 2, "--strict")
    assert strict.code == 3
    assert "damaged" in strict.err


@pytest.mark.parametrize(
    ("deed", "code", "words"),
    [
        ("raise ValueError('no idea')", 5, "mine.py"),
        ("sys.exit(0)", 5, "SystemExit: 0"),
        ("os._exit(0)", 1, "ended by itself"),
    ],
)
def test_a_failure_in_another_process_ends_the_run_in_one_line(
    cgckit, write_cohort, prior, tmp_path, deed, code, words
) -> None:
    scans, out = write_cohort(2), tmp_path / "out"
    ending = cgckit("prior", scans, "--prior", prior(deed), "--out", out, "--quiet", "--jobs", 2)
    assert ending.code == code, ending.err
    assert len(ending.err.splitlines()) == 1, ending.err
    assert words.replace("mine.py", "no idea") in ending.err
    assert json.loads((out / "run.json").read_text())["status"] == "failed"
    assert cgckit("prior", scans, "--prior", prior(), "--out", out, "--quiet", "--jobs", 2).code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_ends_all_processes_and_the_run_goes_on(
    cgckit, write_cohort, prior, tmp_path, number: signal.Signals, code: int
) -> None:
    scans, out = write_cohort(3), tmp_path / "out"
    started = tmp_path / "started"
    wait = "time.sleep(0 if 'CGCKIT_FAST' in os.environ else 60)"
    slow = prior(f"Path({str(started)!r}).open('a').write(f'{{os.getpid()}}\\n'); {wait}")
    command = ["prior", scans, "--prior", slow, "--out", out, "--quiet", "--jobs", 2]
    process = subprocess.Popen(
        [sys.executable, "-m", "cgckit", *map(str, command)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not started.exists() or len(started.read_text().splitlines()) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    if code > 0:
        assert len(said.splitlines()) == 1, said
        assert said.endswith("the same command goes on from here\n")
    workers = [int(line) for line in started.read_text().splitlines()]
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlives its run"
        time.sleep(0.1)
    os.environ["CGCKIT_FAST"] = "1"
    try:
        assert cgckit(*command).code == 0
    finally:
        del os.environ["CGCKIT_FAST"]
    assert len(list(out.rglob("*seg-Bright_label-L_probseg.nii.gz"))) == 3
    assert not list(out.rglob(".partial-*"))


class Say(Step[str]):
    """Gives back what it finds, or what it is told to raise."""

    stage = "say"

    def __init__(self, deed: Callable[[], object]) -> None:
        self.deed = deed

    def files(self, subject: Subject) -> list[Path]:
        return []

    def read(self, subject: Subject) -> str:
        return str(self.deed())

    def write(self, subject: Subject, given: str) -> dict[str, object]:
        return {"given": given}


SUBJECT = Subject("a", "a", {})


def test_cases_in_memory_are_sent_as_they_are(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    cases = []
    for name in ("a", "b"):
        flair = generator.normal(100, 10, (24, 24, 24))
        flair[8:14, 8:14, 8:14] += 120
        cases.append(Case.from_arrays({"flair": flair}, affine=2 * np.eye(4), brain=flair > 0, subject=name))
    runs = [package.compute_priors(cases, "aucseg", tmp_path / f"{jobs}", jobs=jobs) for jobs in (1, 2)]
    assert written(tmp_path / "1") == written(tmp_path / "2")
    assert [subject.label for subject in runs[1]] == ["a", "b"]


def test_an_error_that_cannot_travel_says_the_same(tmp_path: Path) -> None:
    class OddError(UsageError):
        def __init__(self, first: str, second: str) -> None:
            super().__init__(f"{first} and {second}")

    def fail() -> None:
        raise OddError("this", "that")

    outcome = work(Parcel.of(Say(fail), 1), SUBJECT)
    with pytest.raises(PluginError, match="this and that"):
        outcome.get()
    assert "OddError" in outcome.details


def test_what_cannot_be_sent_is_told_before_anything_is(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(UsageError, match="run it with one job"):
        Parcel.of(Say(file.write), 1)


def test_an_edited_plugin_is_not_mistaken_for_the_one_that_was_sent(prior, tmp_path: Path) -> None:
    from cgckit.plugins.loading import import_class

    words = prior()
    kind = import_class(*((Path(words.rpartition(":")[0]), "Bright")))
    parcel = Parcel.of(Say(kind), 1)  # type: ignore[arg-type]
    assert parcel.plugins == (tmp_path / "mine.py",)
    del sys.modules[kind.__module__]
    prior("time.sleep(0)")
    with pytest.raises(UsageError, match="cannot be used in another process"):
        work(parcel, SUBJECT).get()


def test_threads_are_those_of_one_job_unless_the_cores_do_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cgckit.jobs.workers._cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert [Workers.of(jobs).threads for jobs in (1, 2, 3, 8, 20)] == [4, 4, 2, 1, 1]
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(UsageError, match="jobs: a whole number from 1 on"):
            Workers.of(wrong)  # type: ignore[arg-type]


def test_no_more_jobs_than_fit_the_memory(write_cohort, monkeypatch, caplog) -> None:
    cohort = Cohort.find(write_cohort(3))
    need = memory.expected(cohort[0])
    assert need > 500e6
    for free, fit in ((10 * need, 3), (2.5 * need, 2), (need / 2, 1), (None, 3)):
        monkeypatch.setattr(memory, "free_memory", lambda free=free: free)
        caplog.clear()
        assert Workers.of(9).for_subjects(cohort).jobs == fit
        assert ("would need about" in caplog.text) == (fit < 3)
        if fit == 2:
            assert "2 at work" in caplog.text


def test_the_memory_that_is_free_is_told_where_the_system_tells_it() -> None:
    if not Path("/proc/meminfo").exists():
        pytest.skip("no /proc/meminfo here")
    free = memory.free_memory()
    assert free is not None
    assert 0 < free < 1e15
