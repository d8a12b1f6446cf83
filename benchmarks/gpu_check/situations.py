"""What training may come upon: masks, nothing to contrast, NaN, scaled gradients, streams, autocast, compilation."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.problems import Regime, loss_and_gradients, random_map, relative_error
from cgckit.contrast import patch_contrastive_loss, supervised_contrastive

REGIME = Regime((2, 8, 12, 12, 8), (2, 2, 4), share=0.4)
CUBE = Regime((1, 3, 8, 8, 8), (4, 4, 4))
LIMIT = 2e-5  # relative error of float32


def check(device: torch.device, findings: Findings) -> None:
    _values(device, findings)
    _nothing(device, findings)
    _supervised(device, findings)
    _compiled(device, findings)
    if device.type == "cuda":
        _far_apart(device, findings)
        _side_stream(device, findings)
        _autocast(device, findings)


def _values(device: torch.device, findings: Findings) -> None:
    features, probability = random_map(REGIME, torch.float32, device)
    mask = torch.rand(probability.shape, generator=torch.Generator().manual_seed(1)).to(device) > 0.3
    for name, call in {
        "a mask": partial(loss_and_gradients, mask=mask),
        "a large upstream gradient": partial(loss_and_gradients, upstream=2.0**16),
    }.items():
        found = call(features, probability, REGIME)
        exact = call(features.double(), probability, REGIME, implementation="blockwise")
        errors = [relative_error(*pair) for pair in zip(found, exact, strict=True)]
        findings.note(max(errors) <= LIMIT, check="situations", of=name, errors=errors)


def _nothing(device: torch.device, findings: Findings) -> None:
    features, probability = random_map(REGIME, torch.float32, device)
    loss, gradient, _ = loss_and_gradients(features, torch.zeros_like(probability), REGIME)
    findings.note(not loss.any() and not gradient.any(), check="situations", of="no positives")
    features[0, 0, 0, 0, 0] = torch.nan
    loss, _, _ = loss_and_gradients(features, torch.ones_like(probability), REGIME)
    findings.note(bool(loss[0].isnan() and loss[1].isfinite()), check="situations", of="NaN in one image")
    for shape in ((0, 4, 8, 8, 8), (0, 40, 8, 8, 8), (2, 0, 8, 8, 8)):
        for scope in ("image", "batch"):
            empty = torch.empty(shape, device=device)
            nowhere = torch.empty(shape[0], *shape[2:], device=device)
            loss, gradient, _ = loss_and_gradients(empty, nowhere, CUBE, scope=scope)
            good = not loss.any() and gradient.shape == shape
            findings.note(good, check="situations", of="an empty map", shape=shape, scope=scope)


def _supervised(device: torch.device, findings: Findings) -> None:
    generator = torch.Generator().manual_seed(0)
    count = 3000 if device.type == "cuda" else 60
    embeddings = torch.randn(count, 130, generator=generator).to(device)
    labels = torch.randint(7, (count,), generator=generator).to(device)
    found = supervised_contrastive(embeddings, labels, implementation="fused")
    exact = supervised_contrastive(embeddings.double(), labels, implementation="blockwise")
    error = relative_error(found, exact)
    findings.note(error <= LIMIT, check="situations", of="supervised", errors=[error])


def _gradient(features: Tensor, probability: Tensor) -> Tensor:
    return loss_and_gradients(features, probability, CUBE)[1]


def _cube(device: torch.device) -> tuple[Tensor, Tensor]:
    return random_map(CUBE, torch.float32, device, share=1.0)


def _compiled(device: torch.device, findings: Findings) -> None:
    features, probability = _cube(device)

    def loss(x: Tensor) -> Tensor:
        return patch_contrastive_loss(x, probability, patch_size=4, implementation="fused")

    backend = "inductor" if device.type == "cuda" else "aot_eager"
    leaf = features.clone().requires_grad_()
    (found,) = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend=backend)(leaf), leaf)
    error = relative_error(found, _gradient(features, probability))
    findings.note(error <= LIMIT, check="situations", of="compiled", errors=[error])


def _far_apart(device: torch.device, findings: Findings) -> None:
    """Channels 2^30 elements apart, so that offsets need 64 bits; 4 GiB."""
    features, probability = _cube(device)
    memory = torch.empty(2**31 + 2**12, device=device, dtype=torch.float16)
    far = memory.as_strided(CUBE.shape, (512, 2**30, 64, 8, 1))
    far.copy_(features)
    same = torch.equal(_gradient(far, probability), _gradient(features.half(), probability))
    findings.note(same, check="situations", of="64-bit offsets")


def _side_stream(device: torch.device, findings: Findings) -> None:
    features, probability = _cube(device)
    expected = _gradient(features, probability)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        found = _gradient(features, probability)
    torch.cuda.current_stream().wait_stream(side)
    findings.note(torch.equal(found, expected), check="situations", of="a stream beside")


def _autocast(device: torch.device, findings: Findings) -> None:
    features, probability = _cube(device)
    convolution = torch.nn.Conv3d(3, 8, 1).to(device)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = patch_contrastive_loss(convolution(features), probability, patch_size=4, implementation="fused")
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = convolution.weight.grad
    findings.note(gradient is not None and bool(gradient.isfinite().all()), check="situations", of="autocast")
