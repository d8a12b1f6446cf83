"""Models and settings that are damaged, or made to harm: one line, and no memory is taken for what they claim.

Whoever means harm writes the digests too: here they are right.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cgckit.cgc.model import CARD, WEIGHTS, Model, build_network
from cgckit.cgc.settings import Settings
from cgckit.errors import BadInputError, UsageError
from cgckit.priors.resolve import resolve_prior
from cgckit.sealed import file_digest, read_json, read_tensors, write_json, write_tensors

TINY = Settings(steps=1, crop=(16, 16, 16), widths=(4, 4, 4, 4), projection=4, batch=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that can be read."""
    Model(build_network(TINY, ("flair",)), TINY, ("flair",)).save(tmp_path, {})
    Model.load(tmp_path)
    return tmp_path


def assert_refused(folder: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        Model.load(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert str(folder) in str(caught.value)
    return str(caught.value)


def setting(**values: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(card: dict[str, Any]) -> dict[str, Any]:
        return {**card, "settings": {**card["settings"], **values}}

    return change


CARDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "huge widths": setting(widths=[10**6, 10**6, 10**6, 10**6]),
    "widths beyond numbers": setting(widths=[10**400] * 4),
    "huge projection": setting(projection=10**9),
    "huge crop": setting(crop=[4096, 4096, 4096]),
    "huge batch": setting(batch=10**9),
    "views without end": setting(uncertainty_views=10**12),
    "infinite spacing": setting(spacing=float("inf")),
    "spacing of NaN": setting(spacing=float("nan")),
    "unknown setting": setting(colour="red"),
    "windows without end": setting(overlap=0.999999999),
    "settings are a list": lambda card: {**card, "settings": [1, 2]},
    "settings are text": lambda card: {**card, "settings": "light"},
    "no settings": lambda card: {name: value for name, value in card.items() if name != "settings"},
    "no modalities": lambda card: {**card, "modalities": []},
    "a modality's letters": lambda card: {**card, "modalities": "flair"},
    "a million modalities": lambda card: {**card, "modalities": [str(number) for number in range(10**6)]},
    "modalities are numbers": lambda card: {**card, "modalities": [1]},
    "modalities twice": lambda card: {**card, "modalities": ["flair", "flair"]},
    "modalities by name": lambda card: {**card, "modalities": {"flair": 1}},
    "another modality more": lambda card: {**card, "modalities": ["flair", "t1"]},
}


@pytest.mark.parametrize("fault", CARDS)
def test_a_card_that_describes_no_model_is_one_line(folder: Path, fault: str) -> None:
    write_json(folder / CARD, CARDS[fault](read_json(folder / CARD)))
    assert "damaged" not in assert_refused(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[{}]", "null", "5", "[" * 100_000, '{"settings": ' + "9" * 5000 + "}", "\xff"]
)
def test_a_card_that_is_no_json_is_one_line(folder: Path, text: str) -> None:
    (folder / CARD).write_bytes(text.encode("latin-1"))
    assert_refused(folder)


def test_a_card_that_is_a_folder_is_one_line(folder: Path) -> None:
    (folder / CARD).unlink()
    (folder / CARD).mkdir()
    assert_refused(folder)


def change_weights(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights, _ = read_tensors(folder / WEIGHTS)
    name = sorted(weights)[0]
    write_tensors(folder / WEIGHTS, {**weights, name: change(weights[name]).contiguous()})
    write_json(folder / CARD, {**read_json(folder / CARD), "weights": file_digest(folder / WEIGHTS)})


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value * torch.nan,
        lambda value: value + torch.inf,
        lambda value: value[None],
        lambda value: torch.zeros(0),
        lambda value: torch.zeros(3, 3),
    ],
)
def test_weights_that_are_no_numbers_or_do_not_fit_are_one_line(folder: Path, change: Any) -> None:
    change_weights(folder, change)
    assert "damaged" not in assert_refused(folder)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, (2**62).to_bytes(8, "little") + b"{}", bytes(100)])
def test_weights_that_are_no_tensors_are_one_line(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    assert_refused(folder)


@pytest.mark.parametrize(
    "words",
    [
        "spacing=1e308",
        "spacing=0.001",
        "spacing=inf",
        "crop=4096x4096x4096",
        "crop=1024x1024x1024",
        "widths=100000x100000x100000x100000",
        "widths=1e400",
        "projection=1000000000",
        "batch=100000",
        "steps=1e300",
        "epochs=99999999999999999999",
        "patch_size=10000x1x1",
        "uncertainty_views=1000000000",
        "overlap=0.99999",
        "prior_reach=1e308",
        "untrusted_outer=1e300",
        "min_lesion=1e300",
        "temperature=1e-300",
    ],
)
def test_an_absurd_setting_is_named(words: str) -> None:
    name, _, value = words.partition("=")
    with pytest.raises(UsageError, match=name) as caught:
        Settings(steps=5).override({name: value})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("prior", "option"),
    [
        ("gmm", "max_components=1000000000"),
        ("gmm", "smoothing=1e300"),
        ("gmm", "seed=99999999999999999999"),
        ("gmm", "floor=1e300"),
        ("aucseg", "components=1000000"),
        ("mumford-shah", "phases=1000000"),
        ("mumford-shah", "max_iterations=1000000000000"),
        ("mumford-shah-net", "width=1000000"),
    ],
)
def test_an_absurd_option_of_a_prior_is_named(prior: str, option: str) -> None:
    with pytest.raises(UsageError, match=option.partition("=")[0]):
        resolve_prior(prior, [option])
