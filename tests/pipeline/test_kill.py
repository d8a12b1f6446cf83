"""SIGKILL in training, in inference, at any file event, at any moment: the same command ends with the same files.

`make fuzz` tries more: CGCKIT_KILLS is the number of kills at random places, two of three at file events.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cgckit.atomic import TEMPORARY_PREFIX
from cgckit.cli.main import main

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")

KILLS = int(os.environ.get("CGCKIT_KILLS", "3"))
SUBJECTS = 2
STEPS = 30  # checkpoints come every 25
QUICK = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", f"steps={STEPS}"]

# The command line in a process that is killed, as by the system, when a function is called for the n-th time. A signal
# from outside would come at another place each time, or too late on a busy machine.
KILLED = """
import os, signal, sys
from importlib import import_module
from cgckit.cli.main import main

module, kind, name, last = sys.argv[1:5]
owner = getattr(import_module(module), kind)
original, calls = getattr(owner, name), 0

def counted(*arguments, **options):
    global calls
    calls += 1
    if calls == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

setattr(owner, name, counted)
sys.argv[1:] = sys.argv[5:]
main()
"""

# Loads cgckit once and forks a process for each order that comes on stdin: the words of a command, the folder whose
# file events count, and the number of the event before which the process kills itself, or the seconds after which it is
# killed. Answers with how it ended, the events that it saw and the seconds that it took.
FORKING = """
import json, os, signal, sys, time
import cgckit.cli.main as cli
import cgckit.pipeline.refine, cgckit.cgc.inference, cgckit.priors.external

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}

def obey(order, answer):
    seen = 0
    def hear(event, details):
        nonlocal seen
        if event not in EVENTS or not isinstance(details[0], (str, bytes, os.PathLike)):
            return
        if event == "open" and not details[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if os.fsdecode(details[0]).startswith(order["below"]):
            seen += 1
            if seen == order.get("event"):
                os.kill(os.getpid(), signal.SIGKILL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.addaudithook(hear)
    sys.argv = ["cgckit", *order["words"]]
    code = 70  # unless the command ends as it should; whatever it does, this process takes no further order
    try:
        cli.main()
        code = 0
    except SystemExit as ending:
        code = ending.code or 0
    finally:
        os.write(answer, str(seen).encode())
        os._exit(code)

for line in sys.stdin:
    order = json.loads(line)
    read, answer = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        obey(order, answer)
    os.close(answer)
    if "after" in order:
        time.sleep(order["after"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    seen = os.read(read, 20)
    os.close(read)
    ended = {"code": os.waitstatus_to_exitcode(status), "events": int(seen or 0), "seconds": time.monotonic() - began}
    print(json.dumps(ended), flush=True)
"""


def arguments(scans: Path, out: Path) -> list[str]:
    references = scans.with_name(f"{scans.name}-references")
    settings = [word for value in QUICK for word in ("--set", value)]
    prior = ["--prior", f"mask:{references}/{{subject}}_seg.nii.gz", "--device", "cpu", "--quiet"]
    return ["refine", str(scans), "--out", str(out), *prior, *settings]


def run(scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the command in this process, which has torch in memory, and let it end by itself."""
    monkeypatch.setattr(sys, "argv", ["cgckit", *arguments(scans, out)])
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code in (None, 0)


def run_killed(scans: Path, out: Path, *where: object) -> None:
    """Give it in a process that is killed at the call that `where` names: module, class, method, number of the call."""
    command = [sys.executable, "-c", KILLED, *map(str, where), *arguments(scans, out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, f"ended by itself: {done.stderr}"


def images(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.nii.gz"))}


def test_a_run_killed_in_training_and_in_inference_ends_with_the_same_masks(
    write_cohort: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, whole, out = write_cohort(SUBJECTS), tmp_path / "whole", tmp_path / "out"
    run(scans, whole, monkeypatch)
    scratch, card = out / "work" / "run", out / "model" / "model.json"
    assert (whole / "model" / "model.json").exists()

    run_killed(scans, out, "cgckit.cgc.crops", "CropSampler", "__call__", 28)
    assert (scratch / "checkpoint.safetensors").exists()
    assert not card.exists()
    assert not list(out.rglob("*desc-cgc_mask.nii.gz"))

    # While the mask of the second subject is written, after two images of the first and one of its own.
    run_killed(scans, out, "nibabel", "Nifti1Image", "to_stream", 4)
    assert card.exists()
    assert [path.stem for path in (scratch / "inference").glob("[!.]*.json")] == ["case1"]
    assert len(list(out.rglob(f"{TEMPORARY_PREFIX}*"))) == 1
    finished = {path: path.stat().st_mtime_ns for path in out.glob("sub-case1/anat/*.nii.gz")}
    assert not (out / "summary.tsv").exists()

    run(scans, out, monkeypatch)
    assert images(out) == images(whole)
    assert len(images(out)) == 4 * SUBJECTS
    assert (out / "summary.tsv").read_text() == (whole / "summary.tsv").read_text()
    assert (out / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    assert not list(out.rglob(f"{TEMPORARY_PREFIX}*"))
    # Nothing was done twice: neither the priors, nor the training, nor the subject that was finished.
    log = (out / "cgckit.log").read_text()
    assert log.count("mask read from") == SUBJECTS
    assert log.count(f"step {STEPS} of {STEPS}") == 1
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_a_run_killed_when_it_has_just_saved_its_model_leaves_nothing_of_the_training(
    write_cohort: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, out = write_cohort(SUBJECTS), tmp_path / "out"
    scratch = out / "work" / "run"
    run_killed(scans, out, "cgckit.pipeline.engine", "shutil", "rmtree", 1)
    assert (out / "model" / "model.json").exists()
    assert (scratch / "examples").exists()

    run(scans, out, monkeypatch)
    assert (out / "summary.tsv").exists()
    assert not (scratch / "examples").exists()
    assert not (scratch / "checkpoint.safetensors").exists()


class Runs:
    """Gives the same command again and again, each time in a new process."""

    def __init__(self, process: subprocess.Popen[str], scans: Path) -> None:
        self.process, self.scans = process, scans

    def give(self, out: Path, **how: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"words": arguments(self.scans, out), "below": str(out), **how}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture
def runs(write_cohort: Callable[..., Path]) -> Iterator[Runs]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # teams of threads do not outlive a fork
    command = [sys.executable, "-c", FORKING]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Runs(process, write_cohort(SUBJECTS))
        assert process.stdin is not None
        process.stdin.close()


def kept(out: Path) -> dict[str, bytes]:
    """Every file of a run whose bytes may not depend on when it was made."""
    timed = {"run.json", "cgckit.log"}
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and not path.is_symlink())
    found = {str(path.relative_to(out)): path.read_bytes() for path in files if path.name not in timed}
    return {name: content for name, content in found.items() if not name.startswith("work/")}


def test_a_run_killed_at_any_file_event_or_moment_ends_with_the_same_files(runs: Runs, tmp_path: Path) -> None:
    whole = runs.give(tmp_path / "whole")
    assert whole["code"] == 0
    expected, work = kept(tmp_path / "whole"), sorted(p.name for p in (tmp_path / "whole" / "work").rglob("*"))
    assert whole["events"] > 50

    draw = random.Random(KILLS)
    at_moments = KILLS // 3
    at_events = sorted(draw.sample(range(1, whole["events"] + 1), KILLS - at_moments))
    orders: list[dict[str, float]] = [{"event": number} for number in at_events]
    orders += [{"after": draw.uniform(0, whole["seconds"])} for _ in range(at_moments)]
    for number, order in enumerate(orders):
        out = tmp_path / f"killed-{number}"
        killed = runs.give(out, **order)
        if "event" in order:
            assert killed["code"] == -signal.SIGKILL, order
        again = runs.give(out)
        assert again["code"] == 0, order
        assert kept(out) == expected, order
        assert sorted(p.name for p in (out / "work").rglob("*")) == work, order
        assert not list(out.rglob(f"{TEMPORARY_PREFIX}*")), order
