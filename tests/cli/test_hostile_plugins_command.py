"""Plug-ins that leave the interpreter: no command ends as if it had done its work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

WriteCohort = Callable[..., Path]

PRIOR = """
import sys
from dataclasses import dataclass
from cgckit import Prior
from cgckit.errors import CgckitError

class Quiet(CgckitError):
    exit_code = 0

def quiet():
    raise Quiet("all is well")

class Stop(BaseException):
    pass

def stop():
    raise Stop

def leave():
    sys.exit(0)

class Meta(type(Prior)):
    def __call__(cls, *arguments, **options):
        {metaclass}
        return super().__call__(*arguments, **options)

{module}

@dataclass
class Mine(Prior, metaclass=Meta):
    def __post_init__(self):
        {made}

    def fit(self, cases):
        {fit}
        return self

    def state(self):
        {state}
        return {{}}

    def fingerprint(self, subject):
        {fingerprint}
        return ""

    def predict(self, case):
        {predict}
        return ((case.image[0] > 1) & case.brain).float()
"""
PLACES = ("module", "metaclass", "made", "fit", "state", "fingerprint", "predict")


def assert_failed(ending, out: Path) -> None:
    """Exit code 5 and one line; no run is complete, and there is no mask."""
    assert ending.code == 5, ending.err
    assert len(ending.err.splitlines()) == 1, ending.err
    assert not list(out.rglob("*_desc-cgc_mask.nii.gz"))
    if (out / "run.json").exists():
        assert json.loads((out / "run.json").read_text())["status"] != "complete"


@pytest.fixture
def refine(cgckit, write_cohort, tmp_path):
    def call(**code: str):
        file = tmp_path / "mine.py"
        places = {**dict.fromkeys(PLACES, "pass"), **code}
        file.write_text(PRIOR.format(**places))
        quick = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "steps=1"]
        words = [word for setting in quick for word in ("--set", setting)]
        return cgckit(
            "refine", write_cohort(1), "--prior", f"{file}:Mine", "--out", tmp_path / "out", "--quiet", *words
        )

    return call


@pytest.mark.parametrize("deed", ["leave()", "stop()"])
@pytest.mark.parametrize("place", PLACES)
def test_a_prior_that_leaves_is_a_failure_wherever_it_does(refine, tmp_path: Path, place: str, deed: str) -> None:
    assert_failed(refine(**{place: deed}), tmp_path / "out")


def test_an_error_that_calls_itself_success_is_none(refine) -> None:
    ending = refine(predict="quiet()")
    assert ending.code == 1
    assert ending.err == "cgckit: all is well\n"


def test_leaving_where_nobody_expects_it_is_a_failure_too(cgckit, monkeypatch) -> None:
    monkeypatch.setattr("cgckit.plugins.Group.installed", lambda self: sys.exit(0))
    ending = cgckit("plugins", "list")
    assert ending.code == 5
    assert ending.err == "cgckit: a plug-in left the interpreter (SystemExit: 0): it must raise an error instead\n"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (PermissionError(13, "Permission denied", "/some/file"), 3, "/some/file: Permission denied"),
        (OSError("odd"), 3, "odd"),
        (MemoryError(), 1, "memory"),
        (KeyError("a\nkey"), 1, "KeyError"),
    ],
)
def test_what_nobody_expected_is_one_line_without_verbose(cgckit, monkeypatch, error, code, words) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("cgckit.plugins.Group.installed", fail)
    ending = cgckit("plugins", "list")
    assert ending.code == code
    assert len(ending.err.splitlines()) == 1
    assert words in ending.err
    verbose = cgckit("-v", "plugins", "list")
    assert verbose.code == code
    assert f"\n{type(error).__name__}" in verbose.err


def test_the_end_of_the_process_is_no_complete_run(write_cohort: WriteCohort, tmp_path: Path) -> None:
    """`os._exit` cannot be caught, and gives whatever code it likes; but no run is complete, and no page shows it."""
    file, out = tmp_path / "mine.py", tmp_path / "out"
    places = {**dict.fromkeys(PLACES, "pass"), "predict": "__import__('os')._exit(0)"}
    file.write_text(PRIOR.format(**places))
    command = [sys.executable, "-m", "cgckit"]
    arguments = ["refine", write_cohort(1), "--prior", f"{file}:Mine", "--out", out, "--quiet"]
    subprocess.run([*command, *map(str, arguments)], check=False, capture_output=True)
    assert json.loads((out / "run.json").read_text())["status"] == "running"
    assert not (out / "summary.tsv").exists()
    report = subprocess.run([*command, "report", str(out)], check=False, capture_output=True, text=True)
    assert report.returncode == 3
    assert "no complete run" in report.stderr
