"""Training end to end on small examples: it learns the prior, repeats itself, and reports the fine path."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor

from cgckit.cgc.crops import write_example
from cgckit.cgc.inference import network_log_odds
from cgckit.cgc.model import Model, build_network
from cgckit.cgc.settings import Settings, TrainingSettings
from cgckit.cgc.training import train_network
from cgckit.nets.cgc_net import CGCNet
from cgckit.nets.loop import Checkpoint

SETTINGS = Settings(
    steps=100,
    crop=(16, 16, 16),
    batch=1,
    widths=(8, 8, 8, 8),
    projection=8,
    patch_size=(1, 1, 1),
    learning_rate=1e-2,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("examples")
    torch.manual_seed(0)
    paths = []
    for index in range(2):
        prior = torch.zeros(32, 32, 32)
        prior[4 + 4 * index : 20 + 4 * index, 8:24, 8:24] = 1.0
        image = (3 * prior + 0.5 * torch.randn(32, 32, 32))[None]
        paths.append(folder / f"{index}.safetensors")
        everywhere = torch.ones(32, 32, 32, dtype=torch.bool)
        write_example(paths[-1], image, prior, everywhere, everywhere, SETTINGS.crop)
    return paths


def test_the_network_learns_what_the_prior_points_at(examples: list[Path]) -> None:
    network, summary = train_network(examples, SETTINGS, ("flair",), seed=0, device=CPU)
    prior = torch.zeros(32, 32, 32)
    prior[8:24, 8:24, 8:24] = 1.0
    found = network_log_odds(network, SETTINGS, 3 * prior[None] + 0.5 * torch.randn(1, 32, 32, 32)) > 0
    dice = 2 * (found & (prior > 0)).sum() / (found.sum() + prior.sum())
    assert dice > 0.8
    assert summary["steps"] == 100
    assert summary["fine_share"] > 0.9


def test_equal_seeds_give_equal_weights_also_through_a_checkpoint(examples: list[Path], tmp_path: Path) -> None:
    short = SETTINGS.override({"steps": 6})
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=2, key="k")

    class KilledError(Exception):
        pass

    def kill(index: int, _: dict[str, float]) -> None:
        if index == 4:
            raise KilledError

    whole, _ = train_network(examples, short, ("flair",), seed=1, device=CPU)
    with pytest.raises(KilledError):
        train_network(examples, short, ("flair",), seed=1, device=CPU, checkpoint=checkpoint, on_step=kill)
    resumed, _ = train_network(examples, short, ("flair",), seed=1, device=CPU, checkpoint=checkpoint)
    other, _ = train_network(examples, short, ("flair",), seed=2, device=CPU)
    prints = [Model(network, short, ("flair",)).fingerprint() for network in (whole, resumed, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_fine_path_that_is_not_at_work_is_said_so(examples: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    idle = SETTINGS.override({"steps": 2, "patch_size": (2, 2, 2)})
    with caplog.at_level(logging.WARNING, logger="cgckit"):
        _, summary = train_network(examples, idle, ("flair",), seed=0, device=CPU)
    assert summary["fine_share"] == 0
    assert "fine-grained path is hardly at work" in caplog.text


def test_an_empty_segmentation_is_said_so(
    examples: list[Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_silent(*arguments: object) -> CGCNet:
        network = build_network(*arguments)  # type: ignore[arg-type]
        torch.nn.init.constant_(network.lesion.bias, -30)
        return network

    monkeypatch.setattr("cgckit.cgc.training.build_network", build_silent)
    with caplog.at_level(logging.WARNING, logger="cgckit"):
        train_network(examples, SETTINGS.override({"steps": 1}), ("flair",), seed=0, device=CPU)
    assert "the segmentation is empty" in caplog.text


def test_the_summary_holds_the_last_tenth_of_the_terms_and_all_of_the_activity(examples: list[Path]) -> None:
    history: list[dict[str, float]] = []
    short = SETTINGS.override({"steps": 20, "lesion_share": 0.5})
    _, summary = train_network(
        examples, short, ("flair",), seed=0, device=CPU, on_step=lambda _, scalars: history.append(scalars)
    )
    for name, steps in {"loss": history[-2:], "lesion_mean": history[-2:], "positives": history}.items():
        assert summary[name] == round(fmean(scalars[name] for scalars in steps), 5)
    assert summary["contrastive_loss"] in ("fused", "blockwise")


CHANGES: dict[str, object] = {
    "crop": (16, 16, 24),
    "batch": 1,
    "steps": 2,
    "learning_rate": 2e-2,
    "schedule": "constant",
    "widths": (8, 8, 8, 4),
    "projection": 4,
    "weight_coarse": 0.5,
    "weight_fine": 0.5,
    "patch_size": (1, 1, 2),
    "patch_threshold": 0.6,
    "temperature": 0.5,
    "scope": "batch",
    "lesion_share": 0.0,
    "augment": False,
}
MARGIN = {"untrusted_inner", "untrusted_outer", "untrusted_doubt"}  # tested where examples are written
# Before training.
ELSEWHERE = MARGIN | {"spacing"}
INSTEAD = {"epochs", "precision"}  # used where steps is 0; where there is CUDA


@pytest.fixture(scope="module")
def weights(examples: list[Path]) -> Callable[..., Tensor]:
    """The weights after three steps with some settings changed, as one vector."""

    def trained(**changes: object) -> Tensor:
        settings = SETTINGS.override({"batch": 2, "steps": 3, **changes})
        network, _ = train_network(examples, settings, ("flair",), seed=0, device=CPU)
        return torch.cat([value.flatten() for value in network.state_dict().values()])

    return trained


def test_every_setting_of_training_has_an_effect(weights: Callable[..., Tensor]) -> None:
    named = CHANGES.keys() | ELSEWHERE | INSTEAD
    assert {field.name for field in dataclasses.fields(TrainingSettings)} == named, (
        "say above where the setting takes effect"
    )
    usual = weights()
    assert torch.equal(usual, weights())
    assert [name for name, value in CHANGES.items() if torch.equal(usual, weights(**{name: value}))] == []
