"""Models on disk: what is written is what is read, and everything else is refused in one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from cgckit.cgc.model import Model, build_network, load_model
from cgckit.cgc.settings import Settings
from cgckit.errors import BadInputError
from cgckit.sealed import read_json, read_tensors, write_json, write_tensors

SETTINGS = Settings(steps=1, widths=(4, 4, 8, 8), projection=4)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(build_network(SETTINGS, ("flair", "t1")).eval(), SETTINGS, ("flair", "t1"))


def test_a_model_survives_the_disk(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "run" / "model", {"key": "k"})
    for folder in (tmp_path / "run" / "model", tmp_path / "run"):
        read = load_model(folder)
        assert (read.settings, read.modalities) == (model.settings, model.modalities)
        assert read.fingerprint() == model.fingerprint()
        # Equal weights in another memory layout round otherwise: a resumed run would not be equal bit for bit.
        kernels = [value for value in read.network.parameters() if value.dim() == 5]
        assert all(value.is_contiguous(memory_format=torch.channels_last_3d) for value in kernels)
        image = torch.randn(1, 2, 16, 16, 16)
        assert torch.equal(read.network.segment(image), model.network.segment(image))


def test_the_fingerprint_follows_weights_and_settings(model: Model) -> None:
    before = model.fingerprint()
    assert dataclasses.replace(model, settings=SETTINGS.override({"spacing": 1.5})).fingerprint() != before
    assert model.with_settings({"overlap": 0.5}).fingerprint() == before, "that is how it is applied"
    assert dataclasses.replace(model, modalities=("t1", "flair")).fingerprint() != before
    with torch.no_grad():
        next(model.network.parameters()).add_(1)
    assert model.fingerprint() != before


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no model"):
        load_model(tmp_path)


@pytest.mark.parametrize("damage", ["weights", "card", "setting", "shape", "bit", "edited", "other", "nan"])
def test_a_damaged_model_is_refused_in_one_line(model: Model, tmp_path: Path, damage: str) -> None:
    model.save(tmp_path, {})
    card = read_json(tmp_path / "model.json")
    weights = tmp_path / "model.safetensors"
    if damage == "weights":
        weights.write_bytes(b"not tensors")
    elif damage == "bit":
        content = bytearray(weights.read_bytes())
        content[-2] ^= 1
        weights.write_bytes(content)
    elif damage == "edited":
        text = (tmp_path / "model.json").read_text()
        (tmp_path / "model.json").write_text(text.replace('"temperature": 0.2', '"temperature": 0.3'))
    elif damage == "other":
        state, _ = read_tensors(weights)
        write_tensors(weights, {name: value + 1 for name, value in state.items()})
    elif damage == "nan":
        with torch.no_grad():
            next(model.network.parameters()).fill_(torch.nan)
        model.save(tmp_path, {})
    elif damage == "card":
        (tmp_path / "model.json").write_text("{")
    elif damage == "setting":
        card["settings"]["colour"] = "red"
        write_json(tmp_path / "model.json", card)
    else:
        card["modalities"] = ["flair"]
        write_json(tmp_path / "model.json", card)
    with pytest.raises(BadInputError, match=str(tmp_path)) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)
