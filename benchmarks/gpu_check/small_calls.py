"""Every kernel once, on little: what the sanitizers look at, which make it a hundred times slower."""

from __future__ import annotations

import torch

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.problems import Regime, loss_and_gradients, random_map

REGIMES = (
    Regime((1, 9, 12, 12, 4), (3, 3, 2)),
    Regime((1, 32, 12, 12, 1), (1, 1, 1), channels_last=True),
    Regime((1, 40, 24, 24, 2), (3, 3, 1)),
    Regime((1, 64, 12, 12, 8), (6, 6, 4), channels_last=True),
    Regime((1, 8, 16, 24, 16), (2, 2, 8)),
    Regime((1, 4, 8, 8, 8), (4, 4, 4), (2, 2, 2)),
    Regime((0, 40, 8, 8, 8), (4, 4, 4)),
)


def check(device: torch.device, findings: Findings) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for regime in REGIMES:
            features, probability = random_map(regime, dtype, device, share=0.4)
            loss_and_gradients(features, probability, regime)
    if device.type == "cuda":
        torch.cuda.synchronize()
    findings.note(True, check="small_calls")
