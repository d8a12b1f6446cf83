"""The CGC network: shapes on every grid, and a content code whose scale cannot run away."""

from __future__ import annotations

import pytest
import torch

from cgckit.nets.cgc_net import CGCNet


@pytest.fixture
def network() -> CGCNet:
    torch.manual_seed(0)
    return CGCNet(2, widths=(4, 8, 8, 16), projection=6)


def test_outputs_lie_on_the_grids_they_promise(network: CGCNet) -> None:
    output = network(torch.randn(2, 2, 32, 24, 16))
    assert output.lesion.shape == (2, 1, 32, 24, 16)
    assert output.coarse.shape == (2, 1, 4, 3, 2)
    assert output.embedding.shape == (2, 6, 4, 3, 2)


def test_a_growing_encoder_does_not_change_the_heads(network: CGCNet) -> None:
    """The contrastive loss pushes the norm of the code up; the normalisation must take that out."""
    image = torch.randn(1, 2, 32, 32, 32)
    before = network(image)
    last = network.down[-1]
    last.register_forward_hook(lambda module, inputs, output: output * 1000)
    after = network(image)
    for name in before._fields:
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_an_untrained_network_calls_nothing_lesion(seed: int) -> None:
    """Else features of normal tissue are learnt, and a lesion is at best where they are silent."""
    torch.manual_seed(seed)
    output = CGCNet(2)(torch.randn(1, 2, 32, 32, 32))
    for head in (output.lesion, output.coarse):
        assert -6 < float(head.detach().mean()) < -2
        assert float((head < 0).float().mean()) > 0.99


def test_every_parameter_is_trained_by_the_three_outputs(network: CGCNet) -> None:
    output = network(torch.randn(1, 2, 32, 32, 32))
    sum(part.square().sum() for part in output).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_the_number_of_levels_is_checked() -> None:
    with pytest.raises(ValueError, match="four levels"):
        CGCNet(1, widths=(8, 16))  # type: ignore[arg-type]
