"""`cgckit clean`: what goes is what a complete run can do without; everything else stays as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cgckit.lock import locked
from cgckit.sealed import read_json, write_json

WriteCohort = Callable[..., Path]
QUICK = [
    *("--device", "cpu", "--quiet", "--set", "spacing=4", "--set", "crop=16x16x16", "--set", "widths=4x4x4x4"),
    *("--set", "projection=4", "--set", "batch=1", "--set", "steps=2"),
]


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Everything in a folder but its caches and locks, with the time of the last change."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".safetensors", ".lock")]
    kept = {*files, *(folder / "model").glob("*")} - {
        folder / "work" / "lock",
        folder / "work" / "door",
        folder / "cgckit.log",
    }
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(kept)}


@pytest.fixture
def run(cgckit, write_cohort: WriteCohort, tmp_path: Path) -> Callable[[], tuple[list[str], Path]]:
    """A complete run; gives its command and its folder."""

    def make() -> tuple[list[str], Path]:
        scans, out = write_cohort(2), tmp_path / "refined"
        prior = f"mask:{tmp_path}/scans-references/{{subject}}_seg.nii.gz"
        command = ["refine", str(scans), "--prior", prior, "--out", str(out), *QUICK]
        assert cgckit(*command).code == 0
        return command, out

    return make


def test_a_clean_run_is_as_good_as_before(cgckit, run, tmp_path: Path) -> None:
    command, out = run()
    caches = [path for name in ("priors", "prepared") for path in (out / "work" / name).iterdir()]
    size, before = sum(path.stat().st_size for path in caches), state(out)
    ending = cgckit("clean", out)
    assert (ending.code, ending.err) == (0, "")
    assert ending.out == f"{out}: {size / 1e6:.1f} MB removed\n"
    assert size > 0
    assert not [path for path in (out / "work").rglob("*") if path.suffix == ".safetensors"]
    assert state(out) == before
    assert cgckit("clean", out).out == f"{out}: 0.0 MB removed\n"
    assert cgckit(*command).code == 0
    assert [name for name in state(out) if state(out)[name][0] != before.get(name, (b"",))[0]] == []
    assert not (out / "work" / "priors").exists(), "there was nothing to do"
    assert cgckit("report", out, "--quiet").code == 0
    assert cgckit("evaluate", out, tmp_path / "scans-references", "--quiet").code == 0
    assert cgckit("predict", tmp_path / "scans", "--model", out, "--out", tmp_path / "new", "--quiet").code == 0
    assert cgckit(*command, "--set", "mirror=no").code == 0


def test_a_run_that_is_not_complete_is_cleaned_by_force_alone(cgckit, run) -> None:
    command, out = run()
    record = read_json(out / "run.json")
    write_json(out / "run.json", {**record, "status": "running"})
    before = state(out)
    ending = cgckit("clean", out)
    assert (ending.code, len(ending.err.splitlines())) == (2, 1)
    assert "not complete (running)" in ending.err
    assert "--force" in ending.err
    assert state(out) == before
    assert list((out / "work" / "priors").iterdir())
    assert cgckit("clean", out, "--force").code == 0
    assert not (out / "work" / "priors").exists()
    assert cgckit(*command).code == 0
    assert read_json(out / "run.json")["status"] == "complete"


def test_a_run_at_work_is_left_alone_even_by_force(cgckit, run) -> None:
    _, out = run()
    with locked(out):
        ending = cgckit("clean", out, "--force")
    assert ending.code == 2
    assert "another run of cgckit is at work there" in ending.err
    assert list((out / "work" / "priors").iterdir())


def test_what_is_no_run_is_refused(cgckit, tmp_path: Path) -> None:
    (tmp_path / "work" / "priors").mkdir(parents=True)
    (tmp_path / "work" / "priors" / "mine.safetensors").write_text("mine")
    for record in (None, json.dumps({"status": "complete"})):
        if record is not None:
            (tmp_path / "run.json").write_text(record)
        ending = cgckit("clean", tmp_path, "--force")
        assert (ending.code, len(ending.err.splitlines())) == (3, 1)
        assert "holds no run of cgckit" in ending.err
    assert cgckit("clean", tmp_path / "nowhere").code == 3
    assert sorted(os.listdir(tmp_path)) == ["run.json", "work"]
    assert (tmp_path / "work" / "priors" / "mine.safetensors").read_text() == "mine"


@pytest.mark.parametrize("name", ["work", "work/priors", "work/priors/one.safetensors"])
def test_no_link_is_followed(cgckit, run, tmp_path: Path, name: str) -> None:
    _, out = run()
    elsewhere, place = tmp_path / "elsewhere", out / name
    if place.exists():
        place.rename(elsewhere)
    else:
        elsewhere.write_text("mine")
    place.symlink_to(elsewhere)
    before = {path: path.read_bytes() for path in [elsewhere, *elsewhere.rglob("*")] if path.is_file()}
    ending = cgckit("clean", out)
    assert ending.code == (0 if name.endswith(".safetensors") else 2)
    assert {path: path.read_bytes() for path in before} == before


def test_somebody_elses_file_among_the_caches_stays(cgckit, run) -> None:
    _, out = run()
    note = out / "work" / "priors" / "note.txt"
    note.write_text("mine")
    assert cgckit("clean", out).code == 0
    assert note.read_text() == "mine"
