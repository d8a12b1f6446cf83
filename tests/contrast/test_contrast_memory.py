"""Memory grows with N D, not with N x N or n x N."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

from cgckit.contrast import fused_available, patch_contrastive_loss

BYTES_OF_A_PATCH = 2048
"""Of a block of anchors every patch has a row of 384 float32 similarities; the rest is for what is kept of it alone."""


def resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


@pytest.mark.skipif(not fused_available(), reason="the extension is not built")
def test_memory_is_at_most_twice_the_map_and_a_constant_a_patch() -> None:
    features = torch.randn(2, 8, 96, 96, 96, generator=torch.Generator().manual_seed(0)).requires_grad_()
    probability = torch.zeros(2, 96, 96, 96)
    probability[:, :40, :40, :48] = 1  # 2,400 of the 27,648 patches: n x N would be 265 MB, N x N 3 GB
    allowed = 2 * features.nbytes + BYTES_OF_A_PATCH * 27_648

    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() != features.data_ptr():
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    small = torch.randn(1, 4, 8, 8, 8, requires_grad=True)
    patch_contrastive_loss(small, torch.ones(1, 8, 8, 8), patch_size=4).backward()  # loads code and starts threads
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    before = resident("VmRSS")
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = patch_contrastive_loss(features, probability, patch_size=4, scope="batch")
    loss.backward()
    assert features.grad is not None
    assert features.grad.any()
    assert features.nbytes < sum(saved.values()) <= allowed
    peak = resident("VmHWM") - before
    assert features.nbytes < peak <= allowed
