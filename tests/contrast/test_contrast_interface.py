"""Arguments, the choice of an implementation, the module and the patch grid."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from cgckit.contrast import (
    PatchContrastiveLoss,
    PatchGrid,
    count_positives,
    fused_available,
    patch_contrastive_loss,
    resolve_implementation,
)

FEATURES = torch.randn(2, 3, 6, 6, 4, generator=torch.Generator().manual_seed(0))
PROBABILITY = torch.rand(2, 6, 6, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "features must be", {"features": FEATURES[0, 0]}),
        (ValueError, "probability must be", {"features": FEATURES[0]}),
        (TypeError, "features must be floating point", {"features": FEATURES.long()}),
        (ValueError, "probability must be", {"probability": PROBABILITY[:1]}),
        (ValueError, "probability must be", {"probability": PROBABILITY[:, None]}),
        (TypeError, "mask must be bool", {"mask": PROBABILITY}),
        (ValueError, "mask must be", {"mask": PROBABILITY[:, 1:] > 0}),
        (ValueError, "patch_size is 7 along H", {"patch_size": (7, 3, 2)}),
        (ValueError, "patch_size must be", {"patch_size": (3, 3)}),
        (ValueError, "patch_size must be", {"patch_size": 0}),
        (ValueError, "patch_size must be", {"patch_size": 1.5}),
        (ValueError, "stride must be", {"stride": (1, 1, -1)}),
        (ValueError, "temperature must be positive", {"temperature": 0.0}),
        (ValueError, "temperature must be positive", {"temperature": float("nan")}),
        (ValueError, "temperature must have one", {"temperature": torch.ones(2)}),
        (ValueError, "threshold must be", {"threshold": 1.5}),
        (ValueError, "scope must be image or batch", {"scope": "volume"}),
        (ValueError, "reduction must be mean or sum or none", {"reduction": "median"}),
        (ValueError, "implementation must be", {"implementation": "cuda"}),
    ],
)
def test_a_wrong_argument_is_named(error: type[Exception], message: str, arguments: dict[str, Any]) -> None:
    call: dict[str, Any] = {"features": FEATURES, "probability": PROBABILITY, "patch_size": (3, 3, 2)}
    call |= arguments
    with pytest.raises(error, match=message):
        patch_contrastive_loss(call.pop("features"), call.pop("probability"), **call)


def test_auto_is_fused_where_there_are_kernels_and_blockwise_elsewhere() -> None:
    assert resolve_implementation("auto", "cpu") == ("fused" if fused_available() else "blockwise")
    assert resolve_implementation("auto", "meta") == "blockwise"
    assert resolve_implementation("blockwise", "cpu") == "blockwise"
    assert resolve_implementation("reference", "cpu") == "reference"
    with pytest.raises(RuntimeError, match="fused"):
        resolve_implementation("fused", "meta")


WITHOUT_EXTENSION = """
import sys
sys.modules["cgckit._C"] = None  # what an import of a module that is not there amounts to
import torch
from cgckit.contrast import build_information, fused_available, patch_contrastive_loss, resolve_implementation
assert not fused_available() and build_information() == {}
assert resolve_implementation("auto", "cpu") == "blockwise"
features = torch.randn(1, 2, 4, 4, 4, requires_grad=True)
patch_contrastive_loss(features, torch.ones(1, 4, 4, 4), patch_size=2).backward()
assert features.grad.norm() > 0
try:
    resolve_implementation("fused", "cpu")
except RuntimeError as error:
    assert "compiled extension" in str(error)
else:
    raise SystemExit("'fused' was accepted")
"""


def test_works_without_the_extension() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTENSION], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_module_and_function_agree_and_a_temperature_can_be_learned() -> None:
    temperature = torch.nn.Parameter(torch.tensor(0.3))
    module = PatchContrastiveLoss(
        (3, 3, 2), stride=(3, 1, 2), temperature=temperature, threshold=0.4, scope="batch", reduction="sum"
    )
    assert list(module.parameters()) == [temperature]
    mask = PROBABILITY > 0.2
    loss = module(FEATURES, PROBABILITY, mask)
    expected = patch_contrastive_loss(
        FEATURES,
        PROBABILITY,
        patch_size=(3, 3, 2),
        stride=(3, 1, 2),
        temperature=0.3,
        threshold=0.4,
        mask=mask,
        scope="batch",
        reduction="sum",
    )
    torch.testing.assert_close(loss.detach(), expected)
    loss.backward()
    assert temperature.grad is not None
    assert temperature.grad != 0
    assert "patch_size=(3, 3, 2)" in repr(module)


def test_patch_grid_counts_whole_patches_and_cuts_them_in_order() -> None:
    grid = PatchGrid.of((5, 4, 3), (2, 3, 1), (2, 1, 2))
    assert grid.counts == (2, 2, 2)
    assert grid.volume == 6
    volume = torch.arange(60.0).reshape(1, 1, 5, 4, 3)
    vectors = grid.vectors(volume)
    assert vectors.shape == (1, 8, 6)
    starts = [(h, w, d) for h in (0, 2) for w in (0, 1) for d in (0, 2)]
    for row, (h, w, d) in zip(vectors[0], starts, strict=True):
        assert torch.equal(row, volume[0, 0, h : h + 2, w : w + 3, d : d + 1].flatten())


def test_one_integer_is_a_cube() -> None:
    assert PatchGrid.of((4, 4, 4), 2, None) == PatchGrid.of((4, 4, 4), (2, 2, 2), (2, 2, 2))


def test_count_positives_takes_the_mean_against_the_threshold() -> None:
    probability = torch.zeros(2, 4, 4, 2)
    probability[0, :2, :2] = 1  # one whole patch
    probability[0, 2:, :2, 0] = 1  # exactly half of another
    probability[1, 0, 0, 0] = 1  # an eighth
    assert count_positives(probability, 2, 0.5).tolist() == [2, 0]
    assert count_positives(probability, 2, 0.51).tolist() == [1, 0]
    assert count_positives(probability, 2, 0.125).tolist() == [2, 1]
    assert count_positives(probability, 2, 0.0).tolist() == [4, 4]
    assert count_positives(probability, 2, 0.5, stride=1).tolist() == [4, 0]
    mask = torch.ones(2, 4, 4, 2, dtype=torch.bool)
    mask[:, :2, :2] = False
    assert count_positives(probability, 2, 0.5, mask=mask).tolist() == [1, 0]


@pytest.mark.parametrize("implementation", ["auto", "blockwise", "reference"])
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
def test_a_constant_map_at_the_threshold_is_positive(threshold: float, implementation: str) -> None:
    probability = torch.full((2, 6, 6, 4), threshold)
    assert count_positives(probability, (3, 3, 2), threshold).tolist() == [8, 8]
    for dtype in (torch.float32, torch.float64):
        options: dict[str, Any] = {"patch_size": (3, 3, 2), "implementation": implementation}
        everywhere = patch_contrastive_loss(FEATURES.to(dtype), torch.ones_like(probability), **options)
        found = patch_contrastive_loss(FEATURES.to(dtype), probability, threshold=threshold, **options)
        assert torch.equal(found, everywhere)
