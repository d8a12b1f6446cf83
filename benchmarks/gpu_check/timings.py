"""Time and memory of the loss against plain PyTorch, eager and compiled, with TF32 and without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.gpu_check.findings import Findings
from benchmarks.sizes import PRESETS, Inputs, Preset, inputs
from benchmarks.yardsticks import TEMPERATURE, Loss, anchors_only, unfold
from cgckit.contrast import patch_contrastive_loss

# Preset and share of positive patches, the most telling first: time may run out.
SIZES = (
    ("paper-128", 0.1),
    ("S", 0.1),
    ("dense", 0.1),
    ("M", 0.1),
    ("fine-256", 0.1),
    ("n-100000", 256 / 100_000),
    ("paper-128", 1.0),
    ("S", 1.0),
    ("dense", 1.0),
)
TINY = Preset("tiny", (1, 8, 12, 12, 4), (3, 3, 2))
ROUNDS = 9
SECONDS = 0.3  # of each measurement


def check(device: torch.device, findings: Findings) -> None:
    on_gpu = device.type == "cuda"
    compiled = torch.compile(anchors_only, dynamic=True, backend="inductor" if on_gpu else "eager")
    about = {"device": torch.cuda.get_device_name() if on_gpu else "cpu", "torch": str(torch.__version__)}
    if on_gpu:
        _peak_rates(device, findings, about)
    for preset, share in [(PRESETS[name], share) for name, share in SIZES] if on_gpu else [(TINY, 0.3)]:
        given = inputs(preset, share, device)
        for dtype in (torch.float32, torch.bfloat16):
            for layout in ("channels first", "channels last"):
                leaf = given.features.to(dtype)
                if layout == "channels last":
                    leaf = leaf.contiguous(memory_format=torch.channels_last_3d)
                leaf = leaf.detach().requires_grad_()
                for way, (loss, tf32) in _ways(preset, given, dtype, layout, compiled).items():
                    row = {
                        "check": "timings",
                        "way": way,
                        "preset": preset.name,
                        "rho": share,
                        "N": preset.patches,
                        "D": preset.depth,
                        "n": int(given.positive.sum()),
                        "dtype": str(dtype).removeprefix("torch."),
                        "layout": layout,
                        **about,
                    }
                    torch.backends.cuda.matmul.allow_tf32 = tf32
                    try:
                        findings.note(True, **row, **_measured(loss, leaf))
                    except torch.OutOfMemoryError:
                        findings.skip(**row, why="out of memory")
                    torch.backends.cuda.matmul.allow_tf32 = False


def _ways(
    preset: Preset, given: Inputs, dtype: torch.dtype, layout: str, compiled: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, tuple[Loss, bool]]:
    """Every way to the loss, and whether its products may be TF32."""
    anchors = given.positive.nonzero().squeeze(1)

    def operator(implementation: str) -> Loss:
        return lambda features: patch_contrastive_loss(
            features,
            given.probability,
            patch_size=preset.patch,
            temperature=TEMPERATURE,
            scope="batch",
            implementation=implementation,
        )

    def plain(loss: Callable[[Tensor, Tensor], Tensor]) -> Loss:
        return lambda features: loss(unfold(features, preset.patch), anchors)

    ways = {"fused": (operator("fused"), False), "blockwise": (operator("blockwise"), False)}
    if layout == "channels first":
        ways["eager anchors-only"] = plain(anchors_only), False
        ways["compiled anchors-only"] = plain(compiled), False
        if dtype == torch.float32:
            ways["blockwise, TF32"] = operator("blockwise"), True
            ways["eager anchors-only, TF32"] = plain(anchors_only), True
            ways["compiled anchors-only, TF32"] = plain(compiled), True
    return ways


def _measured(loss: Loss, leaf: Tensor) -> dict[str, float]:
    """Median times of forward and of both passes, and memory beyond the inputs."""

    def both() -> None:
        torch.autograd.grad(loss(leaf), leaf)

    row = {"forward_ms": median_ms(lambda: loss(leaf), leaf.device)}
    if leaf.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        row["both_ms"] = median_ms(both, leaf.device)
        row["peak_mib"] = (torch.cuda.max_memory_allocated() - before) / 2**20
    else:
        row["both_ms"] = median_ms(both, leaf.device)
    return row


def median_ms(step: Callable[[], object], device: torch.device) -> float:
    """Milliseconds that `step` takes, the median of some calls after two to warm up."""
    step()
    step()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < ROUNDS and (len(times) < 3 or time.perf_counter() - began < SECONDS):
        times.append(_ms(step, device))
    return statistics.median(times)


def _ms(step: Callable[[], object], device: torch.device) -> float:
    if device.type == "cpu":
        began = time.perf_counter()
        step()
        return 1000 * (time.perf_counter() - began)
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    step()
    stop.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(stop))


def _peak_rates(device: torch.device, findings: Findings, about: dict[str, str]) -> None:
    """What a large product reaches on this card, to hold the kernels against."""
    size = 8192
    for name, dtype, tf32 in (
        ("bfloat16", torch.bfloat16, False),
        ("tf32", torch.float32, True),
        ("float32", torch.float32, False),
    ):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        torch.backends.cuda.matmul.allow_tf32 = tf32
        milliseconds = median_ms(lambda a=a, b=b: a @ b, device)  # type: ignore[misc]
        torch.backends.cuda.matmul.allow_tf32 = False
        findings.note(True, check="timings", way=f"{name} product", tflops=2 * size**3 / milliseconds / 1e9, **about)
