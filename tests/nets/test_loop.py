"""The training loop: it learns, it is deterministic, and a resumed run equals an uninterrupted one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cgckit.errors import CgckitError
from cgckit.nets.loop import Checkpoint, step_seed, train


def make_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def step(model: nn.Module, index: int) -> dict[str, Tensor]:
    inputs = torch.randn(16, 4)
    loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
    return {"loss": loss, "index": torch.tensor(float(index))}


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_training_lowers_the_loss_and_ends_in_evaluation_mode() -> None:
    model = make_model()
    history = train(model, step, steps=200, learning_rate=1e-2)
    assert history[-1]["loss"] < 0.2 * history[0]["loss"]
    assert not model.training


def test_every_scalar_of_every_step_is_recorded() -> None:
    history = train(make_model(), step, steps=5)
    assert [scalars["index"] for scalars in history] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("constant", [1, 1, 1, 1]),
        ("cosine", [1, 0.01 + 0.99 * (2 + 2**0.5) / 4, 0.505, 0.01 + 0.99 * (2 - 2**0.5) / 4]),
    ],
)
def test_the_learning_rate_keeps_to_its_schedule(schedule: str, share: list[float]) -> None:
    """Where the gradient is always 1, a step of Adam is as long as the learning rate."""
    model = nn.Linear(1, 1, bias=False)
    at: list[float] = []

    def descend(model: nn.Module, index: int) -> dict[str, Tensor]:
        at.append(float(weights(model)))
        return {"loss": next(model.parameters()).sum()}

    train(model, descend, steps=4, learning_rate=0.5, schedule=schedule)  # type: ignore[arg-type]
    lengths = -torch.tensor([*at, float(weights(model))]).diff()
    torch.testing.assert_close(lengths, 0.5 * torch.tensor(share), rtol=1e-5, atol=0)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path, schedule: str) -> None:
    whole = make_model()
    expected = train(whole, step, steps=20, schedule=schedule)  # type: ignore[arg-type]
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=4, key="a")

    class KilledError(Exception):
        pass

    def kill(index: int, _: dict[str, float]) -> None:
        if index == 10:
            raise KilledError

    with pytest.raises(KilledError):
        train(make_model(), step, steps=20, schedule=schedule, checkpoint=checkpoint, on_step=kill)  # type: ignore[arg-type]
    seen: list[int] = []
    resumed = make_model()
    history = train(
        resumed,
        step,
        steps=20,
        schedule=schedule,  # type: ignore[arg-type]
        checkpoint=checkpoint,
        on_step=lambda index, _: seen.append(index),
    )
    assert seen[0] == 8, "the steps before the last checkpoint must not be repeated"
    assert history == expected
    assert torch.equal(weights(resumed), weights(whole))


def test_a_checkpoint_of_another_run_is_not_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    train(make_model(), step, steps=5, checkpoint=Checkpoint(path, every=1, key="a"))
    seen: list[int] = []
    train(
        make_model(),
        step,
        steps=5,
        checkpoint=Checkpoint(path, every=1, key="b"),
        on_step=lambda index, _: seen.append(index),
    )
    assert seen == [0, 1, 2, 3, 4]


def test_a_damaged_checkpoint_starts_training_over(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"\x00" * 100)
    assert len(train(make_model(), step, steps=3, checkpoint=Checkpoint(path, key="a"))) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_training_and_leaves_nothing_to_go_on_from(
    tmp_path: Path, value: float
) -> None:
    def diverge(model: nn.Module, index: int) -> dict[str, Tensor]:
        terms = step(model, index)
        return {"loss": terms["loss"] * (value if index == 2 else 1.0)}

    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=1)
    with pytest.raises(CgckitError, match=r"step 3 of 5.*learning rate, which is 0\.02") as caught:
        train(make_model(), diverge, steps=5, learning_rate=0.02, checkpoint=checkpoint)
    assert caught.value.exit_code == 1
    assert not checkpoint.path.exists()


def test_a_last_step_that_leaves_a_weight_that_is_not_finite_is_no_training(tmp_path: Path) -> None:
    def spoil_the_gradient(model: nn.Module, index: int) -> dict[str, Tensor]:
        loss = step(model, index)["loss"]
        loss.register_hook(lambda gradient: gradient * (torch.nan if index == 4 else 1.0))
        return {"loss": loss}

    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=1)
    with pytest.raises(CgckitError, match="a weight is not finite after step 5"):
        train(make_model(), spoil_the_gradient, steps=5, checkpoint=checkpoint)
    assert not checkpoint.path.exists()


def test_seeds_of_neighbouring_runs_and_steps_differ() -> None:
    seeds = {step_seed(seed, index) for seed in range(20) for index in range(-1, 20)}
    assert len(seeds) == 20 * 21


def test_the_callers_random_numbers_go_on_as_if_nothing_had_been_trained() -> None:
    torch.manual_seed(5)
    expected = torch.randn(4)
    torch.manual_seed(5)
    model = make_model()
    torch.manual_seed(5)
    train(model, step, steps=3)
    assert torch.equal(torch.randn(4), expected)
