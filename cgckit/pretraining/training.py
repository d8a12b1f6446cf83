"""Training the starting network on simulated subjects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgckit.nets.cgc_net import CGCNet, CGCOutput
from cgckit.nets.loop import Checkpoint, own_generators, step_seed, train
from cgckit.pretraining.examples import Crops, CropSampler, Examples
from cgckit.sealed import write_tensors
from cgckit.starting import WEIGHTS, new_network

_COARSE_WEIGHT = 0.3
_OVERLAP_WEIGHT = 0.5
_SMOOTH = 50.0
_SAVE_EVERY = 100


def write_starting_network(
    folder: Path,
    *,
    subjects: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """`pretrain`, and write the weights in half precision to `starting.safetensors` in `folder`; gives its path."""
    network = pretrain(folder, subjects=subjects, steps=steps, seed=seed, device=device, on_step=on_step)
    state = {name: value.cpu().half().contiguous() for name, value in network.state_dict().items()}
    path = folder / WEIGHTS.name
    write_tensors(path, state, {"subjects": str(subjects), "steps": str(steps), "seed": str(seed)})
    return path


def pretrain(
    folder: Path,
    *,
    subjects: int,
    steps: int,
    batch: int = 2,
    learning_rate: float = 3e-3,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> CGCNet:
    """Train a network to find lesions in simulated subjects; a call that was interrupted goes on where it was.

        L = BCE(x, y) + 0.5 (1 - Dice(x, y)) + 0.3 BCE(coarse, mean of y over its voxels)

    Args:
        folder: for the simulated subjects and the checkpoint.
        subjects: how many are simulated, 5 MB each.
        steps: optimiser steps.
        batch: crops a step.
        learning_rate: Adam's, falling to 1 % of it along a cosine.
        seed: of everything: simulation, initialisation, drawing.
        device: where to train; with bfloat16, which halves the time on most devices.
        on_step: called with the index and the scalars of each step.

    Returns:
        The network in evaluation mode, on `device`.
    """
    device = torch.device(device)
    with own_generators():
        torch.manual_seed(step_seed(seed, -1))
        network = new_network()
    network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    sample = CropSampler(Examples(folder, seed), subjects, steps, batch, seed)

    def step(model: nn.Module, index: int) -> dict[str, Tensor]:
        image, lesion, brain = sample(index)
        image = image.to(device).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(device.type, torch.bfloat16):
            output = model(image)
        return loss(CGCOutput(*(part.float() for part in output)), Crops(image, lesion.to(device), brain.to(device)))

    key = f"{subjects} {steps} {batch} {learning_rate} {seed}"
    train(
        network,
        step,
        steps=steps,
        learning_rate=learning_rate,
        schedule="cosine",
        seed=seed,
        checkpoint=Checkpoint(folder / "checkpoint.safetensors", every=_SAVE_EVERY, key=key),
        on_step=on_step,
    )
    return network


def loss(output: CGCOutput, crops: Crops) -> dict[str, Tensor]:
    """The terms of the objective: "loss" to be minimised, and "dice", the overlap in this batch."""
    lesion, brain = crops.lesion[:, None], crops.brain[:, None].float()
    entropy = F.binary_cross_entropy_with_logits(output.lesion, lesion, reduction="none")
    entropy = (entropy * brain).sum() / brain.sum().clamp(min=1)
    probability = output.lesion.sigmoid() * brain
    dice = (2 * (probability * lesion).sum() + _SMOOTH) / ((probability + lesion).sum() + _SMOOTH)
    coarse = F.binary_cross_entropy_with_logits(output.coarse, F.avg_pool3d(lesion, 8))
    return {"loss": entropy + _OVERLAP_WEIGHT * (1 - dice) + _COARSE_WEIGHT * coarse, "dice": dice}
