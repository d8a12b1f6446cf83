"""The published mixture pipeline: what it finds, its cleaning, and that it is as naive as it was."""

from __future__ import annotations

import pytest
import torch

from cgckit.errors import UsageError
from cgckit.images.case import Case
from cgckit.priors.aucseg import AucSegPrior

SHAPE = (40, 40, 30)


def ball(at: tuple[int, int, int], radius: float) -> torch.Tensor:
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in SHAPE), indexing="ij")
    return sum((axis - centre) ** 2 for axis, centre in zip(axes, at, strict=True)) < radius**2


BRAIN = ball((20, 20, 15), 14)
LESION, HOLE, SMALL = ball((14, 20, 15), 5), ball((14, 20, 15), 2), ball((27, 20, 15), 3)


def case(foci: torch.Tensor) -> Case:
    noise = 0.5 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    image = (torch.where(foci, torch.tensor(8.0), torch.tensor(0.0)) + noise) * BRAIN
    return Case("sim", image[None], BRAIN, ("flair",), (2.0, 2.0, 2.0))


def test_the_brightest_component_is_filled_and_grown_by_a_voxel_and_small_parts_are_dropped() -> None:
    found = AucSegPrior(components=3).predict(case((LESION & ~HOLE) | SMALL)).probability > 0.5
    assert found[LESION].all()
    assert found[19, 20, 15]
    assert not found[20, 20, 15]
    assert not found[SMALL].any()


def test_a_smaller_share_keeps_small_parts() -> None:
    found = AucSegPrior(components=3, min_component=0.05).predict(case(LESION | SMALL)).probability > 0.5
    assert found[SMALL].all()


def test_without_a_lesion_the_brightest_tissue_is_taken_all_the_same() -> None:
    found = AucSegPrior().predict(case(torch.zeros(SHAPE, dtype=torch.bool))).probability > 0.5
    assert found.sum() > 0.1 * BRAIN.sum()


def test_a_constant_brain_gives_an_empty_map() -> None:
    flat = Case("flat", torch.zeros(1, *SHAPE), BRAIN, ("flair",), (2.0, 2.0, 2.0))
    found = AucSegPrior().predict(flat)
    assert not found.probability.any()
    assert "empty" in found.note


@pytest.mark.parametrize("options", [{"components": 1}, {"min_component": 1.0}])
def test_options_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        AucSegPrior(**options)  # type: ignore[arg-type]
