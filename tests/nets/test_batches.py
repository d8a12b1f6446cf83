"""Batches: the same whoever draws them, from wherever a training starts."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from cgckit.nets.batches import Batches

CPU = torch.device("cpu")


class Pair(NamedTuple):
    values: Tensor
    index: Tensor


def draw(index: int) -> Pair:
    generator = torch.Generator().manual_seed(index)
    return Pair(torch.randn(3, generator=generator), torch.tensor(index))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [0, 3])
def test_batches_are_those_of_their_index_in_order(workers: int, start: int) -> None:
    batches = Batches(draw, 6, CPU, workers)
    for index in range(start, 6):
        found, expected = batches(index), draw(index)
        assert isinstance(found, Pair)
        assert torch.equal(found.values, expected.values)
        assert int(found.index) == index


def test_a_batch_out_of_order_is_right_too() -> None:
    batches = Batches(draw, 6, CPU)
    assert [int(batches(index).index) for index in (0, 4, 5, 1)] == [0, 4, 5, 1]


def test_drawing_takes_nothing_from_the_callers_generator() -> None:
    torch.manual_seed(1)
    expected = torch.randn(2)
    torch.manual_seed(1)
    Batches(draw, 2, CPU)(0)
    assert torch.equal(torch.randn(2), expected)
