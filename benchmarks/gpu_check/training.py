"""Twenty steps of the `paper` network: it learns, and alike with the fused loss and the blockwise one."""

from __future__ import annotations

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_check.findings import Findings

STEPS = 20
MODALITIES = 2


def check(device: torch.device, findings: Findings) -> None:
    try:
        histories = {name: _train(name, device) for name in ("fused", "blockwise")}
    except ModuleNotFoundError as error:
        findings.skip(check="training", why=str(error))
        return
    for implementation, (losses, seconds) in histories.items():
        findings.note(
            all(map(math.isfinite, losses)) and losses[-1] < losses[0],
            check="training",
            implementation=implementation,
            losses=losses,
            seconds=seconds,
        )
    first = [losses[0] for losses, _ in histories.values()]
    findings.note(
        math.isclose(*first, rel_tol=1e-3), check="training", of="the first step, before rounding spreads", losses=first
    )


def _train(implementation: str, device: torch.device) -> tuple[list[float], float]:
    """Loss of every step, and seconds of all but the first."""
    from cgckit.cgc.objective import Objective
    from cgckit.cgc.settings import PRESETS
    from cgckit.nets.cgc_net import CGCNet, CGCOutput

    settings = PRESETS["paper"] if device.type == "cuda" else PRESETS["light"]
    crop = settings.crop if device.type == "cuda" else (16, 16, 16)
    torch.manual_seed(0)
    network = CGCNet(MODALITIES, settings.widths, settings.projection)
    network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    objective = Objective(
        settings.patch_size, settings.patch_threshold, settings.temperature, implementation=implementation
    )
    images, prior = _crops(settings.batch, crop, device)
    trusted = torch.ones_like(prior, dtype=torch.bool)
    losses: list[Tensor] = []
    began = time.perf_counter()
    for step in range(STEPS):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = network(images)
        loss = objective(CGCOutput(*(part.float() for part in output)), prior, trusted)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.detach())
        if step == 0:
            float(loss.detach())  # waits for the device
            began = time.perf_counter()
    values = [float(loss) for loss in losses]
    return values, time.perf_counter() - began


def _crops(batch: int, crop: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise, brighter where smooth noise is high; and that place, a tenth of the crop, as the prior."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(batch, 1, *(edge // 8 for edge in crop), generator=generator).to(device)
    smooth = F.interpolate(coarse, size=crop, mode="trilinear")
    limit = coarse.flatten().kthvalue(round(0.9 * coarse.numel())).values
    lesion = smooth > 0.7 * limit
    images = torch.randn(batch, MODALITIES, *crop, generator=generator).to(device) + lesion
    return images.contiguous(memory_format=torch.channels_last_3d), lesion.squeeze(1).float()
