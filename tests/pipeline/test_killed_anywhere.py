"""SIGKILL at any file event, and at any moment: the same command ends with the same files, and leaves nothing over.

`make fuzz` tries more: CGCKIT_KILLS is the number of kills, two of three at file events, the others at moments.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")

KILLS = int(os.environ.get("CGCKIT_KILLS", "3"))
QUICK = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "steps=26"]  # a checkpoint at 25

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
    code = 0
    try:
        cli.main()
    except SystemExit as ending:
        code = ending.code or 0
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


class Runs:
    """Gives the same command again and again, each time in a new process."""

    def __init__(self, process: subprocess.Popen[str], scans: Path) -> None:
        self.process, self.scans = process, scans

    def give(self, out: Path, **how: float) -> dict[str, Any]:
        references = self.scans.with_name(f"{self.scans.name}-references")
        words = ["refine", str(self.scans), "--out", str(out), "--device", "cpu", "--quiet"]
        words += ["--prior", f"mask:{references}/{{subject}}_seg.nii.gz"]
        words += [word for value in QUICK for word in ("--set", value)]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"words": words, "below": str(out), **how}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture
def runs(write_cohort: Callable[..., Path]) -> Any:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # teams of threads do not outlive a fork
    command = [sys.executable, "-c", FORKING]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Runs(process, write_cohort(2))
        assert process.stdin is not None
        process.stdin.close()


def kept(out: Path) -> dict[str, bytes]:
    """Every file of a run whose bytes may not depend on when it was made."""
    timed = {"run.json", "cgckit.log"}
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and not path.is_symlink())
    found = {str(path.relative_to(out)): path.read_bytes() for path in files if path.name not in timed}
    return {name: content for name, content in found.items() if not name.startswith("work/")}


def left_over(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if path.name.startswith(".partial-") or path.suffix == ".tmp"]


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
        assert not left_over(out), order
