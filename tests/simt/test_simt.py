"""The CUDA kernels on the CPU: any order of threads, any moment of copies, no races, and bugs that are caught."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from planted_bugs import BUGS, PLANTED, SMALL, Bug
from simulated_kernels import OPERATORS, SHIPPED, Build, Order, Simulation, compiler, simulation
from torch import Tensor

from cgckit.contrast import blockwise, fused_available
from cgckit.contrast.patches import PatchGrid, patch_statistics

pytestmark = [
    pytest.mark.skipif(not fused_available(), reason="the extension is not built"),
    pytest.mark.skipif(compiler() is None, reason="no C++ compiler to simulate the CUDA kernels with"),
]

TEMPERATURE = 0.2


@dataclass(frozen=True)
class Case:
    """Arguments of the operators. What lies outside `mask` is NaN: nothing of it may reach a result."""

    features: Tensor
    probability: Tensor
    mask: Tensor
    grid: PatchGrid


def case(
    shape: tuple[int, ...],
    patch: tuple[int, int, int],
    dtype: torch.dtype,
    stride: tuple[int, int, int] | None = None,
    channels_last: bool = False,
) -> Case:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(shape, generator=generator)
    grid = PatchGrid.of(shape[2:], patch, stride)
    probability = torch.rand((shape[0], *shape[2:]), generator=generator)
    mask = torch.ones(probability.shape, dtype=torch.bool)
    mask[:, -2 * patch[0] :] = False
    features.masked_fill_(~mask[:, None], torch.nan)
    if channels_last:
        features = features.contiguous(memory_format=torch.channels_last_3d)
    return Case(features.to(dtype), probability, mask, grid)


# The regimes of the kernels: Gram tiles from rows, or kept (N <= D), in slices of D; anchors in several chunks; tiles
# that are whole or not; rows of which a warp takes care (D <= 256 here) or a block.
CASES = {
    "own float32": case((2, 1, 18, 15, 4), (3, 3, 2), torch.float32, stride=(3, 1, 2)),
    "own bfloat16": case((1, 16, 5, 8, 2), (1, 1, 1), torch.bfloat16, channels_last=True),
    "own float16": case((2, 9, 9, 12, 6), (3, 3, 1), torch.float16),
    "chunks float32": case((1, 2, 24, 30, 4), (2, 2, 2), torch.float32),
    "spread float32": case((1, 15, 12, 15, 4), (3, 3, 2), torch.float32),
    "spread bfloat16": case((1, 16, 12, 9, 6), (3, 3, 2), torch.bfloat16, channels_last=True),
    "spread float64": case((1, 15, 15, 9, 4), (3, 3, 2), torch.float64),
    "sliced float32": case((1, 16, 12, 6, 4), (3, 3, 2), torch.float32),
    "unaligned float32": case((1, 2, 8, 6, 6), (2, 3, 4), torch.float32),
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}

RUNS: tuple[tuple[Order, bool], ...] = (
    ("ascending", False),
    ("ascending", True),
    ("descending", False),
    ("random", True),
)
"""Order of threads and blocks, and whether copies arrive late; the first is the plainest."""


SANITIZED = Build("sanitized", flags=("-O1",), host_flags=("-g", "-fsanitize=address,undefined"), changes=SMALL)


@pytest.fixture
def shipped() -> Simulation:
    return simulation(SHIPPED)


@pytest.fixture
def planted() -> Iterator[Simulation]:
    found = simulation(PLANTED)
    yield found
    found.plant(0)
    found.configure()


def results(of: Simulation, inputs: Case, order: Order, late_copies: bool) -> tuple[Tensor, ...]:
    """What the three operators return, with gradients upstream that differ from anchor to anchor.

    But for what the forward keeps for the backward, which has holes.
    """
    of.configure(order, seed=3, late_copies=late_copies)
    operators: dict[str, Any] = {name: getattr(of.operators, name) for name in OPERATORS}
    geometry = inputs.grid.size, inputs.grid.stride
    temperature = torch.tensor(TEMPERATURE, dtype=torch.float64)
    statistics = operators["patch_statistics"](inputs.features, inputs.probability, inputs.mask, *geometry, 0.5, False)
    contrast = operators["patch_contrast"](inputs.features, temperature, *statistics, *geometry, True)
    log_z, _, expected, kept = contrast
    gradients = operators["patch_contrast_backward"](
        *upstream(log_z), inputs.features, temperature, *statistics, log_z, expected, kept, *geometry
    )
    return (*statistics, *contrast[:3], *gradients)


def upstream(like: Tensor) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(like.shape, generator=generator, dtype=torch.float64) for _ in range(2))  # type: ignore


def reference(inputs: Case) -> tuple[Tensor, ...]:
    """log_z, pos, and the gradients, in float64 by plain PyTorch."""
    features = inputs.features.double().requires_grad_()
    temperature = torch.tensor(TEMPERATURE, dtype=torch.float64, requires_grad=True)
    found = patch_statistics(features.detach(), inputs.probability, inputs.mask, inputs.grid, 0.5, False)
    outputs = blockwise.patch_contrast(features, temperature, found.order, found.counts, inputs.grid)
    gradients = torch.autograd.grad(outputs, (features, temperature), upstream(outputs[0]))
    return (found.order, found.counts, *(t.detach() for t in outputs), *gradients)


REFERENCE = {name: reference(inputs) for name, inputs in CASES.items()}


def numbers_agree(name: str, found: tuple[Tensor, ...]) -> bool:
    """Whether results are those of the reference."""
    _, order, counts, log_z, pos, _, by_features, by_temperature = found
    expected = REFERENCE[name]
    tolerance = TOLERANCE[CASES[name].features.dtype]
    return (
        torch.equal(order, expected[0])
        and torch.equal(counts, expected[1])
        and bool((log_z - expected[2]).abs().max() <= tolerance)
        and bool((pos - expected[3]).abs().max() <= tolerance)
        and bool((by_features.double() - expected[4]).norm() <= tolerance * expected[4].norm())
        and bool((by_temperature - expected[5]).abs() <= tolerance * expected[5].abs())
    )


def same_bits(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(one, other, strict=True))


def verdict(of: Simulation, name: str) -> frozenset[str]:
    """Which checks notice something.

    "runner": threads wait for ever, or a copy is not aligned; "numbers": the plainest run is wrong; "late copies":
    only one with late copies is; "orders": bits depend on the order; "races": the plainest run has one.
    """
    try:
        with of.watch() as races:
            plainest = results(of, CASES[name], *RUNS[0])
        late, *others = (results(of, CASES[name], *run) for run in RUNS[1:])
    except RuntimeError as error:
        if "not aligned" in str(error) or "wait for others" in str(error):
            return frozenset({"runner"})
        raise
    noticed = {
        "numbers": not numbers_agree(name, plainest),
        "late copies": numbers_agree(name, plainest) and not numbers_agree(name, late),
        "orders": not all(same_bits(plainest, other) for other in others),
        "races": bool(races),
    }
    return frozenset(check for check, has_noticed in noticed.items() if has_noticed)


@pytest.mark.parametrize("name", CASES)
def test_no_check_notices_anything_in_the_kernels(name: str, planted: Simulation) -> None:
    assert verdict(planted, name) == frozenset()


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_is_caught_by_the_checks_named_for_it(bug: Bug, planted: Simulation) -> None:
    planted.plant(BUGS.index(bug) + 1)
    caught_by = verdict(planted, bug.case)
    assert caught_by
    assert caught_by == bug.caught_by


@pytest.mark.parametrize("name", CASES)
def test_the_sources_without_any_change_give_the_same_bits_in_every_order(name: str, shipped: Simulation) -> None:
    first, *others = (results(shipped, CASES[name], order, late_copies) for order, late_copies in RUNS)
    shipped.configure()
    assert numbers_agree(name, first)
    assert all(same_bits(first, other) for other in others)


def test_the_readme_tells_what_catches_every_planted_bug() -> None:
    lines = (Path(__file__).parent / "README.md").read_text().partition("## Planted bugs")[2].splitlines()
    checks = ("numbers", "late copies", "orders", "races", "runner")
    rows = [
        f"| {bug.name} | " + " | ".join("caught" if check in bug.caught_by else "-" for check in checks) + " |"
        for bug in BUGS
    ]
    assert [line for line in lines if line.startswith("| ")][1:] == rows


@pytest.mark.skipif("libasan" not in os.environ.get("LD_PRELOAD", ""), reason="run by `make sanitize`")
@pytest.mark.parametrize("name", CASES)
def test_sanitizers_find_nothing(name: str) -> None:
    sanitized = simulation(SANITIZED)
    for order, late_copies in RUNS:
        assert numbers_agree(name, results(sanitized, CASES[name], order, late_copies))
