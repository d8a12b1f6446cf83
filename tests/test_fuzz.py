"""What is random in a file or in words of a user: it works, or one line says what is wrong; never anything else.

`make fuzz` tries more, and others each time: CGCKIT_FUZZ is the number of examples in all.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cgckit.cgc.model import CARD, WEIGHTS, Model, build_network
from cgckit.cgc.settings import Settings
from cgckit.errors import CgckitError
from cgckit.images.cohort import Cohort
from cgckit.images.volume import Volume
from cgckit.options import options_of, read_words
from cgckit.priors.resolve import resolve_prior
from cgckit.sealed import file_digest, seal

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not in this environment")
from hypothesis import strategies as st  # noqa: E402

_TESTS = 6
settings = hypothesis.settings(
    max_examples=int(os.environ.get("CGCKIT_FUZZ", "300")) // _TESTS,
    derandomize="CGCKIT_FUZZ" not in os.environ,  # the suite tries the same each time
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def or_one_line(do: Callable[[], Any]) -> Any:
    """What is found, or None if it is refused in one line."""
    try:
        return do()
    except CgckitError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def image(folder: Path) -> bytes:
    """A file that is sound, not compressed."""
    array = np.random.default_rng(0).normal(100, 20, (8, 9, 10)).round().astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0])), folder / "sound.nii")
    return (folder / "sound.nii").read_bytes()


NUMBERS = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.floats(width=32).map(lambda value: np.float32(value).tobytes()),
    st.integers(-(2**15), 2**15 - 1).map(lambda value: np.int16(value).tobytes()),
)


@settings
@hypothesis.given(changes=st.lists(st.tuples(st.integers(0, 351), NUMBERS), min_size=1, max_size=4))
def test_headers(folder: Path, image: bytes, changes: list[tuple[int, bytes]]) -> None:
    content = bytearray(image)
    for offset, value in changes:
        content[offset : offset + len(value)] = value
    for name, written in (("a.nii", bytes(content)), ("a.nii.gz", gzip.compress(content, 1))):
        (folder / name).write_bytes(written)
        volume = or_one_line(lambda name=name: Volume.load(folder / name))
        if volume is not None:
            assert volume.array.shape == volume.grid.shape
            assert np.isfinite(volume.array).all()
            assert volume.array.nbytes < 1e6


@settings
@hypothesis.given(
    start=st.integers(0, 4000),
    removed=st.integers(0, 4000),
    inserted=st.binary(max_size=40),
    flip=st.integers(0, 99999),
)
def test_streams(folder: Path, image: bytes, start: int, removed: int, inserted: bytes, flip: int) -> None:
    sound = gzip.compress(image, mtime=0)
    content = bytearray(sound)
    start %= len(content)
    content[start : start + removed % 64] = inserted
    if content:
        content[flip // 8 % len(content)] ^= 1 << flip % 8
    (folder / "a.nii.gz").write_bytes(content)
    volume = or_one_line(lambda: Volume.load(folder / "a.nii.gz"))
    if volume is not None:
        np.testing.assert_array_equal(volume.array, Volume.load(folder / "sound.nii").array)


CELLS = st.one_of(
    st.sampled_from(["subject", "flair", "t1", "T1c", "brain_mask", "age", "", "n/a", "p1", "../p", "sound.nii", "."]),
    st.text(max_size=12),
)


@settings
@hypothesis.given(
    rows=st.lists(st.lists(CELLS, max_size=4), max_size=4), sane=st.booleans(), end=st.sampled_from(["\n", "\r\n"])
)
def test_tables(folder: Path, image: bytes, rows: list[list[str]], sane: bool, end: str) -> None:
    lines = [["subject", "flair"]] * sane + rows
    text = end.join("\t".join(cells) for cells in lines)
    (folder / "cohort.tsv").write_bytes(text.encode(errors="surrogatepass"))
    cohort = or_one_line(lambda: Cohort.find(folder / "cohort.tsv"))
    for subject in cohort or ():
        assert subject.label.isalnum()
        assert all(path.is_file() for path in subject.files.values())


WORDS = st.one_of(
    st.text(max_size=20),
    st.lists(
        st.sampled_from(["gmm", "mask:", "+", "{subject}", "x.py", ":Class", "mumford-shah", " ", "/", "\0", "~", "1"]),
        max_size=6,
    ).map("".join),
)


@settings
@hypothesis.given(words=WORDS, option=WORDS, value=WORDS)
def test_specifications(words: str, option: str, value: str) -> None:
    or_one_line(lambda: resolve_prior(words))
    or_one_line(lambda: resolve_prior("gmm", [f"{option}={value}"]))


NAMES = [option.name for option in options_of(Settings)]
VALUES = st.one_of(WORDS, st.integers().map(str), st.floats().map(str), st.sampled_from(["1e400", "16x16x16", "none"]))


@settings
@hypothesis.given(name=st.sampled_from(NAMES), value=VALUES)
def test_settings(name: str, value: str) -> None:
    found = or_one_line(lambda: Settings(steps=5).override(read_words([f"{name}={value}"], "--set")))
    if found is not None:
        assert Settings.from_json(json.loads(json.dumps(found.to_json()))) == found


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@settings
@hypothesis.given(where=st.sampled_from(["", "settings", "modalities", *NAMES]), value=JSON)
def test_cards(folder: Path, where: str, value: object) -> None:
    tiny = Settings(steps=1, crop=(16, 16, 16), widths=(2, 2, 2, 2), projection=2, batch=1)
    if not (folder / CARD).exists():
        Model(build_network(tiny, ("flair",)), tiny, ("flair",)).save(folder, {})
    card: Any = {"settings": tiny.to_json(), "modalities": ["flair"], "weights": file_digest(folder / WEIGHTS)}
    if where in NAMES:
        card["settings"][where] = value
    elif where:
        card[where] = value
    else:
        card = value
    # Whoever means harm writes the digest too.
    (folder / CARD).write_text(json.dumps(seal(card) if isinstance(card, dict) else card))
    or_one_line(lambda: Model.load(folder))
