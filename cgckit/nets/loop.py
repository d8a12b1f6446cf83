"""The training loop: Adam, a step function, and checkpoints that make a resumed run equal to an uninterrupted one."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from cgckit.errors import CgckitError, UsageError
from cgckit.nets.team import Team
from cgckit.sealed import DamagedError, read_tensors, write_tensors

logger = logging.getLogger(__name__)

Schedule = Literal["constant", "cosine"]
StepFunction = Callable[[nn.Module, int], dict[str, Tensor]]
History = list[dict[str, float]]

ALONE = Team()
_FETCH_EVERY = 25


@dataclass(frozen=True)
class Checkpoint:
    """Where training is saved (a safetensors file), how often, and the key of the run that may take it up again."""

    path: Path
    every: int = 25
    key: str = ""


def train(
    model: nn.Module,
    step: StepFunction,
    *,
    steps: int,
    learning_rate: float = 1e-3,
    schedule: Schedule = "constant",
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    team: Team = ALONE,
    partial: bool = False,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> History:
    """Minimise `step(model, index)["loss"]` with Adam for `steps` steps.

    `step` must draw its randomness from `index` alone (torch's global generator is seeded with `seed` and `index`
    before each call, and is the caller's again afterwards), so that a run that starts again at step k goes on exactly
    as the first would have. On a GPU the scalars are fetched every 25 steps, as each fetch waits for the device.

    Args:
        model: trained in place, left in evaluation mode.
        step: gives named scalars; "loss" is minimised, all are recorded.
        steps: number of optimiser steps.
        learning_rate: Adam's, at the first step.
        schedule: "constant", or "cosine" down to 1 % of it.
        seed: of the run.
        checkpoint: where to save the state, and to take it up from if it is there with the same key.
        team: the processes that train together, each with a share of the batch; gradients and scalars are their means.
        partial: some weights of the model have no part in the loss, which a team must know.
        on_step: called with the index and the recorded scalars of each step, once they are fetched.

    Returns:
        One dictionary of scalars a step, those of the steps before a resumption included.

    Raises:
        CgckitError: another process of the team is gone; or the loss or a weight is not finite: then the checkpoint is
            removed, as to go on from it would end there again.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    history: History = []
    if checkpoint is not None and checkpoint.path.exists():
        history = _restore(checkpoint, model, optimizer)
    model.train()
    with team.mindful():
        called = team.wrap(model, partial=partial)
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    pending: list[dict[str, Tensor]] = []
    with own_generators():
        for index in range(len(history), steps):
            torch.manual_seed(step_seed(seed, index))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * _decay(schedule, index / steps)
            with team.mindful():
                terms = step(called, index)
                optimizer.zero_grad(set_to_none=True)
                terms["loss"].backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                pending.append({name: value.detach() for name, value in team.mean(terms).items()})
            last = index + 1 == steps
            saved = checkpoint is not None and ((index + 1) % checkpoint.every == 0 or last)
            if not (on_cpu or saved or last or len(pending) == _FETCH_EVERY):
                continue
            for scalars in _fetch(pending):
                if not math.isfinite(scalars["loss"]):
                    _forget(checkpoint)
                    raise CgckitError(
                        f"training diverged: the loss became {scalars['loss']} at step {len(history) + 1} of {steps}; "
                        f"lower the learning rate, which is {learning_rate:g}"
                    )
                history.append(scalars)
                if on_step is not None:
                    on_step(len(history) - 1, scalars)
            pending.clear()
            if saved and checkpoint is not None and team.leads:
                _save(checkpoint, model, optimizer, history)
    if not is_finite(model):
        _forget(checkpoint)
        raise CgckitError(
            f"training diverged: a weight is not finite after step {steps}; lower the learning rate, which is "
            f"{learning_rate:g}"
        )
    model.eval()
    return history


def is_finite(model: nn.Module) -> bool:
    """Whether all parameters and buffers of a model are finite numbers."""
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())


def _forget(checkpoint: Checkpoint | None) -> None:
    if checkpoint is not None:
        checkpoint.path.unlink(missing_ok=True)


@contextmanager
def own_generators() -> Iterator[None]:
    """Let a block seed torch's global generators as it likes: the caller's random numbers go on as if it had not."""
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if started else ()
    with torch.random.fork_rng(devices):
        yield


def _fetch(pending: Sequence[Mapping[str, Tensor]]) -> list[dict[str, float]]:
    """The scalars of several steps in one copy from the device."""
    values = torch.stack([value.double() for terms in pending for value in terms.values()]).tolist()
    numbers = iter(values)
    return [dict(zip(terms, numbers, strict=False)) for terms in pending]


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise UsageError for a seed that is no whole number from 0 on: numpy takes no other."""
    if wrong := [seed for seed in seeds if not isinstance(seed, int) or seed < 0]:
        raise UsageError(f"seeds are whole numbers from 0 on, got {wrong[0]!r}")


def step_seed(seed: int, index: int) -> int:
    """A 63-bit seed for step `index` of the run with `seed`; neighbouring runs and steps share nothing."""
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _decay(schedule: Schedule, progress: float) -> float:
    if schedule == "constant":
        return 1.0
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def _save(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Adam, history: History) -> None:
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        moments = optimizer.state.get(parameter, {})
        tensors |= {f"adam.{moment}.{name}": value.contiguous() for moment, value in moments.items()}
    metadata = {"key": checkpoint.key, "history": json.dumps(history)}
    write_tensors(checkpoint.path, tensors, metadata)


def _restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Adam) -> History:
    """Take up the checkpoint if it is whole and belongs to this run; an empty history says that it is not."""
    try:
        tensors, metadata = read_tensors(checkpoint.path)
    except DamagedError as error:
        logger.warning("%s is damaged (%s): training starts over", checkpoint.path, error)
        return []
    if metadata.get("key") != checkpoint.key:
        return []
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    for name, parameter in model.named_parameters():
        moments = {m: tensors.get(f"adam.{m}.{name}") for m in ("step", "exp_avg", "exp_avg_sq")}
        if all(value is not None for value in moments.values()):
            optimizer.state[parameter] = moments
    history: History = json.loads(metadata["history"])
    return history
