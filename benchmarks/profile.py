"""Where the fused loss spends its time on a CPU: each operator against the least that its products and bytes take.

`profile.md` is written from one run, with `--preset` and `--rho` in place of the presets of the table.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import bandwidth, burst_flops, description
from benchmarks.presets import PRESETS, Preset, inputs
from benchmarks.yardsticks import TEMPERATURE
from cgckit.contrast.patches import PatchGrid

RESULTS = Path(__file__).parent / "results"
CASES = (("S", 0.1), ("dense", 0.1), ("n-25000", 256 / 25000), ("n-50000", 256 / 50000), ("M", 0.1))
ANCHOR_BLOCK = 384
"""`kAnchorBlock` in csrc/cpu/softmax.cpp: the map is read again for every block of anchors."""
EXPLANATION = """\
Written by `python -m benchmarks profile`: medians of interleaved rounds of the three compiled operators. `products`:
what their floating-point operations take at the burst of fused multiply-adds that the machine showed in the same run;
`memory`: what the bytes that the operator must move take at the rate of c = a + b on arrays beyond the caches, a line
that is written counted twice, as it is read first. The two hardly overlap, since a tile is packed, then multiplied.
`faults`: pages that the system had to give, 4 KiB each unless it gives large ones.
"""


@dataclass(frozen=True)
class Stage:
    """One operator."""

    run: Callable[[], Any]
    operations: float
    bytes: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", choices=[name for name in PRESETS if not PRESETS[name].classes])
    parser.add_argument("--rho", type=float, default=0.1, help="share of positive patches (default 0.1)")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each preset (default 15)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)")


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    flops, rate = max(burst_flops(arguments.threads)), bandwidth(arguments.threads)
    lines = []
    for name, rho in [(arguments.preset, arguments.rho)] if arguments.preset else CASES:
        measured, bursts = _measure(PRESETS[name], rho, arguments)
        flops = max([flops, *bursts])
        lines.append((name, measured))
    about = description(torch.device("cpu"))
    text = f"# Where the time of the fused loss goes\n\n{EXPLANATION}\n"
    text += f"{about['device']}, threads {about['threads']}, {about['isa']}, commit {about['commit']}; "
    text += f"burst {flops / 1e9:.0f} GFLOP/s, memory {rate / 1e9:.1f} GB/s.\n\n"
    text += "| preset | operator | time | products | memory | their sum of time | faults |\n"
    text += "| --- | --- | --- | --- | --- | --- | --- |\n"
    for name, measured in lines:
        for operator, (seconds, operations, moved, faults) in measured.items():
            products, memory = operations / flops, moved / rate
            cells = [f"{1000 * value:.2f} ms" for value in (seconds, products, memory)]
            share = f"{(products + memory) / seconds:.0%}"
            text += f"| {' | '.join([name, operator, *cells, share, f'{faults:.0f}'])} |\n"
    (arguments.results / "profile.md").write_text(text)
    print(text)


def _measure(
    preset: Preset, rho: float, arguments: argparse.Namespace
) -> tuple[dict[str, tuple[float, float, float, float]], list[float]]:
    """Seconds, operations, bytes and faults of every operator, and the bursts beside them."""
    given = inputs(preset, rho, torch.device("cpu"))
    grid = PatchGrid.of(preset.shape[2:], preset.patch, None)
    geometry = grid.size, grid.stride
    temperature = torch.tensor(TEMPERATURE, dtype=torch.float64)
    operators = torch.ops.cgckit
    anchors, size = int(given.positive.sum()), 4.0 * given.features.numel()
    blocks = math.ceil(anchors / ANCHOR_BLOCK)
    product = 2.0 * preset.depth * anchors * preset.patches
    found: dict[str, Any] = {}

    def upstream() -> tuple[torch.Tensor, torch.Tensor]:
        gradient = torch.full_like(found["forward"][0], 1 / anchors)
        return gradient, -gradient / TEMPERATURE

    stages = {
        "statistics": Stage(
            lambda: operators.patch_statistics(given.features, given.probability, None, *geometry, 0.5, True), 0, size
        ),
        "forward": Stage(
            lambda: operators.patch_contrast(given.features, temperature, *found["statistics"], *geometry, True),
            3 * product,
            (4 * blocks) * size,  # the map twice a block, and the gradient that it keeps, read and written
        ),
        "backward": Stage(
            lambda: operators.patch_contrast_backward(
                *upstream(),
                given.features,
                temperature,
                *found["statistics"],
                found["forward"][0],
                *found["forward"][2:],
                *geometry,
            ),
            0,
            4 * size,
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in stages}
    faults: dict[str, list[float]] = {name: [] for name in stages}
    bursts: list[float] = []
    began = time.perf_counter()
    while len(bursts) < 2 or time.perf_counter() - began < arguments.seconds:
        found.clear()
        for name, stage in stages.items():
            before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            found[name] = stage.run()
            seconds[name].append(time.perf_counter() - start)
            faults[name].append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        bursts.append(max(burst_flops(arguments.threads, repetitions=3)))
    return {
        name: (statistics.median(seconds[name][1:]), stage.operations, stage.bytes, statistics.median(faults[name][1:]))
        for name, stage in stages.items()
    }, bursts
