"""Processes with a batch between them: the loss and every gradient are those of one process with all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")

# Each of four processes, which also make up groups of two: starting them takes longer than all that they check.
CHECKS = '''
import sys, traceback
import torch
import torch.distributed as dist
from cgckit.contrast import SupervisedContrastiveLoss, ring, supervised_contrastive

rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
groups = {2: pairs[rank // 2], 4: dist.group.WORLD}


def batch(counts, depth, classes, dtype, zero=()):
    """The whole batch; one class has one sample, and the samples `zero` have no norm."""
    generator = torch.Generator().manual_seed(sum(counts))
    x = torch.randn(sum(counts), depth, generator=generator, dtype=torch.float64)
    x[list(zero)] = 0
    labels = torch.randint(classes, (len(x),), generator=generator) * 1000 - 5
    labels[len(x) // 2 : len(x) // 2 + 1] = 77
    return x.to(dtype), labels


def both(x, labels, counts, group, tau, reduction):
    """Loss, gradients of embeddings and temperature: of one process with all, and of this one with its part."""
    place = dist.get_rank(group)
    own = slice(sum(counts[:place]), sum(counts[: place + 1]))
    weight = torch.linspace(1, 2, len(x), dtype=torch.float64)
    found = []
    for part, of_group, way in ((slice(None), None, "blockwise"), (own, group, "auto")):
        leaf = x[part].clone().requires_grad_()
        temperature = torch.tensor(tau, dtype=torch.float64, requires_grad=True)
        loss = supervised_contrastive(leaf, labels[part], temperature=temperature, reduction=reduction, group=of_group,
                                      implementation=way)
        total = (loss * weight[part]).sum() if reduction == "none" else 3 * loss
        found.append([loss.detach(), *torch.autograd.grad(total, (leaf, temperature))])
    alone, shared = found
    alone[1] = alone[1][own]
    if reduction == "none":
        alone[0] = alone[0][own]
    dist.all_reduce(shared[2], group=group)  # each process has its anchors' share of the temperature's gradient
    return alone, shared


CASES = {
    "even": ([6, 6, 6, 6], 5, 4, ()),
    "uneven": ([9, 1, 4, 17], 3, 3, ()),
    "one process has none": ([5, 0, 8, 2], 7, 2, ()),
    "samples of zeros": ([7, 7, 3, 8], 4, 3, (0, 8, 9)),
    "one process has zeros alone": ([4, 3, 5, 5], 4, 2, (4, 5, 6)),
    "no pair of one class": ([1, 0, 1, 0], 4, 10**6, ()),
    "no sample": ([0, 0, 0, 0], 4, 2, ()),
}


def check_equal_to_one_process():
    for name, (counts, depth, classes, zero) in CASES.items():
        for of, group in groups.items():
            here = counts[:of] if of == 4 or rank < 2 else counts[2:]
            x, labels = batch(here, depth, classes, torch.float64, [k for k in zero if k < sum(here)])
            for tau, ring.PAIRS in ((0.02, 20), (0.3, 1 << 20)):
                for reduction in ("mean", "sum", "none"):
                    alone, shared = both(x, labels, here, group, tau, reduction)
                    for a, b in zip(alone, shared):
                        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9, msg=lambda m: f"{name} {of}: {m}")


def check_float32_and_half():
    counts = [40, 60, 50, 30]
    for dtype, tolerance in ((torch.float32, 4e-6), (torch.bfloat16, 2**-7), (torch.float16, 2**-10)):
        x, labels = batch(counts, 16, 5, dtype)
        exact, _ = both(x.double(), labels, counts, dist.group.WORLD, 0.1, "mean")
        _, shared = both(x, labels, counts, dist.group.WORLD, 0.1, "mean")
        assert shared[0].dtype == torch.float32 and shared[1].dtype == dtype
        assert abs(shared[0].double() - exact[0]) <= 1e-6 * 10, (dtype, shared[0] - exact[0])
        assert (shared[1].double() - exact[1]).norm() <= tolerance * exact[1].norm(), dtype
        assert (shared[2] - exact[2]).abs() <= 1e-5 * exact[2].abs()


def check_the_same_bits_everywhere_and_again():
    counts = [33, 21, 40, 12]
    x, labels = batch(counts, 9, 4, torch.float32)
    _, first = both(x, labels, counts, dist.group.WORLD, 0.07, "mean")
    _, again = both(x, labels, counts, dist.group.WORLD, 0.07, "mean")
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    values = [torch.empty_like(first[0]) for _ in range(size)]
    dist.all_gather(values, first[0])
    assert all(torch.equal(value, values[0]) for value in values)


def check_nan_is_not_hidden():
    x = torch.ones(3, 2)
    if rank == 2:
        x[1, 0] = torch.nan
    assert supervised_contrastive(x, torch.zeros(3).long(), group=dist.group.WORLD).isnan()


def check_the_module_takes_the_group():
    x, labels = batch([5] * size, 4, 2, torch.float64)
    own = slice(5 * rank, 5 * rank + 5)
    found = SupervisedContrastiveLoss(0.3, group=dist.group.WORLD)(x[own], labels[own])
    torch.testing.assert_close(found, supervised_contrastive(x, labels, temperature=0.3))


def refused(error, words, call):
    try:
        call()
    except error as found:
        assert words in str(found), found
    else:
        raise AssertionError(f"accepted: {words}")


def check_mistakes_are_said_in_every_process():
    labels, world = torch.zeros(4).long(), dist.group.WORLD
    plain = torch.ones(4, 3)
    refused(ValueError, "alike", lambda: supervised_contrastive(torch.ones(4, 3 + rank % 2), labels, group=world))
    refused(ValueError, "alike", lambda: supervised_contrastive(plain.double() if rank else plain, labels, group=world))
    refused(ValueError, "alike", lambda: supervised_contrastive(plain, labels, temperature=0.1 + rank, group=world))
    refused(ValueError, "blockwise with a group",
            lambda: supervised_contrastive(plain, labels, implementation="fused", group=world))
    group = dist.new_group([0, 1, 2])
    if rank == 3:
        refused(ValueError, "group must be", lambda: supervised_contrastive(plain, labels, group=group))
    x = torch.randn(4, 3, requires_grad=True)
    loss = supervised_contrastive(x, labels, group=world)
    refused(NotImplementedError, "no second derivatives", lambda: torch.autograd.grad(loss, x, create_graph=True))


try:
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
            dist.barrier()
except Exception:
    traceback.print_exc()
    sys.exit(1)
dist.destroy_process_group()
'''


def test_processes_have_the_loss_and_the_gradients_of_one_with_the_whole_batch(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CHECKS, str(rank), "4", str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        for rank in range(4)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, "\n".join(said)
