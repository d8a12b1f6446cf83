"""The contrastive loss against its yardsticks, in interleaved rounds.

`loss.jsonl` holds what was measured, a line a contender; `loss.md` and `loss.png` are made from it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import report
from benchmarks.machine import PeakMemory, burst_flops, description, seconds
from benchmarks.sizes import PRESETS, Inputs, Preset, inputs
from benchmarks.yardsticks import METRIC_LEARNING, TEMPERATURE, Loss, contenders
from cgckit.contrast import patch_contrastive_loss, supervised_contrastive

Row = dict[str, object]


RESULTS = Path(__file__).parent / "results"
CALM = 0.85
"""A round counts if the machine's sustained burst beside it was at least this share of the best burst."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", choices=PRESETS, action="append", help="only this one (may be repeated)")
    parser.add_argument("--rho", type=float, action="append", help="only this share of positive patches")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds that count (default 7)")
    parser.add_argument("--seconds", type=float, default=150.0, help="start no further round after this (default 150)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-compile", action="store_true", help="leave the yardsticks under torch.compile out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)")
    parser.add_argument("--table", action="store_true", help="only write table and picture again")


def run(arguments: argparse.Namespace) -> None:
    """Measure what is asked for, in place of earlier results of the same preset and share; then write all again.

    What was measured without a calm round is not kept.
    """
    torch.set_num_threads(arguments.threads)
    if not METRIC_LEARNING and not arguments.table:
        print("without pytorch-metric-learning, which is not installed", flush=True)
    for name in [] if arguments.table else arguments.preset or PRESETS:
        for rho in arguments.rho or PRESETS[name].shares:
            rows = measure_preset(PRESETS[name], rho, torch.device(arguments.device), arguments)
            if rows[0]["rounds_calm"]:
                report.replace_rows(arguments.results, rows)
            else:
                print(f"{name} rho {rho:g} is not kept: no round was calm", flush=True)
    report.write(arguments.results)


def measure_preset(preset: Preset, rho: float, device: torch.device, options: argparse.Namespace) -> list[Row]:
    """Time forward and backward of every contender; a row each."""
    given = inputs(preset, rho, device)
    losses = contenders(preset, given, compiled=not options.no_compile)
    exact = _exact(preset, given)
    common: Row = {
        "benchmark": "loss",
        "preset": preset.name,
        "rho": rho,
        "patches": preset.patches,
        "depth": preset.depth,
        "anchors": int(given.positive.sum()),
        **description(device),
    }
    rows = {name: {**common, "contender": name, **_once(loss, given, exact, device)} for name, loss in losses.items()}
    rounds: list[Round] = []
    earlier = (row for row in report.read(options.results) if row["device"] == common["device"])
    best = max((row["burst_flops"] for row in earlier if row["threads"] == common["threads"]), default=0.0)
    began = time.perf_counter()
    while len(calm(rounds, best)) < options.rounds and (not rounds or time.perf_counter() - began < options.seconds):
        before = _bursts(device)
        times = {name: _time_again(loss, given.features, device) for name, loss in losses.items()}
        rounds.append(Round([*before, *_bursts(device)], times))
    best = max([best, *(burst for done in rounds for burst in done.bursts)])
    counted = calm(rounds, best) or rounds
    for name, row in rows.items():
        times = [done.times[name] for done in counted]
        row["rounds"] = len(rounds)
        row["rounds_calm"] = len(calm(rounds, best))
        row["forward_s"] = statistics.median(forward for forward, _ in times)
        row["backward_s"] = statistics.median(backward for _, backward in times)
        row["both_s"] = statistics.median(forward + backward for forward, backward in times)
        row["burst_flops"] = best
        print(
            f"{preset.name} rho {rho:g} {name}: forward {row['forward_s']:.4f} s, backward {row['backward_s']:.4f} s, "
            f"{row['peak_bytes'] / 2**20:.0f} MiB, errors {row['loss_error']} {row['gradient_error']}, "
            f"{row['rounds_calm']} of {row['rounds']} rounds calm",
            flush=True,
        )
    return list(rows.values())


@dataclass(frozen=True)
class Round:
    """Every contender once."""

    bursts: list[float]  # the machine's floating-point operations a second before and after, several times
    times: dict[str, tuple[float, float]]  # seconds of forward and backward


def calm(rounds: list[Round], best: float) -> list[Round]:
    """Rounds in which nobody else took the processor: their bursts are near the `best` that it has ever shown."""
    best = max([best, *(burst for done in rounds for burst in done.bursts)])
    return [done for done in rounds if not done.bursts or statistics.mean(done.bursts) >= CALM * best]


def _bursts(device: torch.device) -> list[float]:
    return burst_flops(torch.get_num_threads()) if device.type == "cpu" else []


def _exact(preset: Preset, given: Inputs) -> tuple[Tensor, Tensor] | None:
    """Loss and gradient in float64 by the blockwise path; None where that would take minutes."""
    if 1e-9 * preset.patches * preset.depth * int(given.positive.sum()) > 1000:
        return None
    leaf = given.features.double().requires_grad_()
    if preset.classes:
        loss = supervised_contrastive(leaf, given.labels, temperature=TEMPERATURE, implementation="blockwise")
    else:
        loss = patch_contrastive_loss(
            leaf,
            given.probability,
            patch_size=preset.patch,
            temperature=TEMPERATURE,
            scope="batch",
            implementation="blockwise",
        )
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def _once(loss: Loss, given: Inputs, exact: tuple[Tensor, Tensor] | None, device: torch.device) -> Row:
    """Warm up; then peak memory of forward and backward, and errors against float64."""
    _time(loss, given.features, device)
    leaf = given.features.detach().clone().requires_grad_()
    with PeakMemory(device) as peak:
        value = loss(leaf)
        value.backward()
    assert leaf.grad is not None
    errors: Row = {"loss_error": None, "gradient_error": None}
    if exact is not None:
        errors["loss_error"] = float((value.detach().double() - exact[0]).abs())
        errors["gradient_error"] = float((leaf.grad.double() - exact[1]).norm() / exact[1].norm())
    return {"peak_bytes": peak.bytes, **errors}


def _time(loss: Loss, features: Tensor, device: torch.device) -> tuple[float, float]:
    """Seconds of forward and of backward."""
    leaf = features.detach().requires_grad_()
    start = _now(device)
    value = loss(leaf)
    middle = _now(device)
    value.backward()
    return middle - start, _now(device) - middle


def _time_again(loss: Loss, features: Tensor, device: torch.device) -> tuple[float, float]:
    """As in a row of steps: a first call finds the caches and the free memory that another way to the loss has left."""
    _time(loss, features, device)
    return _time(loss, features, device)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return seconds(torch.get_num_threads())
