"""How the command line ends when it is stopped from outside, or when nothing can be written any more."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cgckit.errors import BadInputError
from cgckit.jobs.console import log_file
from cgckit.ledger import Ledger
from cgckit.lock import locked
from cgckit.sealed import write_tensors

QUICK = [
    *("--device", "cpu", "--quiet", "--set", "spacing=4", "--set", "crop=16x16x16", "--set", "widths=4x4x4x4"),
    *("--set", "projection=4", "--set", "batch=1", "--set", "steps=2"),
]


def signalled(module: str, number: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in a process that gets a signal when a module is looked for, so early in its life."""
    script = f"""
import os, sys

class Signalling:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {int(number)})

sys.meta_path.insert(0, Signalling())
from cgckit.__main__ import main
main()
"""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["cgckit.cli.main", "typer", "cgckit.cli.commands.refine", "cgckit.pipeline.refine"])
def test_ctrl_c_while_the_program_starts_gives_no_traceback(tmp_path: Path, module: str) -> None:
    done = signalled(module, signal.SIGINT, "refine", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 130
    assert done.stderr.startswith("cgckit: interrupted")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_sigterm_ends_like_ctrl_c_with_its_own_code(tmp_path: Path) -> None:
    done = signalled("cgckit.pipeline.refine", signal.SIGTERM, "refine", tmp_path, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (143, "")
    assert done.stderr == "cgckit: terminated; the same command goes on from here\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("wrap", [RuntimeError, ImportError, BadInputError, SystemExit])
def test_a_signal_that_somebody_takes_for_an_error_of_his_own_is_still_one(
    cgckit, monkeypatch, tmp_path, number, code, wrap
):
    def swallow(*arguments, **options):
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt as error:
            raise wrap("could not be imported") from error

    monkeypatch.setattr("cgckit.refine", swallow)
    before = signal.getsignal(number)
    ending = cgckit("refine", tmp_path, "--out", tmp_path / "out")
    assert ending.code == code
    assert ending.err.splitlines()[-1].endswith("the same command goes on from here")
    assert "Traceback" not in ending.err
    assert signal.getsignal(number) is before


def test_an_output_that_nobody_can_take_is_one_line():
    command = [sys.executable, "-m", "cgckit", "presets"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == "cgckit: No space left on device\n"


@contextmanager
def file_size(limit: int) -> Iterator[None]:
    """No file grows beyond `limit` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def images(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.nii.gz"))}


def test_wherever_the_disk_is_full_the_run_ends_in_one_line_and_goes_on_afterwards(
    cgckit, write_cohort: Callable[..., Path], tmp_path: Path
) -> None:
    scans, out = write_cohort(1), tmp_path / "out"
    arguments = ["refine", scans, "--prior", "aucseg", *QUICK, "--out"]
    assert cgckit(*arguments, tmp_path / "whole").code == 0
    sizes = sorted({path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file()})
    failed = 0
    # Too small for the record of the run, the tables, the maps, the prior's cache, the weights, the checkpoint.
    for limit in [size - 1 for size in sizes if size > 1000][::2]:
        with file_size(limit):
            ending = cgckit(*arguments, out)
        if ending.code == 0:
            break
        failed += 1
        assert ending.code == 3, ending.err
        assert len(ending.err.splitlines()) == 1, ending.err
        assert "cannot be written (File too large)" in ending.err
        assert not list(out.rglob(".partial-*"))
    assert failed > 2
    assert cgckit(*arguments, out).code == 0
    assert images(out) == images(tmp_path / "whole")


def test_each_kind_of_file_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    import torch

    ledger = Ledger(tmp_path)
    ledger.start("a" * 50)
    with file_size(20):
        for write in (
            lambda: write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(100)}),
            lambda: ledger.adopt("b"),
            lambda: ledger.intend([tmp_path / "b.txt"]),
        ):
            with pytest.raises(BadInputError, match=r"cannot be written \(File too large\)$"):
                write()
    with file_size(0), pytest.raises(BadInputError, match="work/lock: cannot be written"), locked(tmp_path):
        pass
    assert Ledger(tmp_path).run == "a" * 50
    with pytest.raises(BadInputError, match="cannot be written"), log_file(tmp_path / "nowhere" / "cgckit.log"):
        pass


def test_a_log_that_is_full_does_not_end_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import logging

    with file_size(10), log_file(tmp_path / "cgckit.log"):
        logging.getLogger("cgckit").info("more than ten letters")
    assert (tmp_path / "cgckit.log").stat().st_size == 10
    assert capfd.readouterr().err == ""
