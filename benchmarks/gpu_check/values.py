"""Loss and gradients in every type and regime, against float64 by plain PyTorch."""

from __future__ import annotations

import torch

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.problems import DTYPES, loss_and_gradients, random_map, regimes, relative_error

# Relative error allowed at temperatures from 0.07 up: rounding of the result to its type, and of the weights of the
# 16-bit backward to tf32. Below, rounding of the similarities counts more.
LIMITS = {torch.float64: 1e-11, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 6e-3}
OPTIONS = ((0.2, "image", None), (0.02, "batch", None), (0.07, "image", 1.0))  # temperature, scope, share of positives
LARGE = 30_000  # patches, of which all pairs in float64 would take minutes


def check(device: torch.device, findings: Findings) -> None:
    for name, regime in regimes(device).items():
        is_large = regime.shape[2] * regime.shape[3] > LARGE
        for dtype in DTYPES:
            for temperature, scope, share in OPTIONS:
                if is_large and (dtype == torch.float64 or share == 1):
                    continue
                features, probability = random_map(regime, dtype, device, share)
                # As a gradient scaler would: the gradients of a mean lie below float16.
                upstream = 2.0**14 if dtype == torch.float16 else 1.0
                found, exact = (
                    loss_and_gradients(
                        x,
                        probability,
                        regime,
                        temperature=temperature,
                        scope=scope,
                        upstream=upstream,
                        implementation=implementation,
                    )
                    for x, implementation in ((features, "fused"), (features.double(), "blockwise"))
                )
                errors = [relative_error(*pair) for pair in zip(found, exact, strict=True)]
                limit = LIMITS[dtype] * max(1, 0.07 / temperature)
                findings.note(
                    max(errors) <= limit and bool(found[1].isfinite().all()),
                    check="values",
                    regime=name,
                    dtype=str(dtype).removeprefix("torch."),
                    temperature=temperature,
                    scope=scope,
                    errors=errors,
                    limit=limit,
                )
