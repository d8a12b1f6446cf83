"""Equal inputs give equal bits, twenty times over."""

from __future__ import annotations

import torch

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.problems import loss_and_gradients, random_map, some

REPEATS = 20
REGIMES = (
    "rows of a warp, channels last",
    "rows of a block, channels last",
    "slices, channels last",
    "several chunks",
    "overlap",
)


def check(device: torch.device, findings: Findings) -> None:
    for name, regime in some(device, *REGIMES).items():
        for dtype in (torch.float32, torch.bfloat16):
            features, probability = random_map(regime, dtype, device)
            first = loss_and_gradients(features, probability, regime)
            same = all(
                torch.equal(one, other)
                for _ in range(REPEATS)
                for one, other in zip(first, loss_and_gradients(features, probability, regime), strict=True)
            )
            findings.note(same, check="repeats", regime=name, dtype=str(dtype).removeprefix("torch."), times=REPEATS)
