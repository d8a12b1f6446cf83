"""Supervised contrast of labelled embeddings against its plain formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cgckit.contrast import SupervisedContrastiveLoss, fused_available, supervised_contrastive

needs_extension = pytest.mark.skipif(not fused_available(), reason="the extension is not built")
IMPLEMENTATIONS = [pytest.param("fused", marks=needs_extension), "blockwise"]


def embeddings(count: int, depth: int, seed: int = 0) -> Tensor:
    return torch.randn(count, depth, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def some_labels(count: int, classes: int) -> Tensor:
    """Labels far apart, one of them with a single sample."""
    labels = torch.randint(classes, (count,), generator=torch.Generator().manual_seed(1)) * 1000 - 5
    labels[3] = 77
    return labels


def plain(x: Tensor, labels: Tensor, temperature: Tensor | float) -> Tensor:
    """l_i of every anchor, as the docstring has it; samples of norm zero removed."""
    keep = x.detach().norm(dim=1) > 0
    u = x[keep] / x[keep].norm(dim=1, keepdim=True)
    labels = labels[keep]
    itself = torch.eye(len(u), dtype=torch.bool)
    logits = u @ u.T / temperature
    same = (labels[:, None] == labels) & ~itself
    anchor = same.any(1)
    positives = (torch.where(same, logits, 0).sum(1) / same.sum(1))[anchor]
    return torch.logsumexp(logits.masked_fill(itself, -torch.inf), 1)[anchor] - positives


CASES = {
    "two classes": (embeddings(40, 12), some_labels(40, 2)),
    "many classes": (embeddings(90, 7), some_labels(90, 30)),
    "more anchors than a block": (embeddings(450, 10), some_labels(450, 5)),
    "a sample of zeros": (embeddings(30, 8).index_fill(0, torch.tensor([2, 9]), 0), some_labels(30, 4)),
    "one class": (embeddings(20, 8), torch.zeros(20, dtype=torch.int32)),
}


@pytest.mark.parametrize("tau", [0.05, 0.1, 0.7])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_plain_formula_in_float64(name: str, implementation: str, tau: float) -> None:
    results = []
    for loss in (
        lambda *a: plain(*a).mean(),
        lambda *a: supervised_contrastive(a[0], a[1], temperature=a[2], implementation=implementation),
    ):
        x, labels = CASES[name][0].clone().requires_grad_(), CASES[name][1]
        temperature = torch.tensor(tau, dtype=torch.float64, requires_grad=True)
        value = loss(x, labels, temperature)
        results.append((value.detach(), *torch.autograd.grad(value, (x, temperature))))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_sample_can_have_a_weight_of_its_own(implementation: str) -> None:
    x, labels = CASES["more anchors than a block"]
    weight = torch.rand(len(x), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    each = supervised_contrastive(leaf, labels, reduction="none", implementation=implementation)
    anchor = torch.arange(len(x)) != 3
    expected = torch.zeros_like(weight).masked_scatter(anchor, plain(other, labels, 0.1))
    torch.testing.assert_close(each, expected)
    (each * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_lower_precisions_are_computed_in_float32(implementation: str, dtype: torch.dtype) -> None:
    x, labels = CASES["many classes"]
    low = x.to(dtype).requires_grad_()
    exact = low.detach().double().requires_grad_()
    loss = supervised_contrastive(low, labels, implementation=implementation)
    expected = plain(exact, labels, 0.1).mean()
    assert loss.dtype == torch.float32
    assert abs(loss.double() - expected) <= 2e-6 * 10
    gradient, exact_gradient = torch.autograd.grad(loss, low)[0], torch.autograd.grad(expected, exact)[0]
    assert gradient.dtype == dtype
    tolerance = 4e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert (gradient.double() - exact_gradient).norm() <= tolerance * exact_gradient.norm()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_without_a_pair_of_one_class_the_loss_is_zero_and_can_be_differentiated(implementation: str) -> None:
    x = embeddings(5, 3).requires_grad_()
    loss = supervised_contrastive(x, torch.arange(5), implementation=implementation)
    loss.backward()
    assert loss == 0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (0, 0)], ids=str)
@pytest.mark.parametrize(("dtype", "computed"), [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)])
def test_nothing_to_contrast_gives_zero_that_can_be_differentiated(
    implementation: str, shape: tuple[int, int], reduction: str, dtype: torch.dtype, computed: torch.dtype
) -> None:
    x = torch.empty(shape, dtype=dtype, requires_grad=True)
    labels = torch.zeros(shape[0], dtype=torch.int64)
    loss = supervised_contrastive(x, labels, reduction=reduction, implementation=implementation)
    assert list(loss.shape) == ([shape[0]] if reduction == "none" else [])
    assert loss.dtype == computed
    assert not loss.any()
    loss.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == shape


def test_identical_samples_give_the_log_of_the_others() -> None:
    x = torch.ones(9, 4)
    assert abs(supervised_contrastive(x, torch.zeros(9).long()) - math.log(8)) <= 1e-5


def test_module_and_reductions_agree() -> None:
    x, labels = CASES["many classes"]
    each = supervised_contrastive(x, labels, temperature=0.3, reduction="none")
    total = SupervisedContrastiveLoss(0.3, reduction="sum")(x, labels)
    torch.testing.assert_close(total, each.sum())
    torch.testing.assert_close(SupervisedContrastiveLoss(0.3)(x, labels), each.sum() / (each != 0).sum())
    assert "temperature=0.3" in repr(SupervisedContrastiveLoss(0.3))


@needs_extension
def test_compiles_for_any_number_of_samples() -> None:
    compiled = torch.compile(supervised_contrastive, backend="aot_eager", fullgraph=True, dynamic=True)
    for name in ("two classes", "a sample of zeros"):
        x, labels = CASES[name]
        gradients = []
        for loss in (compiled, supervised_contrastive):
            leaf = x.clone().requires_grad_()
            gradients.append(torch.autograd.grad(loss(leaf, labels), leaf)[0])
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "embeddings must be", {"embeddings": torch.zeros(3)}),
        (TypeError, "embeddings must be floating point", {"embeddings": torch.zeros(4, 2).long()}),
        (ValueError, "labels must be", {"labels": torch.zeros(3).long()}),
        (TypeError, "labels must be integers", {"labels": torch.zeros(4)}),
        (ValueError, "temperature must be positive", {"temperature": 0.0}),
        (ValueError, "reduction must be", {"reduction": "median"}),
        (ValueError, "implementation must be", {"implementation": "reference"}),
    ],
)
def test_a_wrong_argument_is_named(error: type[Exception], message: str, arguments: dict[str, Any]) -> None:
    call: dict[str, Any] = {"embeddings": torch.zeros(4, 2), "labels": torch.zeros(4).long()}
    call |= arguments
    with pytest.raises(error, match=message):
        supervised_contrastive(call.pop("embeddings"), call.pop("labels"), **call)
