"""CUDA graphs: both passes are captured once, and replayed with other numbers and another number of anchors."""

from __future__ import annotations

import torch

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.problems import Regime, random_map, some
from cgckit.contrast import patch_contrastive_loss

REGIMES = ("rows of a warp, channels last", "rows of a block, channels last", "slices, channels last")


def check(device: torch.device, findings: Findings) -> None:
    for name, regime in some(device, *REGIMES).items():
        _replay(name, regime, device, findings)


def _replay(name: str, regime: Regime, device: torch.device, findings: Findings) -> None:
    features, probability = random_map(regime, torch.float32, device, share=0.1)
    leaf = features.requires_grad_()

    def step() -> None:
        leaf.grad = None
        patch_contrastive_loss(leaf, probability, patch_size=regime.patch, implementation="fused").backward()  # type: ignore[no-untyped-call]

    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
        step()
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step()
    for seed, share in ((1, 0.5), (2, 0.02)):
        others = random_map(regime, torch.float32, device, share, seed)
        with torch.no_grad():
            leaf.copy_(others[0])
            probability.copy_(others[1])
        captured.replay()
        again = others[0].requires_grad_()
        patch_contrastive_loss(again, others[1], patch_size=regime.patch, implementation="fused").backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        assert again.grad is not None
        findings.note(torch.equal(leaf.grad, again.grad), check="graphs", regime=name, share=share)
