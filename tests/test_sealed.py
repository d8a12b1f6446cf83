"""Files with a digest: whatever bit of them is lost, they are known to be damaged or say what they said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from cgckit.sealed import DamagedError, file_digest, is_whole, read_json, read_tensors, write_json, write_tensors

CONTENT = {"name": "Zoë", "values": [1, 2.5, None], "inner": {"threshold": 0.25}}


def tensors() -> dict[str, torch.Tensor]:
    return {
        "half": torch.arange(3).half(),
        "brain": torch.tensor([True, False]),
        "bfloat": torch.ones(2, 2, dtype=torch.bfloat16),
        "none": torch.empty(0, 4),
        "one": torch.ones(()).expand(1),
        "step": torch.tensor(7.0),
    }


def flipped(path: Path) -> list[bytes]:
    """The file with one bit turned, for each of its bytes."""
    whole = path.read_bytes()
    return [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(len(whole))]


def test_json_comes_back_or_is_known_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, CONTENT)
    assert read_json(path) == CONTENT
    for damaged in flipped(path):
        path.write_bytes(damaged)
        try:
            assert read_json(path) == CONTENT  # white space alone
        except DamagedError:
            continue


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": 3}', "null", "{half", "\udcff", "[" * 100_000])
def test_json_of_somebody_else_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, errors="surrogateescape")
    with pytest.raises(DamagedError):
        read_json(tmp_path / "a.json")


def test_tensors_come_back_or_are_known_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, tensors(), {"note": "what it is"})
    assert is_whole(path)
    found, metadata = read_tensors(path)
    assert metadata == {"note": "what it is"}
    assert found.keys() == tensors().keys()
    assert all(
        torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in tensors().items()
    )
    for damaged in [*flipped(path), path.read_bytes()[:-1], path.read_bytes() + b"\0", b"", bytes(8)]:
        path.write_bytes(damaged)
        try:
            again, metadata = read_tensors(path)
        except DamagedError:
            assert not is_whole(path)
            continue
        assert metadata == {"note": "what it is"}  # white space at the end of the header alone
        assert all(torch.equal(again[name], value) for name, value in found.items())


def test_tensors_without_a_digest_are_damaged(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors(), tmp_path / "a.safetensors")
    with pytest.raises(DamagedError, match="digest"):
        read_tensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dtype", ["F4", "F8_E8M0"])
def test_tensors_of_a_kind_that_torch_does_not_have_are_damaged(tmp_path: Path, dtype: str) -> None:
    content = bytes(1 if dtype == "F4" else 2)
    tensor = {"dtype": dtype, "shape": [2], "data_offsets": [0, len(content)]}
    header = json.dumps({"a": tensor, "__metadata__": {"digest": ""}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content)
    with pytest.raises(DamagedError):
        read_tensors(tmp_path / "a.safetensors")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # whoever opens it waits for a writer
    for read in (read_json, read_tensors):
        with pytest.raises(DamagedError, match="not a regular file"):
            read(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        file_digest(tmp_path / "pipe")
    assert not is_whole(tmp_path / "pipe")


def test_what_is_not_there_is_not_damaged(tmp_path: Path) -> None:
    for read in (read_json, read_tensors, file_digest):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing")
    assert not is_whole(tmp_path / "nothing")


def test_equal_content_gives_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tensors(tmp_path / name, tensors())
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b")
