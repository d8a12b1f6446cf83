"""A dask cluster works on the subjects: one of its workers is killed, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

WriteCohort = Callable[..., Path]
TINY = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "steps=3"]
QUICK = ["--device", "cpu", "--quiet", *(word for setting in TINY for word in ("--set", setting))]

PRIOR = """
from dataclasses import dataclass
from pathlib import Path
import os, signal
from cgckit import Prior

@dataclass
class Bright(Prior):
    def predict(self, case):
        if case.subject == {victim!r} and Path({sign!r}).exists():
            {end}
            os.kill(os.getpid(), signal.SIGKILL)
        return ((case.channel("flair") > 2.5) & case.brain).float()
"""


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster of two worker processes."""
    distributed = pytest.importorskip("distributed", reason="dask is not in this environment: cgckit[dask] has it")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def prior(tmp_path: Path) -> Callable[..., str]:
    """Write a prior that kills its process at case 2, once or each time."""

    def write(once: bool = True) -> str:
        sign = tmp_path / "sign"
        end = f"Path({str(sign)!r}).unlink()" if once else "pass"
        (tmp_path / "mine.py").write_text(PRIOR.format(victim="case2", sign=str(sign), end=end))
        return f"{tmp_path}/mine.py:Bright"

    return write


def images(out: Path) -> dict[str, bytes]:
    files = [*out.glob("sub-*/anat/*"), *out.glob("*.tsv")]
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(files)}


def test_a_killed_worker_loses_nothing(scheduler, cgckit, write_cohort: WriteCohort, prior, tmp_path) -> None:
    scans, alone, out, sign = write_cohort(4), tmp_path / "alone", tmp_path / "out", tmp_path / "sign"
    command = ["refine", scans, "--prior", prior(), *QUICK]
    assert cgckit(*command, "--out", alone).code == 0
    sign.touch()
    ending = cgckit(*command, "--out", out, "--scheduler", scheduler)
    assert ending.code == 0, ending.err
    assert not sign.exists(), "nobody was killed"
    assert images(out) == images(alone)
    assert not list(out.rglob(".partial-*"))
    record = json.loads((out / "run.json").read_text())
    assert record["jobs"] == [{"scheduler": scheduler, "threads": 1}]
    assert record["key"] == json.loads((alone / "run.json").read_text())["key"]


def test_who_kills_every_worker_ends_the_run(scheduler, cgckit, write_cohort, prior, tmp_path) -> None:
    scans, out = write_cohort(2), tmp_path / "out"
    (tmp_path / "sign").touch()
    ending = cgckit("prior", scans, "--prior", prior(once=False), "--out", out, "--quiet", "--scheduler", scheduler)
    assert ending.code == 1
    assert "workers of the cluster ended by themselves" in ending.err.splitlines()[-1]
    assert json.loads((out / "run.json").read_text())["status"] == "failed"


def test_what_is_wrong_with_a_subject_or_a_plugin_is_told_as_ever(
    scheduler, cgckit, write_cohort, prior, tmp_path
) -> None:
    scans = write_cohort(3)
    flair = scans / "case2" / "case2_flair.nii.gz"
    content = bytearray(flair.read_bytes())
    content[len(content) // 2] ^= 1
    flair.write_bytes(content)
    command = ["prior", scans, "--quiet", "--scheduler", scheduler, "--prior"]
    ending = cgckit(*command, prior(), "--out", tmp_path / "out")
    assert ending.code == 6, ending.err
    assert "case2 is left out: " in ending.err
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text().replace("float()", "double()"))
    ending = cgckit(*command, f"{tmp_path}/mine.py:Bright", "--out", tmp_path / "other")
    assert ending.code == 5
    assert "float64" in ending.err


def test_a_scheduler_that_is_not_there_is_told(cgckit, write_cohort, prior, tmp_path, monkeypatch) -> None:
    pytest.importorskip("distributed", reason="dask is not in this environment: cgckit[dask] has it")
    monkeypatch.setattr("cgckit.jobs.cluster._ANSWER_WITHIN", "1s")
    scans = write_cohort(2)
    for address in ("tcp://127.0.0.1:9", "nowhere"):
        ending = cgckit("prior", scans, "--prior", prior(), "--out", tmp_path / "out", "-q", "--scheduler", address)
        assert ending.code == 2, ending.err
        assert f"{address}: no dask scheduler answers there" in ending.err.splitlines()[-1]


def test_without_dask_it_is_told_what_to_install(cgckit, write_cohort, prior, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    command = ["prior", write_cohort(2), "--prior", prior(), "--out", tmp_path / "out", "-q"]
    ending = cgckit(*command, "--scheduler", "tcp://127.0.0.1:9")
    assert ending.code == 2
    assert "cgckit[dask]" in ending.err
    ending = cgckit(*command, "--scheduler", "tcp://127.0.0.1:9", "--jobs", "2")
    assert ending.code == 2
    assert "not both" in ending.err
