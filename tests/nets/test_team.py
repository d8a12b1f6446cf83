"""Two processes train one network: as one process with the doubled batch, and one that is killed ends it in order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from cgckit.errors import CgckitError
from cgckit.nets.team import Team

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")

# Trains on the examples of a folder, and writes the curve of every term and the weights.
TRAINING = """
import json, os, sys
from pathlib import Path
import torch
from cgckit.cgc.settings import TrainingSettings
from cgckit.cgc.training import train_network
from cgckit.nets.loop import Checkpoint
from cgckit.nets.team import Team
import signal

folder, name, batch, die = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
settings = TrainingSettings(steps=12, crop=(16, 16, 16), batch=batch, widths=(8, 8, 8, 8), projection=8,
                            patch_size=(1, 1, 1), learning_rate=1e-3)
team, curve = Team.of_environment(), []

def note(index, scalars):
    curve.append(scalars)
    if index + 1 == die and not team.leads:
        os.kill(os.getpid(), signal.SIGKILL)

with team.joined():
    team.waiting = False
    checkpoint = Checkpoint(folder / f"{name}.checkpoint", every=5)
    try:
        network, summary = train_network(sorted(folder.glob("*.safetensors")), settings, ("flair",), seed=0,
                                         device=torch.device("cpu"), checkpoint=checkpoint, team=team, on_step=note)
    except Exception as error:
        print(type(error).__name__, error)
        sys.exit(7)
if team.leads:
    weights = [float(value.double().abs().sum()) for value in network.state_dict().values()]
    (folder / f"{name}.json").write_text(json.dumps([curve, weights, summary.get("processes")]))
"""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cgckit.cgc.crops import write_example

    folder = tmp_path_factory.mktemp("examples")
    torch.manual_seed(0)
    for index in range(3):
        prior = torch.zeros(32, 32, 32)
        prior[4 + 4 * index : 20 + 4 * index, 8:24, 8 : 14 + 5 * index] = 1.0
        image = (3 * prior + 0.5 * torch.randn(32, 32, 32))[None]
        trusted = torch.rand(32, 32, 32) < 0.3 + 0.3 * index  # so that crops have unequal weights
        write_example(folder / f"{index}.safetensors", image, prior, torch.ones_like(trusted), trusted, (16, 16, 16))
    return folder


def start(size: int, *arguments: object) -> list[subprocess.CompletedProcess[str]]:
    """Start a program in so many processes, as torchrun would, and wait for all of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(size):
        here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
        here |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(
            subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                env={**os.environ, **(here if size > 1 else {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    ended = [process.communicate(timeout=120) for process in processes]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *said)
        for process, said in zip(processes, ended, strict=True)
    ]


def train(size: int, folder: Path, name: str, batch: int, die: int = 0) -> list[subprocess.CompletedProcess[str]]:
    return start(size, "-c", TRAINING, folder, name, batch, die)


def test_two_processes_train_as_one_with_the_doubled_batch(examples: Path) -> None:
    for size, name, batch in ((1, "one", 4), (2, "two", 2)):
        for done in train(size, examples, name, batch):
            assert done.returncode == 0, done.stderr
    (one, _, alone), (two, _, processes) = (
        json.loads((examples / f"{name}.json").read_text()) for name in ("one", "two")
    )
    assert (alone, processes) == (None, 2)
    assert len(one) == len(two) == 12
    # Adam makes up to ten times more of a rounding with each step: three are the same to six digits, six to three.
    for steps, tolerance in ((3, 2e-6), (6, 2e-3)):
        for first, second in zip(one[:steps], two[:steps], strict=True):
            assert first.keys() == second.keys() >= {"loss", "segmentation", "coarse", "fine", "positives"}
            np.testing.assert_allclose(list(second.values()), list(first.values()), rtol=tolerance, atol=1e-7)
    assert one[-1]["loss"] < one[0]["loss"]


def test_a_killed_process_ends_the_training_and_it_goes_on(examples: Path) -> None:
    assert [done.returncode for done in train(2, examples, "whole", 2)] == [0, 0]
    first, second = train(2, examples, "killed", 2, die=8)
    assert second.returncode == -signal.SIGKILL
    assert first.returncode == 7
    assert first.stdout.startswith("CgckitError another process of the training has ended; the same command goes on")
    assert [done.returncode for done in train(2, examples, "killed", 2)] == [0, 0]
    whole, killed = (json.loads((examples / f"{name}.json").read_text()) for name in ("whole", "killed"))
    assert len(killed[0]) == 12 - 5, "it went on from its checkpoint"
    assert killed[0] == whole[0][5:]
    assert killed[1] == whole[1]


def test_torchrun_refines_by_two_processes(write_cohort: Callable[..., Path], tmp_path: Path) -> None:
    scans, out = write_cohort(2), tmp_path / "out"
    tiny = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "steps=3"]
    command = ["refine", scans, "--prior", "aucseg", "--device", "cpu", "--quiet", "--out", out]
    command += [word for setting in tiny for word in ("--set", setting)]
    for done in start(2, "-m", "cgckit", *command):
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    assert json.loads((out / "run.json").read_text())["training"]["processes"] == 2
    assert len(list(out.glob("sub-*/anat/*_desc-cgc_mask.nii.gz"))) == 2
    # Whoever takes it up alone finds it done.
    (alone,) = start(1, "-m", "cgckit", *command)
    assert alone.returncode == 0, alone.stderr
    assert json.loads((out / "run.json").read_text())["training"]["processes"] == 2
    # What is wrong is said once, and nobody waits for the others.
    first, second = start(2, "-m", "cgckit", *command[:-2], "--set", "steps=5")
    assert (first.returncode, second.returncode) == (2, 0)
    assert "holds a run with other inputs" in first.stderr
    assert second.stderr == ""


def test_who_is_alone_is_no_team(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    alone = Team.of_environment()
    assert (alone.rank, alone.size, alone.leads) == (0, 1, True)
    assert alone.device("auto") == "auto"
    with alone.joined():
        assert not dist.is_initialized()
    assert float(alone.count(torch.tensor(0.0))) == 1
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    other = Team.of_environment()
    assert (other.rank, other.size, other.leads, other.device("cuda")) == (2, 3, False, "cuda:1")
    with pytest.raises(CgckitError, match="another process of the training has ended"), other.mindful():
        raise RuntimeError("[/x/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shape"), other.mindful():
        raise RuntimeError("shape mismatch")
