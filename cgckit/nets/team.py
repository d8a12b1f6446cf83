"""`Team`: the processes that train one network together, as `torchrun` starts them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cgckit.errors import CgckitError

T = TypeVar("T", bound=tuple[Tensor, ...])
# The others wait while the first computes priors; one that is gone is noticed at once, by its connection.
_LONGEST_WAIT = timedelta(days=30)


@dataclass(eq=False)
class Team:
    """Who this process is among those that train together; by default it is alone.

    Attributes:
        rank: its number, from 0 on; the first leads, and alone writes files.
        size: how many there are.
        on_machine: its number among those on its machine, which says which GPU it takes.
        waiting: whether the others wait for what the first has to `tell`.
    """

    rank: int = 0
    size: int = 1
    on_machine: int = 0
    waiting: bool = False

    @classmethod
    def of_environment(cls) -> Team:
        """Who this process is, as `torchrun` says in its environment."""
        size = int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1
        if size < 2:
            return cls()
        return cls(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Be connected with the others while the block runs: gloo between CPUs, NCCL between GPUs."""
        if self.size == 1:
            yield
            return
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with self.mindful():
            dist.init_process_group(backend, rank=self.rank, world_size=self.size, timeout=_LONGEST_WAIT)
        self.waiting = True
        try:
            yield
        finally:
            self.release()
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether it is the first."""
        return self.rank == 0

    @contextmanager
    def mindful(self) -> Iterator[None]:
        """Tell the loss of another process from other failures.

        Raises:
            CgckitError: another process is gone.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _is_loss(error):
                raise
            raise CgckitError(
                "another process of the training has ended; the same command goes on from the last checkpoint"
            ) from error

    def tell(self, what: Any = None) -> Any:
        """What the first says, to everybody."""
        box = [what]
        with self.mindful():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    @contextmanager
    def at_work(self, order: Any) -> Iterator[None]:
        """Tell the others what to do, and that they wait for more once the block has ended in order."""
        if self.size > 1:
            self.tell(order)
            self.waiting = False
        yield
        self.waiting = True

    def release(self) -> None:
        """Tell the others that there is nothing left to do, if they wait to be told something."""
        if self.leads and self.size > 1 and self.waiting:
            self.waiting = False
            with suppress(CgckitError):  # they are gone already
                self.tell(None)

    def device(self, name: str) -> str:
        """The device of this process where `name` leaves it open: each process of a machine takes a GPU of its own."""
        if self.size > 1 and (name == "cuda" or (name == "auto" and torch.cuda.is_available())):
            return f"cuda:{self.on_machine}"
        return name

    def wrap(self, model: nn.Module, *, partial: bool = False) -> nn.Module:
        """The model, with gradients that are averaged over all processes, and the weights of the first.

        Args:
            model: the same in all of them.
            partial: some of its weights have no part in the loss.
        """
        if self.size == 1:
            return model
        # Of weights of one voxel, whose layout has several names; nothing is wrong.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        return DistributedDataParallel(model, find_unused_parameters=partial)

    def mean(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mean of scalars over all processes."""
        if self.size == 1:
            return dict(terms)
        values = torch.stack([value.detach().double() for value in terms.values()])
        dist.all_reduce(values)
        return dict(zip(terms, (values / self.size).unbind(), strict=True))

    def count(self, number: Tensor) -> Tensor:
        """What a process divides its sum by, so that the mean over processes is the mean over all that was counted."""
        if self.size == 1:
            return number.clamp(min=1)
        total = number.detach().clone()
        dist.all_reduce(total)
        return total.clamp(min=1) / self.size


@dataclass(frozen=True)
class Share(Generic[T]):
    """What one process takes of the batches that all share: `batch` of the size * `batch` items that `draw` gives."""

    draw: Callable[[int], T]
    team: Team
    batch: int

    def __call__(self, index: int) -> T:
        """The share of batch `index`."""
        whole, start = self.draw(index), self.team.rank * self.batch
        kind: Any = type(whole)
        share: T = kind(*(tensor[start : start + self.batch] for tensor in whole))
        return share


def _is_loss(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        word in text for word in ("gloo", "nccl", "connection", "timed out")
    )
