"""Files that are damaged, or made to harm: never wrong voxels, never a traceback, nothing read without end."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cgckit.errors import BadInputError
from cgckit.images.cohort import Cohort
from cgckit.images.volume import Volume, header_of


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, size=(12, 13, 14)).astype(np.float32)


def save(path: Path, array: np.ndarray, kind: type = nib.Nifti1Image) -> Path:
    nib.save(kind(array, np.eye(4)), path)
    return path


def refusal(path: Path) -> str:
    """What is said of a file that is refused: one line that names it."""
    with pytest.raises(BadInputError) as caught:
        Volume.load(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return message


# ---- the stream


def test_no_flipped_bit_of_a_compressed_file_changes_a_voxel(tmp_path: Path, array: np.ndarray) -> None:
    path = save(tmp_path / "a.nii.gz", array.round())
    content, expected = bytearray(path.read_bytes()), array.round()
    refused = 0
    for position in np.random.default_rng(1).choice(8 * len(content), 1000, replace=False).tolist():
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            found = Volume.load(path)
        except BadInputError:
            refused += 1
        else:
            np.testing.assert_array_equal(found.array, expected)
    assert refused > 950  # the name and the time in the head of the stream mean nothing


def test_an_image_of_nibabel_that_was_not_read_yet_is_checked_too(tmp_path: Path, array: np.ndarray) -> None:
    path = save(tmp_path / "a.nii.gz", array)
    np.testing.assert_array_equal(Volume.of(nib.load(path), None, "flair of A").array, array)
    lazy = nib.load(path)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInputError, match="damaged"):
        Volume.of(lazy, None, "flair of A")
    save(path, array[1:])
    with pytest.raises(BadInputError, match="another image by now"):
        Volume.of(lazy, None, "flair of A")


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda content: content[:-1], "damaged or cut short"),
        (lambda content: content[:-9], "damaged or cut short"),
        (lambda content: content + b"more", "damaged"),
        (lambda content: content[:-8] + bytes(8), "damaged"),
        (lambda content: content + gzip.compress(b"another file"), "more than its header says"),
        (lambda content: content + gzip.compress(bytes(70000)), "more than its header says"),
    ],
)
def test_a_stream_is_read_to_its_end(
    tmp_path: Path, array: np.ndarray, spoil: Callable[[bytes], bytes], word: str
) -> None:
    path = save(tmp_path / "a.nii.gz", array)
    path.write_bytes(spoil(path.read_bytes()))
    assert word in refusal(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
def test_a_block_that_was_filled_up_with_zeros_is_accepted(tmp_path: Path, array: np.ndarray, name: str) -> None:
    path = save(tmp_path / name, array)
    padding = bytes(512)
    path.write_bytes(path.read_bytes() + (gzip.compress(padding) + padding if name.lower().endswith("gz") else padding))
    np.testing.assert_array_equal(Volume.load(path).array, array)


def test_a_plain_file_that_holds_more_than_its_header_says_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    path = save(tmp_path / "a.nii", array)
    content = bytearray(path.read_bytes())
    content[42:44] = struct.pack("<h", 11)  # the first axis, which has 12
    path.write_bytes(content)
    assert "more than its header says" in refusal(path)


def test_voxels_are_the_readers_own_whatever_becomes_of_the_file(tmp_path: Path, array: np.ndarray) -> None:
    path = save(tmp_path / "a.nii", array)
    volume = Volume.load(path)
    path.write_bytes(b"")
    np.testing.assert_array_equal(volume.array, array)


# ---- the header


def claim(path: Path, *fields: tuple[int, str, object], kind: type = nib.Nifti1Image) -> Path:
    """Write an image whose header has other values at some offsets."""
    save(path, np.arange(512, dtype=np.float32).reshape(8, 8, 8), kind)
    content = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    for offset, form, value in fields:
        values = value if isinstance(value, tuple) else (value,)
        content[offset : offset + struct.calcsize(form)] = struct.pack(form, *values)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def spacing(*edges: float) -> tuple[tuple[int, str, object], ...]:
    """A header's spacing; without an sform and a qform the affine is made of it."""
    return ((80, "<3f", edges), (252, "<2h", (0, 0)))


NIFTI1 = {
    "30000^3 voxels": [(42, "<3h", (30000, 30000, 30000))],
    "2000^3 voxels": [(42, "<3h", (2000, 2000, 2000))],
    "negative sizes": [(42, "<3h", (-8, -8, 8))],
    "no axis": [(40, "<h", 0)],
    "nine axes": [(40, "<h", 9)],
    "voxels at 1e20": [(108, "<f", 1e20)],
    "voxels at infinity": [(108, "<f", np.inf)],
    "voxels at NaN": [(108, "<f", np.nan)],
    "voxels before the file": [(108, "<f", -400.0)],
    "voxels late": [(108, "<f", 6e7)],
    "spacing 1e20": spacing(1e20, 1e20, 1e20),
    "spacing 352 mm": spacing(352.0, 352.0, 352.0),
    "spacing 1e-6 mm": spacing(1e-6, 1e-6, 1e-6),
    "spacing of NaN": spacing(np.nan, np.nan, np.nan),
    "spacing of infinity": spacing(np.inf, 1.0, 1.0),
    "one edge of 1e-30 mm": spacing(1e-30, 1.0, 1.0),
    "sform of NaN": [(280, "<4f", (np.nan,) * 4)],
    "sform of infinity": [(280, "<4f", (np.inf,) * 4)],
    "sform of 3e38": [(280, "<4f", (3e38,) * 4)],
    "far away": [(292, "<f", 1e20)],
    "quaternion of NaN": [(252, "<2h", (1, 0)), (256, "<3f", (np.nan,) * 3)],
    "quaternion too long": [(252, "<2h", (1, 0)), (256, "<3f", (9.0,) * 3)],
    "unknown type": [(70, "<h", 4321)],
    "no type": [(70, "<h", 0)],
    "slope overflows": [(112, "<2f", (3e38, 3e38))],
    "slope of 1e20": [(112, "<2f", (1e20, 0.0))],
    "extension of 2 GiB": [(108, "<f", 4096.0), (348, "<4B2i", (1, 0, 0, 0, 2**31 - 16, 4))],
    "another magic": [(344, "<4s", b"ni2\0")],
}
NIFTI2 = {
    "2^62 voxels": [(24, "<3q", (2**21, 2**21, 2**20))],
    "2^186 voxels": [(24, "<3q", (2**62, 2**62, 2**62))],
    "voxels at 2^63": [(168, "<q", 2**63 - 1)],
    "voxels at -2^62": [(168, "<q", -(2**62))],
    "negative axes": [(16, "<q", -5)],
}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("fault", [*NIFTI1, *NIFTI2])
def test_what_no_header_of_a_head_says_is_refused_before_memory_is_taken(tmp_path: Path, fault: str, name: str) -> None:
    kind = nib.Nifti1Image if fault in NIFTI1 else nib.Nifti2Image
    path = claim(tmp_path / name, *({**NIFTI1, **NIFTI2}[fault]), kind=kind)
    tracemalloc.start()
    try:
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_is_refused_without_being_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    header = nib.Nifti1Header()
    header.set_data_shape((512, 512, 512))
    header.set_data_dtype(np.float64)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header.binaryblock + bytes(4))
        stream.write(bytes(2**22))
    assert path.stat().st_size < 1e5
    tracemalloc.start()
    try:
        assert "too short" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_what_follows_the_voxels_is_not_unpacked(tmp_path: Path, array: np.ndarray) -> None:
    path = save(tmp_path / "a.nii.gz", array)
    with path.open("ab") as file:
        file.write(gzip.compress(bytes(2**24)))
    tracemalloc.start()
    try:
        assert "more than its header says" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("edge", [4.0, 6.0, 10.0])
def test_thick_slices_and_coarse_voxels_are_read(tmp_path: Path, array: np.ndarray, edge: float) -> None:
    nib.save(nib.Nifti1Image(array, np.diag([edge, edge, edge, 1])), tmp_path / "a.nii.gz")
    assert Volume.load(tmp_path / "a.nii.gz").grid.spacing == (edge, edge, edge)


# ---- what is no file


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A pipe that nobody writes to: whoever opens it waits for ever."""
    path = tmp_path / "scans" / "p_flair.nii.gz"
    path.parent.mkdir()
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", ["p_flair.nii.gz", "p_flair.nii", "cohort.tsv", "IM0001"])
def test_a_pipe_is_not_waited_for(pipe: Path, name: str) -> None:
    other = pipe.with_name(name)
    pipe.rename(other)
    with pytest.raises(BadInputError, match=r"not a regular file|not a NIfTI image"):
        header_of(Cohort.find(other)[0].files["flair"])
    with pytest.raises(BadInputError, match="no image found"):
        Cohort.find(other.parent)


def test_a_socket_and_a_folder_with_an_images_name_are_passed_by(
    tmp_path: Path, array: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    scans = Path("scans")
    (scans / "odd_flair.nii.gz").mkdir(parents=True)
    save(scans / "p_flair.nii.gz", array)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("scans/s_t1.nii.gz")
        cohort = Cohort.find(scans)
    assert [dict(subject.files) for subject in cohort] == [{"flair": scans / "p_flair.nii.gz"}]


def test_folders_that_lead_back_to_themselves_are_walked_once(tmp_path: Path, array: np.ndarray) -> None:
    for name in ("one", "two"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for link in ("back", "again", "once more"):
            (tmp_path / "scans" / name / link).symlink_to(tmp_path / "scans")
    (tmp_path / "scans" / "p").mkdir()
    save(tmp_path / "scans" / "p" / "p_flair.nii.gz", array)
    assert [subject.source for subject in Cohort.find(tmp_path / "scans")] == ["p"]


@pytest.mark.parametrize("name", ["p_flair.nii.gz", "cohort.tsv", "scans"])
def test_what_may_not_be_looked_at_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As for another user's folder; a test may run as root, who may look at all."""

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(BadInputError, match="Permission denied"):
        Cohort.find(tmp_path / name)
    with pytest.raises(BadInputError, match="Permission denied"):
        Volume.load(tmp_path / name)


def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "p_flair.nii", np.zeros((4, 4, 4), np.float32))

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in refusal(path)
