"""The compiled operators as torch sees them: gradients, shapes, compilation, threads and instruction sets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from cgckit.contrast import build_information, fused_available, ops, patch_contrastive_loss

pytestmark = pytest.mark.skipif(not fused_available(), reason="the extension is not built")

SMALL = ("2 positives", "overlapping", "one group", "flat", "zero patches", "channels last", "transposed")
"""Samples that are quick to differentiate numerically, each with something of its own."""


def differentiable_inputs(sample: Any) -> tuple[Tensor, Tensor]:
    features = sample.features[:, :2].clone() if sample.scope == "image" else sample.features.clone()
    return features.requires_grad_(), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)


def small_loss(sample: Any, implementation: str) -> Any:
    def loss(features: Tensor, temperature: Tensor) -> Tensor:
        return patch_contrastive_loss(
            features, sample.probability, temperature=temperature, implementation=implementation, **sample.options
        )

    return loss


@pytest.mark.parametrize("name", SMALL)
def test_gradcheck(samples: dict[str, Any], name: str) -> None:
    sample = samples[name]
    if name == "zero patches":  # the loss jumps where a patch leaves zero: differentiate the others
        loss = small_loss(sample, "fused")
        zero = sample.features == 0
        features, temperature = differentiable_inputs(sample)

        def of_the_others(features: Tensor, temperature: Tensor) -> Tensor:
            return loss(features.masked_fill(zero[:, :2], 0), temperature)

        assert torch.autograd.gradcheck(of_the_others, (features, temperature), fast_mode=True)
        return
    assert torch.autograd.gradcheck(
        small_loss(sample, "fused"), differentiable_inputs(sample), fast_mode=name not in SMALL[:1]
    )


@pytest.mark.parametrize("implementation", ["fused", "blockwise"])
@pytest.mark.parametrize("name", ["2 positives", "overlapping", "one group"])
def test_gradgradcheck(samples: dict[str, Any], name: str, implementation: str) -> None:
    sample = samples[name]
    inputs = differentiable_inputs(sample)
    assert torch.autograd.gradgradcheck(small_loss(sample, implementation), inputs, fast_mode=True)


def test_gradient_penalties_reach_the_features(samples: dict[str, Any]) -> None:
    sample = samples["ragged"]
    second = {}
    for implementation in ("fused", "reference"):
        features, temperature = differentiable_inputs(sample)
        loss = small_loss(sample, implementation)(features, temperature)
        gradients = torch.autograd.grad(loss, (features, temperature), create_graph=True)
        penalty = gradients[0].square().sum() + gradients[1].square()
        second[implementation] = torch.autograd.grad(penalty, (features, temperature))
    for fused, reference in zip(second["fused"], second["reference"], strict=True):
        torch.testing.assert_close(fused, reference)


def test_only_what_the_loss_uses_can_be_differentiated(samples: dict[str, Any]) -> None:
    sample = samples["ragged"]
    statistics = torch.ops.cgckit.patch_statistics(
        sample.features, sample.probability, None, *sample.options_of_grid, 0.5, False
    )
    temperature = torch.tensor(0.2, dtype=torch.float64)
    log_z, pos, expected, kept = torch.ops.cgckit.patch_contrast(
        sample.features.clone().requires_grad_(), temperature, *statistics, *sample.options_of_grid, True
    )
    assert log_z.requires_grad
    assert pos.requires_grad
    assert not expected.requires_grad
    assert not kept.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["8 positives", "overlapping", "one group", "masked", "sliced"])
def test_opcheck(samples: dict[str, Any], name: str, dtype: torch.dtype) -> None:
    sample = samples[name]
    features = sample.features.to(dtype)
    geometry = sample.options_of_grid
    pooled = sample.scope == "batch"
    statistics_inputs = (features, sample.probability, sample.mask, *geometry, 0.5, pooled)
    torch.library.opcheck(torch.ops.cgckit.patch_statistics.default, statistics_inputs)
    statistics = torch.ops.cgckit.patch_statistics(*statistics_inputs)

    leaf = features.clone().requires_grad_()
    temperature = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    contrast_inputs = (leaf, temperature, *statistics, *geometry, True)
    torch.library.opcheck(torch.ops.cgckit.patch_contrast.default, contrast_inputs)
    with torch.no_grad():
        log_z, pos, expected, kept = torch.ops.cgckit.patch_contrast(*contrast_inputs)

    # Tracing its own backward would read the number of anchors on the host, so no input requires a gradient.
    backward_inputs = (log_z, pos, features, temperature.detach(), *statistics, log_z, expected, kept, *geometry)
    torch.library.opcheck(torch.ops.cgckit.patch_contrast_backward.default, backward_inputs)


@pytest.mark.parametrize("name", ["8 positives", "one group", "channels last"])
def test_compiles_without_a_graph_break_for_every_shape(samples: dict[str, Any], name: str) -> None:
    sample = samples[name]
    options = {**sample.options, "implementation": "fused"}

    def eager(features: Tensor, probability: Tensor, temperature: Tensor) -> Tensor:
        return patch_contrastive_loss(features, probability, temperature=temperature, **options)

    compiled = torch.compile(eager, backend="aot_eager", fullgraph=True, dynamic=True)
    for extent in (6, 4):
        found, expected = [], []
        for loss, results in ((compiled, found), (eager, expected)):
            features, temperature = differentiable_inputs(sample)
            value = loss(features[:, :, :extent], sample.probability[:, :extent], temperature)
            results += [value, *torch.autograd.grad(value, (features, temperature))]
        for compiled_result, eager_result in zip(found, expected, strict=True):
            torch.testing.assert_close(compiled_result, eager_result)


def test_torch_func_grad_equals_backward(samples: dict[str, Any]) -> None:
    sample = samples["ragged"]
    loss = small_loss(sample, "fused")
    features, temperature = differentiable_inputs(sample)
    expected = torch.autograd.grad(loss(features, temperature), (features, temperature))
    found = torch.func.grad(loss, argnums=(0, 1))(features.detach(), temperature.detach())
    for gradient, other in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("name", ["ragged", "many", "one group"])  # of which "many" has more anchors than a block
@pytest.mark.parametrize("implementation", ["fused", "blockwise"])
def test_torch_func_grad_can_be_nested(samples: dict[str, Any], name: str, implementation: str) -> None:
    sample = samples[name]
    loss = small_loss(sample, implementation)
    features, temperature = differentiable_inputs(sample)

    def penalty(gradients: tuple[Tensor, ...]) -> Tensor:
        return gradients[0].square().sum() + gradients[1].square()

    first = torch.autograd.grad(loss(features, temperature), (features, temperature), create_graph=True)
    expected = torch.autograd.grad(penalty(first), (features, temperature))
    inputs = (features.detach(), temperature.detach())
    found = torch.func.grad(lambda *inputs: penalty(torch.func.grad(loss, (0, 1))(*inputs)), (0, 1))(*inputs)
    for gradient, other in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, other)


def test_forward_mode_is_refused_in_one_sentence(samples: dict[str, Any]) -> None:
    sample = samples["ragged"]
    with pytest.raises(NotImplementedError, match=r"^the contrastive losses do not support forward-mode"):
        torch.func.jvp(
            lambda features: small_loss(sample, "fused")(features, torch.tensor(0.2)),
            (sample.features,),
            (sample.features,),
        )


def test_vmap_is_refused_in_one_sentence(samples: dict[str, Any]) -> None:
    sample = samples["ragged"]
    with pytest.raises(NotImplementedError, match=r"^the contrastive losses do not support vmap: [^.]*$"):
        torch.func.vmap(lambda features: small_loss(sample, "fused")(features, torch.tensor(0.2)))(
            torch.stack((sample.features, sample.features))
        )


@pytest.mark.parametrize("tau", [0.05, 0.2])
@pytest.mark.parametrize("name", ["ragged", "one group", "many", "zero patches", "1 positives", "channels last"])
def test_what_the_forward_pass_kept_only_saves_time(samples: dict[str, Any], name: str, tau: float) -> None:
    sample = samples[name]
    geometry = sample.options_of_grid
    temperature = torch.tensor(tau, dtype=torch.float64)
    statistics = torch.ops.cgckit.patch_statistics(
        sample.features, sample.probability, sample.mask, *geometry, 0.5, sample.scope == "batch"
    )
    arguments = (sample.features, temperature, *statistics, *geometry)
    log_z, _, expected, kept = torch.ops.cgckit.patch_contrast(*arguments, True)
    without = torch.ops.cgckit.patch_contrast(*arguments, False)
    assert torch.equal(log_z, without[0])
    assert without[3].numel() == 0
    other_order = (
        sample.features.contiguous()
        if sample.features.stride(1) == 1
        else sample.features.contiguous(memory_format=torch.channels_last_3d)
    )

    def gradient(weight: Tensor, features: Tensor, kept: Tensor) -> Tensor:
        found: Tensor = torch.ops.cgckit.patch_contrast_backward(
            weight, -weight / tau, features, temperature, *statistics, log_z, expected, kept, *geometry
        )[0]
        return found

    equal = torch.full_like(log_z, 0.25)
    recomputed = gradient(equal, sample.features, kept[:0])
    torch.testing.assert_close(gradient(equal, sample.features, kept), recomputed)
    # The map may have been laid out anew in between: what was kept in another order must not be used.
    torch.testing.assert_close(gradient(equal, other_order, kept), recomputed)
    # Anchors with gradients of their own: linear in them, whatever was kept.
    one, two = (torch.rand(log_z.shape, dtype=log_z.dtype, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    both = gradient(one + two, sample.features, kept)
    parts = gradient(one, sample.features, kept) + gradient(two, sample.features, kept[:0])
    torch.testing.assert_close(both, parts)
    torch.testing.assert_close(gradient(one + (0.5 - one), sample.features, kept), 2 * recomputed)


@pytest.fixture
def thread_count() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("thread_count")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tau", [0.02, 0.2])
def test_any_number_of_threads_gives_the_same_bits(sample: Any, tau: float, dtype: torch.dtype) -> None:
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        features = sample.features.detach().to(dtype, copy=True).requires_grad_()
        temperature = torch.tensor(tau, dtype=torch.float64, requires_grad=True)
        loss = small_loss(sample, "fused")(features, temperature)
        results.append((loss.detach(), *torch.autograd.grad(loss, (features, temperature))))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(samples: dict[str, Any], dtype: torch.dtype) -> None:
    sample = samples["ragged"]
    half = sample.features.to(dtype).requires_grad_()
    exact = half.detach().float().requires_grad_()
    losses = [patch_contrastive_loss(f, sample.probability, **sample.options) for f in (half, exact)]
    assert torch.equal(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    assert half.grad is not None
    assert exact.grad is not None
    assert half.grad.dtype == dtype
    assert torch.equal(half.grad, exact.grad.to(dtype))


def test_autocast_does_not_lower_the_precision(samples: dict[str, Any]) -> None:
    sample = samples["ragged"]
    features = sample.features.float()
    for implementation in ("fused", "blockwise", "reference"):
        options = {**sample.options, "implementation": implementation}
        plain = patch_contrastive_loss(features, sample.probability, **options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(patch_contrastive_loss(features, sample.probability, **options), plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        norm, _, _ = torch.ops.cgckit.patch_statistics(
            features.bfloat16(), sample.probability, None, *sample.options_of_grid, 0.5, False
        )
    assert norm.dtype == torch.float32


def test_operators_refuse_what_they_cannot_read(samples: dict[str, Any]) -> None:
    sample = samples["ragged"]
    probability, geometry = sample.probability, sample.options_of_grid
    statistics = torch.ops.cgckit.patch_statistics
    with pytest.raises(RuntimeError, match="features must be float64, float32"):
        statistics(sample.features.long(), probability, None, *geometry, 0.5, False)
    with pytest.raises(RuntimeError, match="probability has the wrong dtype"):
        statistics(sample.features, probability.double(), None, *geometry, 0.5, False)
    with pytest.raises(RuntimeError, match="probability must be"):
        statistics(sample.features, probability[:, 1:], None, *geometry, 0.5, False)
    with pytest.raises(RuntimeError, match="patch_size must be"):
        statistics(sample.features, probability, None, (9, 1, 1), (1, 1, 1), 0.5, False)
    norm, order, counts = statistics(sample.features, probability, None, *geometry, 0.5, False)
    temperature = torch.tensor(0.2, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="temperature must be one float64"):
        torch.ops.cgckit.patch_contrast(sample.features, temperature.float(), norm, order, counts, *geometry, True)
    with pytest.raises(RuntimeError, match="norm must have one entry for every patch"):
        torch.ops.cgckit.patch_contrast(sample.features, temperature, norm[:1], order[:1], counts[:1], *geometry, True)


ACCURACY = """
import sys
import torch
from cgckit.contrast import build_information, patch_contrastive_loss, supervised_contrastive
if build_information()["in use"] != sys.argv[1]:
    raise SystemExit(77)
generator = torch.Generator().manual_seed(0)
# Rows and columns that fill no panel, and more anchors than a block.
for shape, patch in (((1, 40, 14, 14, 6), (3, 3, 1)), ((1, 37, 29, 31, 1), (1, 1, 1)), ((2, 8, 4, 4, 4), (2, 2, 2))):
    features = torch.randn(shape, generator=generator)
    probability = torch.rand(shape[0], *shape[2:], generator=generator)
    for tau in (0.02, 0.07, 0.2, 0.9):
        found = []
        for implementation, dtype in (("fused", torch.float32), ("reference", torch.float64)):
            x = features.to(dtype, copy=True).requires_grad_()
            for threads in (1, 2, 4) if implementation == "fused" else (1,):
                torch.set_num_threads(threads)
                loss = patch_contrastive_loss(
                    x, probability, patch_size=patch, temperature=tau, implementation=implementation
                )
                gradient = torch.autograd.grad(loss, x)[0]
                found.append((loss.detach().double(), gradient.double()))
        (loss, gradient), *again, (expected, expected_gradient) = found
        for other in again:
            assert torch.equal(other[0], loss) and torch.equal(other[1], gradient), tau
        assert abs(loss - expected) <= 2e-6 * max(5, 1 / tau), (tau, loss, expected)
        error = (gradient - expected_gradient).norm() / expected_gradient.norm()
        assert error <= max(2e-6, 4e-7 / tau), (tau, error)
"""


@pytest.mark.parametrize("instruction_set", ["scalar", "neon", "avx2", "avx512"])
def test_every_instruction_set_is_accurate_with_any_number_of_threads(instruction_set: str) -> None:
    if instruction_set not in build_information()["instruction sets"].split(", "):
        pytest.skip(f"the extension is not built for {instruction_set}")
    environment = {**os.environ, "CGCKIT_CPU_CAPABILITY": instruction_set}
    command = [sys.executable, "-c", ACCURACY, instruction_set]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(f"this processor has no {instruction_set}")
    assert done.returncode == 0, done.stderr


def test_build_information_names_compiler_and_instruction_set() -> None:
    information = build_information()
    assert set(information) == {
        "version",
        "compiler",
        "flags",
        "torch target",
        "instruction sets",
        "in use",
        "cuda kernels",
    }
    assert information["in use"] in information["instruction sets"].split(", ")
    assert information["torch target"] == "2.10"


@pytest.mark.parametrize("name", ["patch_contrast", "patch_sum"])
def test_an_extension_from_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(ops._FAKES, name, lambda features, temperature: None)
    with pytest.raises(ImportError, match="from another version of cgckit"):
        ops._check_extension()
