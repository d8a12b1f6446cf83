"""Values and gradients of every implementation against the float64 reference, and the laws the loss obeys."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from simulated_kernels import compiler
from torch import Tensor

from cgckit.contrast import count_positives, fused_available, ops, patch_contrastive_loss
from cgckit.contrast import patches as python_patches
from cgckit.contrast.reference import anchor_terms

TEMPERATURES = (0.02, 0.023, 0.07, 0.2, 0.9)
needs_extension = pytest.mark.skipif(not fused_available(), reason="the extension is not built")
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler to simulate the CUDA kernels with")
needs_gpu = pytest.mark.skipif(
    not (torch.cuda.is_available() and "cuda" in ops.DEVICES), reason="no CUDA device, or no kernels built for it"
)
# The CUDA kernels too: on the CPU, simulated, and on a GPU where there is one.
FUSED = [
    pytest.param("fused", marks=needs_extension),
    pytest.param("simulated", marks=[needs_extension, needs_compiler]),
    pytest.param("cuda", marks=needs_gpu),
]
IMPLEMENTATIONS = [*FUSED, "blockwise"]
# No image, of few elements a patch and of many, which the CUDA kernels take another way; no channel; neither.
EMPTY = [(0, 4, 6, 5, 4), (0, 40, 6, 5, 4), (0, 4, 6, 5), (2, 0, 6, 5, 4), (2, 0, 6, 5), (0, 0, 6, 5, 4)]


def loss_and_gradients(
    sample: Any, dtype: torch.dtype, tau: float, implementation: str, scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, d loss / d features and d loss / d tau in float64, from features that float32 holds exactly."""
    features = sample.features.float().to(dtype).requires_grad_()
    temperature = torch.tensor(tau, dtype=torch.float64, requires_grad=True)
    loss = patch_contrastive_loss(
        features, sample.probability, temperature=temperature, implementation=implementation, **sample.options
    )
    gradients = torch.autograd.grad(scale * loss, (features, temperature))
    return loss.detach().double(), gradients[0].double(), gradients[1]


def gradient_floor(sample: Any, tau: float) -> float:
    """1e-6 |G| / r: what is left of a gradient that the projection on the sphere removes altogether."""
    x = sample.grid.vectors(sample.features.float()).flatten(0, 1)
    x = x[x.norm(dim=1) > 0]
    return float(1e-6 / tau / x.norm(dim=1).min())


@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
def test_float32_agrees_with_the_float64_reference(sample: Any, implementation: str, tau: float) -> None:
    expected = loss_and_gradients(sample, torch.float64, tau, "reference")
    loss, by_features, by_temperature = loss_and_gradients(sample, torch.float32, tau, implementation)
    tolerance = max(2e-6, 4e-7 / tau)
    assert abs(loss - expected[0]) <= 2e-6 * max(5, 1 / tau)  # LSE and pos / tau, each within 1e-6 max(5, 1/tau)
    error = (by_features - expected[1]).norm()
    assert error <= tolerance * expected[1].norm().clamp(min=gradient_floor(sample, tau))
    # The temperature moves the loss through LSE / tau and pos / tau.
    assert abs(by_temperature - expected[2]) <= 2e-6 * max(5, 1 / tau) / tau


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
def test_float64_agrees_to_rounding(sample: Any, implementation: str) -> None:
    for tau in TEMPERATURES:
        expected = loss_and_gradients(sample, torch.float64, tau, "reference")
        found = loss_and_gradients(sample, torch.float64, tau, implementation)
        for value, reference in zip(found, expected, strict=True):
            assert (value - reference).norm() <= 1e-11 / tau * max(1e-3, float(reference.norm()))


@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
def test_float32_is_about_as_accurate_as_the_plain_loss(
    samples: dict[str, Any], implementation: str, tau: float
) -> None:
    def mean_square_error(of: str) -> float:
        total = 0.0
        for sample in samples.values():
            expected = loss_and_gradients(sample, torch.float64, tau, "reference")[1]
            if expected.norm() > 0:
                found = loss_and_gradients(sample, torch.float32, tau, of)[1]
                total += float(((found - expected).norm() / expected.norm()) ** 2)
        return total

    assert mean_square_error(implementation) <= 2**2 * mean_square_error("reference")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
def test_a_very_low_temperature_neither_overflows_nor_underflows(samples: dict[str, Any], implementation: str) -> None:
    sample, tau = samples["many"], 5e-4
    expected = loss_and_gradients(sample, torch.float64, tau, "reference")
    found = loss_and_gradients(sample, torch.float32, tau, implementation)
    assert abs(found[0] - expected[0]) <= 2e-6 / tau
    assert (found[1] - expected[1]).norm() <= 4e-7 / tau * expected[1].norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("implementation", FUSED, indirect=True)
def test_offsets_beyond_32_bits(make: Any, implementation: str, dtype: torch.dtype, tmp_path: Path) -> None:
    features, probability = (t[..., :4].contiguous() for t in make.ragged())
    near = features.to(dtype)
    far_apart = 2**30 + 1024  # elements from channel to channel: the third lies beyond 2^31, in a file full of holes
    memory = torch.from_file(str(tmp_path / "map"), shared=True, size=2 * far_apart + 2**10, dtype=dtype)
    far = memory.as_strided(near.shape, (7 * 8 * 4, far_apart, 8 * 4, 4, 1)).copy_(near)
    found = []
    for x in (near, far):
        x = x.detach().requires_grad_()
        loss = patch_contrastive_loss(x, probability, patch_size=(2, 2, 4), implementation=implementation)
        found.append((loss.detach(), *torch.autograd.grad(loss, x)))
    assert found[0][1].any()
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize("implementation", FUSED, indirect=True)
def test_the_operators_return_lse_and_pos_of_every_anchor(sample: Any, implementation: str, tau: float) -> None:
    pooled = sample.scope == "batch"
    arguments = (sample.probability, sample.mask, *sample.options_of_grid, 0.5, pooled)
    features = sample.features.float()
    statistics = torch.ops.cgckit.patch_statistics(features, *arguments)
    temperature = torch.tensor(tau, dtype=torch.float64)
    log_z, pos, _, _ = torch.ops.cgckit.patch_contrast(
        features, temperature, *statistics, *sample.options_of_grid, False
    )
    _, order, counts = statistics
    x = sample.grid.vectors(features.double()).reshape(*order.shape, -1)
    for g, (anchors, members) in enumerate(counts.tolist()):
        outside = torch.ones(order.shape[1], dtype=torch.bool)
        if anchors >= 2:
            outside[order[g, :anchors]] = False
            chosen = x[g, order[g, :members]]
            u = chosen / chosen.norm(dim=1, keepdim=True)
            lse, similarity = anchor_terms(u, torch.arange(members) < anchors, temperature)
            found = log_z[g, order[g, :anchors]] + 1 / temperature
            assert (found - lse).abs().max() <= 1e-6 * max(5, 1 / tau)
            assert (pos[g, order[g, :anchors]] - similarity).abs().max() <= 1e-6
        assert not log_z[g, outside].any()
        assert not pos[g, outside].any()


@pytest.mark.parametrize("implementation", FUSED, indirect=True)
def test_compiled_statistics_equal_their_python_twin(sample: Any, implementation: str) -> None:
    arguments = (sample.probability, sample.mask)
    for dtype in (torch.float32, torch.float64):
        features = sample.features.to(dtype)
        found = torch.ops.cgckit.patch_statistics(features, *arguments, *sample.options_of_grid, 0.5, False)
        twin = python_patches.patch_statistics(features, *arguments, sample.grid, 0.5, False)
        # float32 norms are summed in float64; float64 ones in another order of the D terms.
        terms = 2 if dtype == torch.float32 else sample.grid.volume * features.shape[1]
        torch.testing.assert_close(found[0], twin.norm, rtol=terms * torch.finfo(dtype).eps, atol=0)
        assert torch.equal(found[1], twin.order)
        assert torch.equal(found[2], twin.counts)


@pytest.mark.parametrize("tau", [0.023, 0.2])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
def test_a_large_upstream_gradient_does_not_overflow(implementation: str, tau: float, make: Any) -> None:
    # Two positives that point away from each other and from everything else: Z is as small as it can be.
    features = torch.zeros(1, 2, 2, 1, 1)
    features[0, 0, :, 0, 0] = torch.tensor([1.0, -1.0])
    sample = make(features.double(), torch.ones(1, 2, 1, 1), (1, 1, 1))
    sample.features[0, 1] = 1e-3
    found = loss_and_gradients(sample, torch.float32, tau, implementation, scale=65536)
    expected = loss_and_gradients(sample, torch.float64, tau, "reference", scale=65536)
    assert torch.isfinite(found[1]).all()
    # With one candidate LSE_i = pos_i / tau: the loss and its gradient vanish but for rounding.
    assert abs(found[0] - expected[0]) <= 1e-6 / tau
    assert (found[1] - expected[1]).norm() <= 65536 * 1e-6 / tau


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("implementation", [*IMPLEMENTATIONS, "reference"], indirect=True)
class TestLaws:
    """What the loss obeys whatever the implementation."""

    def loss(self, dtype: torch.dtype, implementation: str) -> Callable[..., Tensor]:
        def call(features: Tensor, probability: Tensor, **options: Any) -> Tensor:
            options = {"patch_size": (2, 3, 2), "implementation": implementation, **options}
            return patch_contrastive_loss(features.to(dtype), probability, **options)

        return call

    def close(self, dtype: torch.dtype) -> dict[str, float]:
        return {"rtol": 20 * torch.finfo(dtype).eps, "atol": 20 * torch.finfo(dtype).eps}

    @pytest.mark.parametrize("tau", TEMPERATURES)
    def test_identical_patches_give_log_of_the_others(
        self, dtype: torch.dtype, implementation: str, tau: float
    ) -> None:
        patch = torch.randn(1, 3, 2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        features = patch.repeat(1, 1, 3, 2, 2).to(dtype).requires_grad_()  # 12 patches
        loss = self.loss(dtype, implementation)(features, torch.ones(1, 6, 6, 4), temperature=tau)
        eps = torch.finfo(dtype).eps
        assert abs(loss.item() - math.log(11)) <= 20 * eps * max(1, 1 / tau)
        loss.backward()
        # The true gradient is zero; each patch's pull, |G| / r = 2 / (n tau r), is projected away.
        radius = patch.norm()
        assert features.grad is not None
        assert features.grad.norm() <= 20 * eps / tau / radius

    def test_scaling_a_patch_changes_nothing(self, dtype: torch.dtype, implementation: str, make: Any) -> None:
        features, probability = make.ragged()
        scaled = features.clone()
        scaled[0, :, 2:4, 3:6, 2:4] *= 1024
        loss = self.loss(dtype, implementation)
        torch.testing.assert_close(loss(scaled, probability), loss(features, probability), **self.close(dtype))

    def test_gradient_is_orthogonal_to_its_patch(self, dtype: torch.dtype, implementation: str, make: Any) -> None:
        features, probability = make.ragged()
        features = features[:, :, :6, :6, :4].to(dtype).requires_grad_()
        self.loss(dtype, implementation)(features, probability[:, :6, :6, :4]).backward()
        assert features.grad is not None
        grid = python_patches.PatchGrid.of((6, 6, 4), (2, 3, 2), None)
        x, gradient = grid.vectors(features.detach()), grid.vectors(features.grad)
        along = (x * gradient).sum(-1).abs()
        assert gradient.norm() > 0
        bound = 20 * torch.finfo(dtype).eps * x.norm(dim=-1) * gradient.norm(dim=-1)
        assert (along <= bound.clamp(min=1e-30)).all()

    def test_order_of_patches_and_channels_does_not_matter(
        self, dtype: torch.dtype, implementation: str, make: Any
    ) -> None:
        features, probability = make.ragged()
        features, probability = features[:, :, :6, :6, :4], probability[:, :6, :6, :4]
        loss = self.loss(dtype, implementation)
        mirrored = features.reshape(2, 3, 3, 2, 6, 4).flip(1, 2).reshape(features.shape)
        moved = probability.reshape(2, 3, 2, 6, 4).flip(1).reshape(probability.shape)
        torch.testing.assert_close(loss(mirrored, moved), loss(features, probability), **self.close(dtype))

    def test_patches_outside_the_mask_play_no_part(self, dtype: torch.dtype, implementation: str, make: Any) -> None:
        features, probability = make.ragged()
        mask = torch.ones(2, 7, 8, 5, dtype=torch.bool)
        mask[:, 4:] = False
        mask[:, 5:6, 3:6] = True  # exactly half of these patches
        features = features.to(dtype).requires_grad_()
        loss = self.loss(dtype, implementation)(features, probability, mask=mask)
        loss.backward()
        changed = features.detach().clone()
        changed[:, :, 4:6, :3] = torch.nan
        again = self.loss(dtype, implementation)(changed, probability, mask=mask)
        assert torch.equal(loss.detach(), again)
        assert features.grad is not None
        assert not features.grad[:, :, 4:6, :3].any()
        assert features.grad[:, :, 4:6, 3:6, :4].any()

    @pytest.mark.parametrize("positives", [0, 1])
    def test_fewer_than_two_positives_give_zero_that_can_be_differentiated(
        self, dtype: torch.dtype, implementation: str, positives: int, make: Any
    ) -> None:
        features = make.ragged()[0].to(dtype).requires_grad_()
        probability = make.patch_map((2, 7, 8, 5), (2, 3, 2), positives)
        temperature = torch.tensor(0.2, requires_grad=True)
        loss = self.loss(dtype, implementation)(features, probability, temperature=temperature)
        loss.backward()
        assert loss.item() == 0
        assert features.grad is not None
        assert not features.grad.any()
        assert temperature.grad == 0

    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize("scope", ["image", "batch"])
    @pytest.mark.parametrize("shape", EMPTY, ids=str)
    def test_nothing_to_contrast_gives_zero_that_can_be_differentiated(
        self, dtype: torch.dtype, implementation: str, shape: tuple[int, ...], scope: str, masked: bool
    ) -> None:
        features = torch.empty(shape, dtype=dtype, requires_grad=True)
        probability = torch.ones(shape[0], *shape[2:])
        mask = torch.ones_like(probability, dtype=torch.bool) if masked else None
        temperature = torch.tensor(0.2, requires_grad=True)
        for reduction, wanted in (("none", [1 if scope == "batch" else shape[0]]), ("sum", []), ("mean", [])):
            features.grad = temperature.grad = None
            loss = patch_contrastive_loss(
                features,
                probability,
                patch_size=2,
                stride=1,
                mask=mask,
                scope=scope,
                reduction=reduction,
                temperature=temperature,
                implementation=implementation,
            )
            assert list(loss.shape) == wanted
            assert loss.dtype == dtype
            assert not loss.any()
            loss.sum().backward()
            assert features.grad is not None
            assert features.grad.shape == shape
            assert temperature.grad == 0

    def test_a_map_without_voxels_is_too_small_for_a_patch(self, dtype: torch.dtype, implementation: str) -> None:
        with pytest.raises(ValueError, match="patch_size is 3 along W, where the map has 0"):
            self.loss(dtype, implementation)(torch.empty(2, 4, 8, 0, 8), torch.empty(2, 8, 0, 8))

    def test_a_patch_of_zeros_is_left_out(self, dtype: torch.dtype, implementation: str, make: Any) -> None:
        features, probability = make.ragged()
        features = features.to(dtype)
        features[:, :, :2, :3, :2] = 0
        features.requires_grad_()
        mask = torch.ones(2, 7, 8, 5, dtype=torch.bool)
        mask[:, :2, :3, :2] = False
        loss = self.loss(dtype, implementation)
        kept = loss(features, probability)
        assert torch.equal(kept, loss(features, probability, mask=mask))
        kept.backward()
        assert features.grad is not None
        assert not features.grad[:, :, :2, :3, :2].any()
        assert features.grad.isfinite().all()

    @pytest.mark.parametrize("tau", [0.02, 0.2])
    def test_nan_in_gives_nan_out(self, dtype: torch.dtype, implementation: str, tau: float, make: Any) -> None:
        features, probability = make.ragged()
        features[:, 1, 0, 0, 0] = torch.nan
        assert self.loss(dtype, implementation)(features, probability, temperature=tau).isnan()

    def test_a_map_of_two_axes_is_one_of_three_with_one_voxel_along_the_last(
        self, dtype: torch.dtype, implementation: str, make: Any
    ) -> None:
        features, probability = (t[..., 0].contiguous() for t in make.ragged())
        mask = probability > 0.1
        options = {"patch_size": (2, 3), "stride": (2, 2), "implementation": implementation}
        solid = {"patch_size": (2, 3, 1), "stride": (2, 2, 1), "implementation": implementation}
        flat_features = features.to(dtype, copy=True).requires_grad_()
        solid_features = features.to(dtype, copy=True)[..., None].requires_grad_()
        flat = patch_contrastive_loss(flat_features, probability, mask=mask, **options)
        expected = patch_contrastive_loss(solid_features, probability[..., None], mask=mask[..., None], **solid)
        assert torch.equal(flat, expected)
        flat.backward()
        expected.backward()
        assert flat_features.grad is not None
        assert solid_features.grad is not None
        assert flat_features.grad.any()
        assert torch.equal(flat_features.grad, solid_features.grad[..., 0])
        counts = [
            count_positives(*arguments)
            for arguments in (
                (probability, (2, 3), 0.5, (2, 2), mask),
                (probability[..., None], (2, 3, 1), 0.5, (2, 2, 1), mask[..., None]),
            )
        ]
        assert torch.equal(*counts)

    def test_reductions_and_scopes_agree(self, dtype: torch.dtype, implementation: str, make: Any) -> None:
        features, probability = make.ragged()
        probability = torch.cat((probability, torch.zeros_like(probability[:1])))
        features = torch.cat((features, features[:1]))
        loss = self.loss(dtype, implementation)
        each = loss(features, probability, reduction="none")
        assert each.shape == (3,)
        assert each[2] == 0
        close = self.close(dtype)
        torch.testing.assert_close(loss(features, probability, reduction="sum"), each.sum(), **close)
        torch.testing.assert_close(loss(features, probability), each[:2].mean(), **close)
        for image in range(2):
            alone = loss(features[image : image + 1], probability[image : image + 1], scope="batch")
            torch.testing.assert_close(alone, each[image], **close)
        # One group of two images is one image with the patches of both.
        joined = loss(torch.cat((features[:1, :, :6], features[1:2, :, :6]), 2), stacked(probability))
        pooled = loss(features[:2, :, :6], probability[:2, :6], scope="batch", reduction="none")
        assert pooled.shape == (1,)
        torch.testing.assert_close(pooled[0], joined, **close)


def stacked(probability: Tensor) -> Tensor:
    return torch.cat((probability[:1, :6], probability[1:2, :6]), 1)
