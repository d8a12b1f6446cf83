"""The compiled operators, `torch.ops.cgckit.*`, as torch needs to know them: shapes and gradients.

Autocast has no rule for them: every dtype is read as it is and computed in float32 or float64.

The operators are declared and documented in `csrc/library.cpp`. Without the extension this module still
imports; `fused_available()` says whether they are there.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cgckit.contrast import blockwise
from cgckit.contrast.blockwise import inside_transform
from cgckit.contrast.patches import PatchGrid, PatchStatistics


def _load(module: str, unbuilt: str) -> str | None:
    """Import a native module, which registers its operators; None if it is there, else the reason why not.

    `unbuilt` is the reason where there is no such module.
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return unbuilt if error.name == module else str(error)
    except ImportError as error:
        return str(error)
    return None


MISSING = _load("cgckit._C", "it was not built (install a C++ compiler, then cgckit again)")
"""Why the extension could not be loaded; None if it was."""

# The CUDA kernels are a module of their own, as one that is linked to CUDA cannot be imported where torch is not.
MISSING_CUDA = MISSING or _load("cgckit._cuda", "they were not built (which takes nvcc and a torch for CUDA)")
"""Why there are no CUDA kernels; None if there are."""


def _has_kernels(dispatch_key: str) -> bool:
    """Whether kernels are registered, which an imported module alone does not say."""
    return MISSING is None and torch._C._dispatch_has_kernel_for_dispatch_key("cgckit::patch_contrast", dispatch_key)


if MISSING_CUDA is None and not _has_kernels("CUDA"):
    MISSING_CUDA = "cgckit._cuda was built without them"

DEVICES = tuple(kind for kind, key in (("cpu", "CPU"), ("cuda", "CUDA")) if _has_kernels(key))
"""Device types that the extension has kernels for."""


def fused_available() -> bool:
    """Whether the compiled operators are installed and load with this torch."""
    return MISSING is None


def build_information() -> dict[str, str]:
    """Return what the extension was built with, the instruction set in use and whether there are CUDA kernels.

    It is empty if the extension is missing.
    """
    if not fused_available():
        return {}
    build = importlib.import_module("cgckit._build")
    return {
        "version": build.version,
        "compiler": build.compiler,
        "flags": build.flags,
        "torch target": build.torch_target_version,
        "instruction sets": ", ".join(build.instruction_sets),
        "in use": build.cpu_capability(),
        "cuda kernels": f"none: {MISSING_CUDA}" if MISSING_CUDA else "loaded",
    }


def patch_statistics(
    features: Tensor,
    probability: Tensor,
    mask: Tensor | None,
    grid: PatchGrid,
    threshold: float,
    pooled: bool,
) -> PatchStatistics:
    """`cgckit.contrast.patches.patch_statistics` by the compiled operator."""
    return PatchStatistics(
        *torch.ops.cgckit.patch_statistics(
            features.detach(), probability, mask, grid.size, grid.stride, threshold, pooled
        )
    )


def patch_contrast(
    features: Tensor, temperature: Tensor, statistics: PatchStatistics, grid: PatchGrid
) -> tuple[Tensor, Tensor]:
    """`cgckit.contrast.blockwise.patch_contrast` by the compiled operators."""
    keep = torch.is_grad_enabled() and features.requires_grad
    if torch.compiler.is_compiling():
        contrast: Any = torch.ops.cgckit.patch_contrast
    else:
        # A transform sees the gradient of a function, not of an operator.
        contrast = _Contrast.apply if inside_transform() else _EagerContrast.apply
    log_z, pos, _, _ = contrast(features, temperature, *statistics, grid.size, grid.stride, keep)
    return log_z, pos


def _groups(features: Tensor, size: Sequence[int], stride: Sequence[int], pooled: bool) -> tuple[int, int]:
    batch = features.shape[0]
    patches = 1
    for extent, edge, step in zip(features.shape[2:], size, stride, strict=True):
        patches *= (extent - edge) // step + 1
    return (1, batch * patches) if pooled else (batch, patches)


def _kept_size(features: Tensor, norm: Tensor, size: Sequence[int], stride: Sequence[int]) -> int:
    """Elements of what the forward keeps for the backward: the twin of what the device's kernels allocate."""
    depth = features.shape[1] * size[0] * size[1] * size[2]
    if features.device.type == "cuda":
        return _kept_size_on_cuda(features, norm, depth)
    overlaps = any(
        extent - edge >= step and step < edge
        for extent, edge, step in zip(features.shape[2:], size, stride, strict=True)
    )
    if features.device.type != "cpu" or overlaps:
        return 0
    return norm.numel() * ((depth + 3) // 4 * 4) + norm.shape[0]  # kept_size in csrc/cpu/contrast.h


def _kept_size_on_cuda(features: Tensor, norm: Tensor, depth: int) -> int:
    """Twin of `Kept` in csrc/cuda/gram.cuh: packed rows, their norms, the anchors' sum, and the Gram matrix of few."""
    groups, patches = norm.shape
    element, computed = features.element_size(), norm.element_size()
    rows = _panels(patches, 128) * 128
    arrays = [groups * rows * _panels(depth * element, 16) * 16, groups * rows * computed, 1, groups * depth * 8]
    if patches <= depth:
        arrays.append(groups * rows * rows * computed)
    return sum(_panels(array, 256) * 256 for array in arrays) // computed


def _panels(size: int, panel: int) -> int:
    return -(-size // panel)


def _fake_statistics(
    features: Tensor,
    probability: Tensor,
    mask: Tensor | None,
    patch_size: Sequence[int],
    stride: Sequence[int],
    threshold: float,
    pooled: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    groups, patches = _groups(features, patch_size, stride, pooled)
    computed = torch.float64 if features.dtype == torch.float64 else torch.float32
    norm = features.new_empty((groups, patches), dtype=computed)
    order = norm.new_empty((groups, patches), dtype=torch.int64)
    return norm, order, norm.new_empty((groups, 2), dtype=torch.int64)


def _fake_contrast(
    features: Tensor,
    temperature: Tensor,
    norm: Tensor,
    order: Tensor,
    counts: Tensor,
    patch_size: Sequence[int],
    stride: Sequence[int],
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    per_patch = [torch.empty_like(norm, dtype=torch.float64) for _ in range(3)]
    kept = _kept_size(features, norm, patch_size, stride) if keep else 0
    return per_patch[0], per_patch[1], per_patch[2], norm.new_empty(kept)


def _fake_backward(
    grad_log_z: Tensor,
    grad_pos: Tensor,
    features: Tensor,
    temperature: Tensor,
    norm: Tensor,
    order: Tensor,
    counts: Tensor,
    log_z: Tensor,
    expected: Tensor,
    kept: Tensor,
    patch_size: Sequence[int],
    stride: Sequence[int],
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(features), torch.empty_like(temperature)


_FAKES: dict[str, Callable[..., Any]] = {
    "patch_statistics": _fake_statistics,
    "patch_contrast": _fake_contrast,
    "patch_contrast_backward": _fake_backward,
}


def _check_extension() -> None:
    """Refuse an extension compiled from other sources, whose operators take other arguments."""
    for name, fake in _FAKES.items():
        operator = getattr(torch.ops.cgckit, name, None)
        taken = operator and [argument.name for argument in operator.default._schema.arguments]
        if taken != list(inspect.signature(fake).parameters):
            raise ImportError(
                "the compiled extension is from another version of cgckit; install it again (make install, pip install)"
            )


def _below_autograd(operator: Any, *inputs: Any) -> Any:
    """Call an operator whose gradient is taken care of."""
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*inputs)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    features, temperature, norm, order, counts, ctx.patch_size, ctx.stride, _ = inputs
    log_z, _, expected, kept = output
    ctx.mark_non_differentiable(expected, kept)
    ctx.set_materialize_grads(False)  # else zeros of the size of `kept` would be made
    ctx.save_for_backward(features, temperature, norm, order, counts, log_z, expected, kept)


def _backward(ctx: Any, grad_log_z: Tensor | None, grad_pos: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    features, temperature, norm, order, counts, log_z, expected, kept = ctx.saved_tensors
    if inside_transform():
        contrast_backward: Any = _ContrastBackward.apply
    elif torch.is_grad_enabled() or torch.compiler.is_compiling():
        contrast_backward = torch.ops.cgckit.patch_contrast_backward
    else:
        contrast_backward = functools.partial(_below_autograd, torch.ops.cgckit.patch_contrast_backward)
    grad_features, grad_temperature = contrast_backward(
        torch.zeros_like(log_z) if grad_log_z is None else grad_log_z.contiguous(),
        torch.zeros_like(log_z) if grad_pos is None else grad_pos.contiguous(),
        features,
        temperature,
        norm,
        order,
        counts,
        log_z,
        expected,
        kept,
        ctx.patch_size,
        ctx.stride,
    )
    return grad_features, grad_temperature, None, None, None, None, None, None


def _keep_for_double_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad_log_z, grad_pos, features, temperature, _, order, counts, _, _, _, ctx.patch_size, ctx.stride = inputs
    ctx.save_for_backward(grad_log_z, grad_pos, features, temperature, order, counts)


def _double_backward(ctx: Any, grad_grad_features: Tensor, grad_grad_temperature: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiate the backward operator as a whole, through the blockwise path.

    Its inputs `norm`, `log_z`, `expected` and `kept` are functions of the features; what they contribute is in the
    gradient with respect to `features`, so they receive none of their own.
    """
    *inputs, order, counts = ctx.saved_tensors
    grid = PatchGrid.of(inputs[2].shape[2:], ctx.patch_size, ctx.stride)

    def contrast(features: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        return blockwise.patch_contrast(features, temperature, order, counts, grid)

    if inside_transform():

        def backward(grad_log_z: Tensor, grad_pos: Tensor, features: Tensor, temperature: Tensor) -> Any:
            return torch.func.vjp(contrast, features, temperature)[1]((grad_log_z, grad_pos))

        second = torch.func.vjp(backward, *inputs)[1]((grad_grad_features, grad_grad_temperature))
    else:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in inputs]
            first = torch.autograd.grad(contrast(*leaves[2:]), leaves[2:], leaves[:2], create_graph=True)
            second = torch.autograd.grad(
                first, leaves, (grad_grad_features, grad_grad_temperature), materialize_grads=True
            )
    return (*second, None, None, None, None, None, None, None, None)


def _no_vmap(*_: object) -> None:
    raise NotImplementedError(
        "the contrastive losses do not support vmap: put the samples in the batch dimension, with reduction='none'"
    )


def _no_forward_mode(ctx: Any, *_: Any) -> Any:
    raise NotImplementedError(
        "the contrastive losses do not support forward-mode derivatives (jvp, jacfwd, hessian): use torch.func.grad"
    )


class _EagerContrast(torch.autograd.Function):
    """What torch makes of the registered gradient, without the many microseconds of Python that it puts around it."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        output = _below_autograd(torch.ops.cgckit.patch_contrast, *inputs)
        _keep_for_backward(ctx, inputs, output)
        return output

    backward = staticmethod(_backward)


class _Contrast(torch.autograd.Function):
    forward = staticmethod(lambda *arguments: torch.ops.cgckit.patch_contrast(*arguments))
    setup_context = staticmethod(_keep_for_backward)
    backward = staticmethod(_backward)
    vmap = staticmethod(_no_vmap)
    jvp = staticmethod(_no_forward_mode)


class _ContrastBackward(torch.autograd.Function):
    forward = staticmethod(lambda *arguments: torch.ops.cgckit.patch_contrast_backward(*arguments))
    setup_context = staticmethod(_keep_for_double_backward)
    backward = staticmethod(_double_backward)
    vmap = staticmethod(_no_vmap)
    jvp = staticmethod(_no_forward_mode)


def _register() -> None:
    for name, fake in _FAKES.items():
        torch.library.register_fake(f"cgckit::{name}", fake)
        torch.library.register_vmap(f"cgckit::{name}", _no_vmap)
    torch.library.register_autograd("cgckit::patch_contrast", _backward, setup_context=_keep_for_backward)
    torch.library.register_autograd(
        "cgckit::patch_contrast_backward", _double_backward, setup_context=_keep_for_double_backward
    )


if fused_available():
    _check_extension()
    _register()
