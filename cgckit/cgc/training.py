"""Training the CGC network on examples that carry a prior's pseudo-labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from cgckit.cgc.crops import CropSampler
from cgckit.cgc.model import build_network
from cgckit.cgc.objective import Objective
from cgckit.cgc.settings import TrainingSettings
from cgckit.contrast import resolve_implementation
from cgckit.errors import UsageError
from cgckit.nets.batches import Batches
from cgckit.nets.cgc_net import CGCNet, CGCOutput
from cgckit.nets.loop import ALONE, Checkpoint, History, own_generators, step_seed, train
from cgckit.nets.team import Share, Team

logger = logging.getLogger(__name__)

_LOG_EVERY = 50


def train_network(
    examples: Sequence[Path],
    settings: TrainingSettings,
    modalities: tuple[str, ...],
    *,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    team: Team = ALONE,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> tuple[CGCNet, dict[str, Any]]:
    """Train a network from scratch, or from where `checkpoint` left off.

    Args:
        examples: files of `cgckit.cgc.crops.write_example`.
        settings: of the network, the objective and the training.
        modalities: names of the examples' channels.
        seed: of initialisation, sampling and augmentation.
        device: where to train.
        checkpoint: see `cgckit.nets.train`.
        team: the processes that train together: each with `settings.batch` crops of a batch that is theirs together.
        on_step: called with the index and the scalars of each step.

    Raises:
        UsageError: a team, and settings that want one process.

    Returns:
        The network in evaluation mode, and what happened: number of steps, the contrastive loss's implementation, and
        means over the run
        ("fine_share", "positives") and over its last tenth (every term of the objective).
    """
    if team.size > 1 and settings.scope == "batch":
        raise UsageError("settings: scope=batch contrasts all crops of a batch, which several processes cannot share")
    steps = settings.total_steps(len(examples), team.size)
    implementation = resolve_implementation("auto", device)
    logger.info("training for %d steps on %s; contrastive loss: %s", steps, device, implementation)
    with own_generators():
        torch.manual_seed(step_seed(seed, -1))
        network = build_network(settings, modalities)
    network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    sample = CropSampler(
        examples, settings.crop, settings.batch * team.size, settings.lesion_share, settings.augment, seed
    )
    batches = Batches(sample if team.size == 1 else Share(sample, team, settings.batch), steps, device)
    objective = Objective(
        patch_size=settings.patch_size,
        patch_threshold=settings.patch_threshold,
        temperature=settings.temperature,
        weight_coarse=settings.weight_coarse,
        weight_fine=settings.weight_fine,
        scope=settings.scope,
        implementation=implementation,
        team=team,
    )
    bfloat16 = device.type == "cuda" and settings.precision == "auto" and torch.cuda.is_bf16_supported()

    def step(model: nn.Module, index: int) -> dict[str, Tensor]:
        image, prior, trusted = batches(index)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            output = model(image.contiguous(memory_format=torch.channels_last_3d))
        return objective(CGCOutput(*(tensor.float() for tensor in output)), prior, trusted)

    def report(index: int, scalars: dict[str, float]) -> None:
        if on_step is not None:
            on_step(index, scalars)
        if (index + 1) % _LOG_EVERY == 0 or index + 1 == steps:
            terms = ", ".join(f"{name} {value:.4g}" for name, value in scalars.items())
            logger.info("step %d of %d: %s", index + 1, steps, terms)

    history = train(
        network,
        step,
        steps=steps,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        seed=seed,
        checkpoint=checkpoint,
        team=team,
        partial=settings.weight_coarse == 0 or settings.weight_fine == 0,
        on_step=report,
    )
    summary = {"steps": steps, "contrastive_loss": implementation, **_summarise(history)}
    if team.size > 1:
        summary["processes"] = team.size
    _warn(summary)
    return network, summary


def assist(team: Team, device: torch.device) -> None:
    """Take part in what the first process of a team trains, until it says that there is nothing left.

    Raises:
        CgckitError: the first process is gone.
    """
    while (order := team.tell()) is not None:
        train_network(**order, device=device, team=team)


def _summarise(history: History) -> dict[str, float]:
    """Means over the last tenth of the steps; the fine path's activity over all of them."""
    tail = history[-max(1, len(history) // 10) :]
    summary = {name: fmean(scalars[name] for scalars in tail) for name in tail[0]}
    for name in ("positives", "fine_share"):
        if name in summary:
            summary[name] = fmean(scalars[name] for scalars in history)
    return {name: round(value, 5) for name, value in summary.items()}


def _warn(summary: dict[str, Any]) -> None:
    """Say where training went in a way that the total loss does not show."""
    if summary.get("fine_share", 1.0) < 0.5:
        logger.warning(
            "only %.0f %% of the crops had two positive patches or more: the fine-grained path is hardly at work; "
            "lower patch_threshold or patch_size",
            100 * summary["fine_share"],
        )
    if summary["lesion_mean"] < 1e-4:
        logger.warning(
            "the segmentation is empty (mean output %.1e): lower learning_rate or weight_fine, or train longer",
            summary["lesion_mean"],
        )
