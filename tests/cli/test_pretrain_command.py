"""`cgckit pretrain` writes weights that load."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from cgckit.starting import StartingNetwork


def test_the_command_writes_weights_that_load(cgckit, tmp_path):
    out = tmp_path / "out"
    ending = cgckit("pretrain", out, "--subjects", 1, "--steps", 2, "--quiet", "--device", "cpu")
    assert ending.code == 0, ending.err
    assert ending.out.strip() == str(out / "starting.safetensors")
    assert {value.dtype for value in load_file(out / "starting.safetensors").values()} == {torch.float16}
    assert not StartingNetwork.load(out / "starting.safetensors").network.training
