"""`benchmarks/gpu_check` without a GPU: its checks run, notice what is wrong, and need torch alone."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cgckit.contrast import fused_available

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.skipif(not fused_available(), reason="the extension is not built"),
    pytest.mark.skipif(not (ROOT / "benchmarks" / "gpu_check").is_dir(), reason="benchmarks are not here"),
]

BARE = """
import sys

MISSING = {"matplotlib", "monai", "nibabel", "nilearn", "pytorch_metric_learning", "rich", "safetensors", "scipy"}
MISSING |= {"sklearn", "typer"}


class Blind:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else self.finder.find_spec(name, path, target)


sys.meta_path[:] = [Blind(finder) for finder in sys.meta_path]
"""
"""Python starts with it, as on a machine that has torch and little else."""

Bare = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    """Run Python with these arguments where most libraries are missing."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(BARE)
    path = os.pathsep.join([str(tmp_path / "bare"), str(ROOT)])

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a module of `benchmarks.gpu_check`."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.gpu_check.{name}")


@pytest.fixture
def findings(module: Callable[[str], Any], tmp_path: Path) -> Any:
    return module("findings").Findings(tmp_path / "lines.jsonl")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", ["values", "situations", "repeats", "small_calls", "timings", "training"])
def test_every_check_runs_on_a_cpu_and_finds_nothing_bad(
    name: str, module: Callable[[str], Any], findings: Any, tmp_path: Path
) -> None:
    module(name).check(CPU, findings)
    found = lines(tmp_path / "lines.jsonl")
    assert found
    assert all(line["check"] == name for line in found)
    assert [line for line in found if line["ok"] is False] == []
    assert findings.bad == 0


@pytest.mark.parametrize("name", ["values", "situations", "repeats"])
def test_a_gradient_that_drifts_is_noticed(
    name: str, module: Callable[[str], Any], findings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = module("problems").loss_and_gradients
    calls = iter(range(10_000))

    def drifting(*arguments: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        loss, by_features, by_temperature = right(*arguments, **options)
        return loss, by_features * (1 + 0.01 * next(calls)), by_temperature

    monkeypatch.setattr(module(name), "loss_and_gradients", drifting)
    module(name).check(CPU, findings)
    assert findings.bad


def test_a_step_that_fails_hangs_or_cannot_start_is_bad_and_the_next_one_runs(
    module: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = module("steps")
    commands = {
        "fails": (sys.executable, "-c", "raise SystemExit(3)"),
        "hangs": (sys.executable, "-c", "import time; time.sleep(60)"),
        "is missing": ("no-such-program",),
        "works": (sys.executable, "-c", "print('said')"),
    }
    limits = {"hangs": 1}
    made = {name: steps.Step(command, limits.get(name, 30), on_cpu=True) for name, command in commands.items()}
    monkeypatch.setattr(steps, "STEPS", {**made, "of a GPU": steps.Step(("no-such-program",), 30)})
    assert not steps.run_steps(list(steps.STEPS), "cpu", tmp_path, 60)
    found = {
        line["step"]: (line["ok"], line.get("status", line.get("why"))) for line in lines(tmp_path / "gpu_check.jsonl")
    }
    assert found == {
        "fails": (False, 3),
        "hangs": (False, "stopped after 1 s"),
        "is missing": (False, "no-such-program is not there"),
        "works": (True, 0),
        "of a GPU": (None, "needs a GPU"),
    }
    assert (tmp_path / "works.log").read_text() == "said\n"
    assert steps.run_steps(["works", "of a GPU"], "cpu", tmp_path, 60)
    assert not steps.run_steps(["works"], "cpu", tmp_path, 0)


def test_the_dry_run_needs_torch_alone(bare: Bare, tmp_path: Path) -> None:
    only = [option for step in ("small_calls", "training", "memcheck") for option in ("--only", step)]
    done = bare("-m", "benchmarks", "gpu_check", "--device", "cpu", "--results", str(tmp_path / "found"), *only)
    assert done.returncode == 0, done.stdout + done.stderr
    found = lines(tmp_path / "found" / "gpu_check.jsonl")
    assert [(line["ok"], line.get("check"), line.get("step"), line.get("why")) for line in found] == [
        (True, "small_calls", None, None),
        (True, None, "small_calls", None),
        (None, "training", None, "No module named 'monai'"),
        (True, None, "training", None),
        (None, None, "memcheck", "needs a GPU"),
    ]


def test_the_tests_of_the_loss_run_where_only_torch_is(bare: Bare) -> None:
    tests = ("tests/contrast", "tests/simt", "--confcutdir=tests/contrast")
    done = bare("-m", "pytest", *tests, "-q", "-p", "no:cacheprovider", "-k", "test_one_integer_is_a_cube")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("1 passed") == 1


CONTENDERS = """
import torch
import benchmarks.loss
from benchmarks.sizes import Preset, inputs
from benchmarks.yardsticks import METRIC_LEARNING, contenders

assert not METRIC_LEARNING
for preset in (Preset("map", (1, 4, 6, 6, 4), (3, 3, 2)), Preset("set", (1, 4, 30, 1, 1), (1, 1, 1), classes=3)):
    given = inputs(preset, 0.5, torch.device("cpu"))
    found = {name: float(loss(given.features)) for name, loss in contenders(preset, given, compiled=False).items()}
    assert len(found) >= 3
    assert max(found.values()) - min(found.values()) < 1e-4, found
"""


def test_the_loss_is_measured_against_what_is_installed(bare: Bare) -> None:
    done = bare("-c", CONTENDERS)
    assert done.returncode == 0, done.stderr
