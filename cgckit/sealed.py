"""Files that carry a digest of what is in them: one that was damaged on disk is told from one that is whole."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, uint8

from cgckit.atomic import atomic_write

_DIGEST = "digest"


class DamagedError(ValueError):
    """A file is there, but not as it was written; the message says in what way, and does not name it."""


def open_file(path: Path) -> BinaryIO:
    """Open a file to read its bytes.

    Raises:
        OSError: it cannot be opened, or is no regular file: of a pipe or a device there would be no end.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.open("rb")


def read_file(path: Path) -> bytes:
    """All bytes of a file; errors as `open_file`."""
    with open_file(path) as file:
        return file.read()


def read_lines(path: Path) -> list[str]:
    """The lines of a table that a user wrote. Line breaks alone end one: other separators may be part of a name.

    Raises:
        OSError: as `open_file`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return re.split(r"\r\n|\n|\r", read_file(path).decode("utf-8-sig"))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON with its digest, atomically.

    Raises:
        BadInputError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(seal(content), indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: it is not as it was written, or cannot be read.
    """
    try:
        content = json.loads(read_file(path))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise DamagedError("it holds no object")
    return unseal(content)


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """An object of plain JSON values with its digest."""
    plain = json.loads(json.dumps(content))
    return {**plain, _DIGEST: _of_json(plain)}


def unseal(sealed: Mapping[str, Any]) -> dict[str, Any]:
    """The object that `seal` took.

    Raises:
        DamagedError: it is another one, or has no digest.
    """
    content = {name: value for name, value in sealed.items() if name != _DIGEST}
    if sealed.get(_DIGEST) != _of_json(content):
        raise DamagedError("its content does not fit its digest")
    return content


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Whether an object has a digest, be it right or wrong."""
    return _DIGEST in content


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write contiguous tensors and text about them as safetensors with their digest, atomically.

    Raises:
        BadInputError: the file cannot be written.
    """
    named = dict(metadata or {})
    # Not `save_file`: what it raises on a full disk is no OSError, and does not say why.
    content = save(dict(tensors), {**named, _DIGEST: _of_tensors(tensors, named)})
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote: tensors in memory of their own, and the text about them.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: it is not as it was written, or cannot be read.
    """
    try:
        content = read_file(path)
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError, ValueError, KeyError) as error:  # the last for a kind that torch does not have
        raise DamagedError(f"cannot be read ({str(error).splitlines()[0]})") from error
    metadata = dict(header.get("__metadata__", {}))
    if metadata.pop(_DIGEST, None) != _of_tensors(tensors, metadata):
        raise DamagedError("its content does not fit its digest")
    return tensors, metadata


def is_whole(path: Path) -> bool:
    """Whether a file of `write_tensors` is there as it was written."""
    try:
        read_tensors(path)
    except (FileNotFoundError, DamagedError):
        return False
    return True


def _of_json(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _of_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        flat = tensor.detach().cpu().contiguous().as_strided((tensor.numel(),), (1,))  # `view` minds any other stride
        digest.update(flat.view(uint8).numpy().data)
    return digest.hexdigest()
