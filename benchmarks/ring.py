"""Memory and time of the labelled loss where the batch lies in several processes.

Each process takes its share of the batch to the loss and back, first by blocks that go round (`group`), then as usual:
all embeddings are gathered, and the own rows of the matrix of similarities are formed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.machine import PeakMemory
from cgckit.contrast import supervised_contrastive

TEMPERATURE = 0.1
Loss = Callable[[Tensor, Tensor], Tensor]  # embeddings and labels of this process to a scalar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--samples", type=int, default=4096, help="of each process (default 4096)")
    parser.add_argument("--depth", type=int, default=256, help="elements of an embedding (default 256)")


def run(arguments: argparse.Namespace) -> None:
    """Print a line a way: peak memory of the process that took most, and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        given = (arguments.processes, arguments.samples, arguments.depth, f"file://{folder}/meeting")
        torch.multiprocessing.spawn(_measure, given, nprocs=arguments.processes)


def _measure(rank: int, processes: int, samples: int, depth: int, meeting: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)  # of the gathering, whose successor torch 2.10 does not have
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    generator = torch.Generator().manual_seed(rank)
    x = torch.randn(samples, depth, generator=generator)
    labels = torch.randint(100, (samples,), generator=generator)
    ways: dict[str, Loss] = {
        "blocks go round": lambda x, labels: supervised_contrastive(
            x, labels, temperature=TEMPERATURE, group=dist.group.WORLD
        ),
        "all are gathered": _gathered,
    }
    gradients = []
    for name, loss in ways.items():
        _gradient(loss, x[:64], labels[:64])  # what is loaded and connected the first time
        dist.barrier()
        start = time.perf_counter()
        with PeakMemory(torch.device("cpu")) as peak:
            gradients.append(_gradient(loss, x, labels))
        found = torch.tensor([float(peak.bytes), time.perf_counter() - start])
        dist.all_reduce(found, dist.ReduceOp.MAX)
        if rank == 0:
            print(f"{name}: {found[0] / 2**20:.0f} MiB a process at most, {found[1]:.1f} s", flush=True)
    difference = ((gradients[0] - gradients[1]).norm() / gradients[1].norm()).item()
    if rank == 0:
        own = x.numel() * x.element_size() / 2**20
        print(f"{processes} processes, {samples} x {depth} each ({own:.0f} MiB); gradients differ by {difference:.1e}")
    dist.destroy_process_group()


def _gradient(loss: Loss, x: Tensor, labels: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    loss(leaf, labels).backward()
    assert leaf.grad is not None
    return leaf.grad


def _gathered(x: Tensor, labels: Tensor) -> Tensor:
    """This process's share of the mean, from its rows of the matrix of similarities."""
    from torch.distributed.nn.functional import all_gather

    own = torch.nn.functional.normalize(x)
    u = torch.cat(all_gather(own))
    everyone = [torch.empty_like(labels) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, labels)
    itself = dist.get_rank() * len(x) + torch.arange(len(x))[:, None] == torch.arange(len(u))
    logits = (own @ u.T / TEMPERATURE).masked_fill(itself, -torch.inf)
    same = (labels[:, None] == torch.cat(everyone)) & ~itself
    positives = torch.where(same, logits, 0).sum(1) / same.sum(1).clamp(min=1)
    anchor = same.any(1)
    anchors = anchor.sum()
    dist.all_reduce(anchors)
    return torch.where(anchor, torch.logsumexp(logits, 1) - positives, 0).sum() / anchors
