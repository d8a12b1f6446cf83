"""Where the fused loss spends its time on a CPU: each operator against the least that its products and bytes take.

`profile.md` is written from one run, with `--preset` and `--rho` in place of the presets of the table.
"""

from __future__ import annotations

import argparse
import ctypes
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
from benchmarks.sizes import PRESETS, Preset, inputs
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
`warm`: nothing happens between operators but the burst, so that the map may lie in caches and memory is used again.
`cold`: before every operator the caches are filled with something else and free memory goes back to the system, as
where other work lies between, such as the other ways to the loss in `loss.md`. `faults`: pages that the system gave,
4 KiB each unless it gives large ones; `system`: mean time in the system, which fills them with zeros.
"""


@dataclass(frozen=True)
class Stage:
    """What one operator took."""

    operations: float
    bytes: float
    seconds: float
    system: float  # of the seconds
    faults: float


def _system_and_faults() -> tuple[float, int]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_stime, usage.ru_minflt


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
        for cold in (False, True):
            measured, bursts = _measure(PRESETS[name], rho, arguments, cold)
            flops = max([flops, *bursts])
            lines.append((name, "cold" if cold else "warm", measured))
    about = description(torch.device("cpu"))
    text = f"# Where the time of the fused loss goes\n\n{EXPLANATION}\n"
    text += f"{about['device']}, threads {about['threads']}, {about['isa']}, commit {about['commit']}; "
    text += f"burst {flops / 1e9:.0f} GFLOP/s, memory {rate / 1e9:.1f} GB/s.\n\n"
    text += "| preset | state | operator | time | products | memory | system | faults |\n"
    text += "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    for name, state, measured in lines:
        for operator, stage in measured.items():
            times = stage.seconds, stage.operations / flops, stage.bytes / rate, stage.system
            cells = [name, state, operator, *(f"{1000 * value:.1f} ms" for value in times), f"{stage.faults:.0f}"]
            text += f"| {' | '.join(cells)} |\n"
        both = sum(stage.seconds for stage in measured.values())
        share = sum(stage.operations for stage in measured.values()) / flops / both
        text += f"| {name} | {state} | all, {share:.0%} of the burst | {1000 * both:.1f} ms | | | | |\n"
    (arguments.results / "profile.md").write_text(text)
    print(text)


def _measure(
    preset: Preset, rho: float, arguments: argparse.Namespace, cold: bool
) -> tuple[dict[str, Stage], list[float]]:
    """Every operator, and the bursts beside them."""
    given = inputs(preset, rho, torch.device("cpu"))
    grid = PatchGrid.of(preset.shape[2:], preset.patch, None)
    geometry = grid.size, grid.stride
    temperature = torch.tensor(TEMPERATURE, dtype=torch.float64)
    library = torch.ops.cgckit
    anchors, size = int(given.positive.sum()), 4.0 * given.features.numel()
    blocks = math.ceil(anchors / ANCHOR_BLOCK)
    product = 2.0 * preset.depth * anchors * preset.patches
    found: dict[str, Any] = {}

    def upstream() -> tuple[torch.Tensor, torch.Tensor]:
        gradient = torch.full_like(found["forward"][0], 1 / anchors)
        return gradient, -gradient / TEMPERATURE

    # Operator -> how it is called, its operations, and its bytes: of every block of anchors, the forward pass reads
    # the map twice, and reads and writes the gradient that it keeps.
    operators: dict[str, tuple[Callable[[], Any], float, float]] = {
        "statistics": (
            lambda: library.patch_statistics(given.features, given.probability, None, *geometry, 0.5, True),
            0,
            size,
        ),
        "forward": (
            lambda: library.patch_contrast(given.features, temperature, *found["statistics"], *geometry, True),
            3 * product,
            4 * blocks * size,
        ),
        "backward": (
            lambda: library.patch_contrast_backward(
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
    seconds: dict[str, list[float]] = {name: [] for name in operators}
    system: dict[str, list[float]] = {name: [] for name in operators}
    faults: dict[str, list[int]] = {name: [] for name in operators}
    bursts: list[float] = []
    began = time.perf_counter()
    while len(bursts) < 2 or time.perf_counter() - began < arguments.seconds:
        found.clear()
        for name, (call, _, _) in operators.items():
            if cold:
                bandwidth(arguments.threads, repetitions=1)
                ctypes.CDLL(None).malloc_trim(0)
            before = _system_and_faults()
            start = time.perf_counter()
            found[name] = call()
            seconds[name].append(time.perf_counter() - start)
            after = _system_and_faults()
            system[name].append(after[0] - before[0])
            faults[name].append(after[1] - before[1])
        bursts.append(max(burst_flops(arguments.threads, repetitions=3)))
    return {
        name: Stage(
            operations,
            moved,
            statistics.median(seconds[name][1:]),
            statistics.mean(system[name][1:]),
            statistics.median(faults[name][1:]),
        )
        for name, (_, operations, moved) in operators.items()
    }, bursts
