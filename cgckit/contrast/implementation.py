"""Which implementation of the losses a call uses."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

import torch

from cgckit.contrast import ops

Implementation = Literal["fused", "blockwise", "reference"]
_P = ParamSpec("_P")
_R = TypeVar("_R")
logger = logging.getLogger(__name__)

AUTO_FUSED = ("cpu", "cuda")
"""Device types on which "auto" is "fused": those where it was measured to be faster than "blockwise".

The figures are in benchmarks/results/loss.md for "cpu", in csrc/cuda/README.md for "cuda".
"""

OLDEST_GPU = (8, 0)
"""Least compute capability that binaries or PTX of the CUDA kernels serve; `ARCHITECTURES` in setup.py begins there."""


def resolve_implementation(implementation: str, device: torch.device | str) -> Implementation:
    """Return the implementation that a call with these features uses: "fused", "blockwise" or "reference".

    "auto" is "fused" on the device types of `AUTO_FUSED`, CPU and CUDA, and "blockwise" on all others; where
    the compiled operators are missing or do not serve the device it is "blockwise" too, which is logged once.

    Raises:
        ValueError: there is no implementation of that name.
        RuntimeError: "fused" is asked for and there are no compiled operators for `device`, or "reference" for tensors
            without values.
    """
    device = torch.device(device)
    if implementation == "auto":
        if device.type not in AUTO_FUSED:
            return "blockwise"
        reason = _missing(device)
        if reason is None:
            return "fused"
        _log_once(reason)
        return "blockwise"
    if implementation == "fused":
        reason = _missing(device)
        if reason is not None:
            raise RuntimeError(f"implementation 'fused' {reason}; use 'auto' or 'blockwise'")
        return "fused"
    if implementation == "blockwise":
        return "blockwise"
    if implementation == "reference":
        if device.type == "meta":
            raise RuntimeError("implementation 'reference' needs values, which meta tensors lack; use 'auto'")
        return "reference"
    raise ValueError(f"implementation must be auto, fused, blockwise or reference, not {implementation!r}")


def _missing(device: torch.device) -> str | None:
    """What keeps the compiled operators from `device`, to stand after their name; None if nothing does."""
    if not ops.fused_available():
        return f"needs the compiled extension: {ops.MISSING}"
    if device.type not in ops.DEVICES:
        why = f": {ops.MISSING_CUDA}" if device.type == "cuda" else ""
        return f"has no kernels for {device.type}{why}"
    if device.type == "cuda" and (capability := _capability(device.index)) < OLDEST_GPU:
        least, found = (".".join(map(str, version)) for version in (OLDEST_GPU, capability))
        return f"needs a GPU of compute capability {least} or higher, and this one has {found}"
    return None


def _constant_when_compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Mark `function` to be called by `torch.compile` itself, with its result a constant of what is compiled.

    The mark is all that `torch.compiler.assume_constant_result` sets, but that imports the compiler first: a second
    and more, which everybody would wait for who compiles nothing.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@_constant_when_compiled
def _capability(index: int | None) -> tuple[int, int]:
    """Compute capability of a CUDA device, the current one if `index` is None."""
    return torch.cuda.get_device_capability(index)


@_constant_when_compiled
def _log_once(reason: str) -> None:
    _log(reason)


@functools.cache
def _log(reason: str) -> None:
    logger.warning("the contrastive losses run as 'blockwise', as 'fused' %s", reason)
