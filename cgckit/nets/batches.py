"""`Batches`: batches that are drawn while the device computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T", bound=tuple[Tensor, ...])
_MOST_WORKERS = 8


class Batches(Generic[T]):
    """The batches of a training, asked for in the order of its steps.

    For a GPU they are drawn ahead by worker processes, into pinned memory; on a CPU, which draws and computes with the
    same cores, one after the other. As a batch depends on its index alone, they are the same either way.

    Args:
        draw: gives the batch of a step, a named tuple of tensors, from the step's index alone.
        steps: of the training.
        device: that the batches are for.
        workers: processes that draw; by default up to eight for a GPU, none for a CPU.
    """

    def __init__(self, draw: Callable[[int], T], steps: int, device: torch.device, workers: int | None = None) -> None:
        self.draw, self.steps, self.device = draw, steps, device
        on_gpu = device.type == "cuda"
        self.workers = workers if workers is not None else min(_MOST_WORKERS, _cores() - 1) if on_gpu else 0
        self._pinned = on_gpu
        self._next = -1
        self._drawn: Iterator[T] = iter(())

    def __call__(self, index: int) -> T:
        """Batch `index` on the device."""
        if index != self._next:
            self._drawn = self._from(index)
        self._next = index + 1
        batch = next(self._drawn)
        kind: Any = type(batch)
        moved: T = kind(*(tensor.to(self.device, non_blocking=True) for tensor in batch))
        return moved

    def _from(self, start: int) -> Iterator[T]:
        loader = DataLoader(
            _Drawn(self.draw),
            batch_size=None,
            sampler=range(start, self.steps),
            num_workers=self.workers,
            pin_memory=self._pinned,
            generator=torch.Generator(),  # else it would take a number from the caller's
        )
        return iter(loader)


class _Drawn(Dataset[T]):
    """`draw` as a data set."""

    def __init__(self, draw: Callable[[int], T]) -> None:
        self.draw = draw

    def __getitem__(self, index: int) -> T:
        return self.draw(index)


def _cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
