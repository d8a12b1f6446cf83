"""Arguments, the choice of an implementation, the module and the patch grid."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cgckit.contrast import (
    PatchContrastiveLoss,
    PatchGrid,
    count_positives,
    fused_available,
    implementation,
    ops,
    patch_contrastive_loss,
    resolve_implementation,
    supervised_contrastive,
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


def test_auto_is_fused_on_a_cpu_that_has_it_and_blockwise_elsewhere() -> None:
    assert resolve_implementation("auto", "cpu") == ("fused" if fused_available() else "blockwise")
    assert resolve_implementation("auto", "meta") == "blockwise"
    assert resolve_implementation("auto", "cuda") == "blockwise"
    assert resolve_implementation("blockwise", "cpu") == "blockwise"
    assert resolve_implementation("reference", "cpu") == "reference"
    with pytest.raises(RuntimeError, match="'fused' has no kernels for meta"):
        resolve_implementation("fused", "meta")
    with pytest.raises(RuntimeError, match="'reference' needs values, which meta tensors lack"):
        resolve_implementation("reference", "meta")


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("scope", ["image", "batch"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_meta_tensors_tell_shapes_and_dtypes(dtype: torch.dtype, scope: str, reduction: str) -> None:
    found = []
    for device in ("cpu", "meta"):
        features = FEATURES.to(device, dtype).requires_grad_()
        probability, mask = torch.rand(2, 6, 6, 4, device=device), torch.ones(2, 6, 6, 4, device=device) > 0
        loss = patch_contrastive_loss(
            features, probability, patch_size=(3, 3, 2), mask=mask, scope=scope, reduction=reduction
        )
        embeddings = torch.randn(7, 3, device=device, dtype=dtype, requires_grad=True)
        labels = torch.randint(2, (7,), device=device)
        of_labels = supervised_contrastive(embeddings, labels, reduction=reduction)
        loss.sum().backward()
        of_labels.sum().backward()
        results = (loss, features.grad, of_labels, embeddings.grad)
        assert all(t is not None and t.device.type == device for t in results)
        found.append([(t.shape, t.dtype) for t in results if t is not None])
    assert found[0] == found[1]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes torch and the extension say that there is a GPU of this capability, with kernels."""

    def pretend(capability: tuple[int, int], auto: tuple[str, ...] = ("cpu", "cuda")) -> None:
        monkeypatch.setattr(ops, "MISSING", None)
        monkeypatch.setattr(ops, "DEVICES", ("cpu", "cuda"))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(implementation, "AUTO_FUSED", auto)
        implementation._log.cache_clear()

    return pretend


def test_auto_takes_the_cuda_kernels_unless_they_are_said_to_be_slower(gpu: Callable[..., None]) -> None:
    gpu((9, 0), auto=implementation.AUTO_FUSED)
    assert resolve_implementation("auto", "cuda:0") == "fused"
    gpu((9, 0), auto=("cpu",))
    assert resolve_implementation("auto", "cuda") == "blockwise"
    assert resolve_implementation("fused", "cuda") == "fused"


def test_a_gpu_that_the_kernels_do_not_serve_is_said_once(
    gpu: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    gpu((7, 5))
    assert [resolve_implementation("auto", "cuda") for _ in range(2)] == ["blockwise", "blockwise"]
    assert [record.getMessage() for record in caplog.records] == [
        "the contrastive losses run as 'blockwise', as 'fused' needs a GPU of compute capability 8.0 or higher, "
        "and this one has 7.5"
    ]
    with pytest.raises(RuntimeError, match=r"capability 8\.0 or higher, and this one has 7\.5"):
        resolve_implementation("fused", "cuda")
    gpu((8, 0))
    assert resolve_implementation("auto", "cuda") == "fused"


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "blockwise"), ((9, 0), "fused")])
def test_the_choice_on_a_gpu_compiles_without_a_graph_break(
    gpu: Callable[..., None], capability: tuple[int, int], expected: str
) -> None:
    gpu(capability)

    @torch.compile(backend="eager", fullgraph=True)
    def chosen(x: torch.Tensor) -> torch.Tensor:
        return x + (resolve_implementation("auto", "cuda") == expected)

    assert chosen(torch.zeros(1)) == 1


LOADS_NO_COMPILER = """
import sys
import torch
from cgckit.contrast import fused_available, patch_contrastive_loss, supervised_contrastive
features = torch.randn(1, 2, 4, 4, 4, requires_grad=True)
patch_contrastive_loss(features, torch.ones(1, 4, 4, 4), patch_size=2).backward()
supervised_contrastive(torch.randn(4, 3), torch.zeros(4).long())
loaded = [name for name in ("torch._dynamo", "sympy") if name in sys.modules]
assert not loaded, loaded
"""


def test_who_compiles_nothing_does_not_wait_for_the_compiler() -> None:
    code = [sys.executable, "-c", LOADS_NO_COMPILER]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


WITH_EMPTY_CUDA_MODULE = """
import sys, types
sys.modules["cgckit._cuda"] = types.ModuleType("cgckit._cuda")  # as built from sources without csrc/cuda
from cgckit.contrast import build_information, ops, resolve_implementation
assert ops.DEVICES == ("cpu",)
assert build_information()["cuda kernels"] == "none: cgckit._cuda was built without them"
try:
    resolve_implementation("fused", "cuda")
except RuntimeError as error:
    assert "has no kernels for cuda: cgckit._cuda was built without them" in str(error)
else:
    raise SystemExit("'fused' was accepted")
"""


@pytest.mark.skipif(not fused_available(), reason="the extension is not built")
def test_a_cuda_module_without_kernels_claims_none() -> None:
    code = [sys.executable, "-c", WITH_EMPTY_CUDA_MODULE]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
