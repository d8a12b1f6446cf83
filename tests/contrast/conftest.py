"""The inputs that every implementation of the loss is tested on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from simulated_kernels import on_cpu_tensors, on_gpu, simulated
from torch import Tensor

from cgckit.contrast.patches import PatchGrid


@dataclass(frozen=True)
class Sample:
    """Arguments of one call, features in float64."""

    features: Tensor
    probability: Tensor
    patch_size: tuple[int, int, int]
    stride: tuple[int, int, int] | None = None
    mask: Tensor | None = None
    scope: str = "image"

    @property
    def options(self) -> dict[str, object]:
        """Keyword arguments of `patch_contrastive_loss`."""
        return {
            "patch_size": self.patch_size,
            "stride": self.stride,
            "mask": self.mask,
            "scope": self.scope,
        }

    @property
    def options_of_grid(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """`patch_size` and `stride` as the operators take them."""
        return self.grid.size, self.grid.stride

    @property
    def grid(self) -> PatchGrid:
        return PatchGrid.of(self.features.shape[2:], self.patch_size, self.stride)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_probability(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def patch_map(shape: tuple[int, ...], patch: tuple[int, int, int], positives: int) -> Tensor:
    """Probability [B, H, W, L] that is 1 in the first `positives` patches of every image and 0 elsewhere."""
    probability = torch.zeros(shape)
    counts = [n // p for n, p in zip(shape[1:], patch, strict=True)]
    for index in range(positives):
        h, rest = divmod(index, counts[1] * counts[2])
        row, column = divmod(rest, counts[2])
        probability[
            :,
            h * patch[0] : (h + 1) * patch[0],
            row * patch[1] : (row + 1) * patch[1],
            column * patch[2] : (column + 1) * patch[2],
        ] = 1
    return probability


def with_zero_patches() -> Sample:
    features = noise(2, 3, 6, 6, 4)
    features[:, :, :3, :3, :2] = 0  # a positive patch
    features[0, :, 3:, 3:, 2:] = 0  # one that is not
    return Sample(features, patch_map((2, 6, 6, 4), (3, 3, 2), 4), (3, 3, 2))


def with_duplicates() -> Sample:
    features = noise(2, 3, 6, 6, 4)
    features[:, :, :3, 3:] = features[:, :, :3, :3]
    return Sample(features, patch_map((2, 6, 6, 4), (3, 3, 2), 3), (3, 3, 2))


def masked() -> Sample:
    mask = random_probability(2, 7, 8, 5, seed=2) > 0.4
    mask[1, :3] = False
    return Sample(noise(2, 3, 7, 8, 5), random_probability(2, 7, 8, 5), (2, 3, 2), mask=mask)


def sample_inputs() -> dict[str, Sample]:
    """One entry a property that an implementation could get wrong."""
    even = noise(2, 4, 6, 6, 4)
    ragged = noise(2, 3, 7, 8, 5)
    ragged_probability = random_probability(2, 7, 8, 5)
    samples = {f"{n} positives": Sample(even, patch_map((2, 6, 6, 4), (3, 3, 2), n), (3, 3, 2)) for n in (0, 1, 2, 8)}
    samples |= {
        "ragged": Sample(ragged, ragged_probability, (2, 3, 2)),
        "overlapping": Sample(ragged, ragged_probability, (2, 3, 2), stride=(1, 2, 1)),
        "with gaps": Sample(ragged, ragged_probability, (2, 1, 2), stride=(3, 2, 3)),
        "one group": Sample(ragged, ragged_probability, (2, 3, 2), scope="batch"),
        "flat": Sample(noise(1, 7, 9, 9, 1), random_probability(1, 9, 9, 1), (2, 2, 1)),
        "masked": masked(),
        "zero patches": with_zero_patches(),
        "duplicates": with_duplicates(),
        "large": Sample(1e4 * ragged, ragged_probability, (2, 3, 2)),
        "small": Sample(1e-4 * ragged, ragged_probability, (2, 3, 2)),
        "deep": Sample(noise(2, 41, 6, 6, 4), random_probability(2, 6, 6, 4), (3, 3, 2)),
        # More anchors than are packed at once, more members than a tile has columns.
        "many": Sample(noise(1, 24, 25, 23, 1), random_probability(1, 25, 23, 1, seed=4) ** 0.5, (1, 1, 1)),
        "channels last": Sample(ragged.contiguous(memory_format=torch.channels_last_3d), ragged_probability, (2, 3, 2)),
        "transposed": Sample(
            noise(2, 8, 3, 5, 7).permute(0, 2, 4, 1, 3), ragged_probability.mT.contiguous().mT, (2, 3, 2)
        ),
        "sliced": Sample(
            noise(2, 6, 9, 16, 5)[:, ::2, 1:8, ::2], random_probability(2, 7, 16, 5)[:, :, ::2], (2, 3, 2)
        ),
    }
    return samples


SAMPLES = sample_inputs()


@pytest.fixture
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """What to call `patch_contrastive_loss` with: "simulated" and "cuda" are "fused" on other kernels."""
    if request.param in ("simulated", "cuda"):
        with on_cpu_tensors(simulated() if request.param == "simulated" else on_gpu()):
            yield "fused"
    else:
        yield request.param


@pytest.fixture(params=SAMPLES.values(), ids=SAMPLES.keys())
def sample(request: pytest.FixtureRequest) -> Sample:
    found: Sample = request.param
    return found


@pytest.fixture
def samples() -> dict[str, Sample]:
    return SAMPLES


class Maker:
    """Builds further inputs inside a test."""

    def __call__(self, features: Tensor, probability: Tensor, patch_size: tuple[int, int, int]) -> Sample:
        return Sample(features, probability, patch_size)

    def ragged(self) -> tuple[Tensor, Tensor]:
        """Features [2, 3, 7, 8, 5] and their probability; patches of (2, 3, 2) leave a rest on every axis."""
        return noise(2, 3, 7, 8, 5), random_probability(2, 7, 8, 5)

    def patch_map(self, shape: tuple[int, ...], patch: tuple[int, int, int], positives: int) -> Tensor:
        return patch_map(shape, patch, positives)


@pytest.fixture
def make() -> Maker:
    return Maker()
