"""Files that are damaged or made to harm: a line says so, and the others are taken."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("pydicom", reason="pydicom is not in this environment")
pytest.importorskip("dcm2niix", reason="dcm2niix is not in this environment")

import dicom_study as study
import pydicom
from pydicom.dataset import Dataset

from cgckit import BadInputError
from cgckit.dicom import import_dicom
from cgckit.dicom.slices import UnreadableError, read_slices
from cgckit.dicom.tree import read_tree


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    shape, affine = study.box((4, 4, 5))
    return study.write_series(tmp_path / "dicom", study.Person(), study.head(shape, affine), affine, study.FLAIR)


def test_random_damage_is_told_in_words_of_ours(series: list[Path]) -> None:
    whole = series[0].read_bytes()
    header = len(whole) - 2 * 38 * 45
    generator = random.Random(0)
    broken = series[0].with_suffix(".dcm")
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(generator.choice((1, 3, 20))):
            content[generator.randrange(132, header)] = generator.randrange(256)
        if generator.random() < 0.3:
            del content[generator.randrange(0, len(content)) :]
        broken.write_bytes(content)
        said = ""
        try:
            read_slices(broken)
        except UnreadableError as error:
            said = str(error)
        assert not any(secret in said for secret in study.SECRETS)


def element(group: int, number: int, kind: bytes, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    if kind in (b"SQ", b"OW", b"UN"):
        return struct.pack("<HH2sHI", group, number, kind, 0, size) + value
    return struct.pack("<HH2sH", group, number, kind, size) + value


def file_of(content: bytes) -> bytes:
    meta = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0")
    return bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta + content


def nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
        content = element(0x5200, 0x9229, b"SQ", item)
    return content


HOSTILE = {
    "empty": b"",
    "a preamble alone": bytes(128) + b"DICM",
    "noise": bytes(128) + b"DICM" + random.Random(1).randbytes(5000),
    "sequences in sequences": file_of(nested(3000)),
    "an element of 4 GB": file_of(element(0x5200, 0x9229, b"SQ", b"", 0xFFFFFFF0)),
    "text": b"this is no DICOM" * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_does_not_stop_the_others(tmp_path: Path, series: list[Path], name: str) -> None:
    (tmp_path / "dicom" / "bad.dcm").write_bytes(HOSTILE[name])
    done = import_dicom(tmp_path / "dicom", tmp_path / "out")
    assert list(done.files) == ["sub-001/anat/sub-001_FLAIR.nii.gz"]
    assert [path.name for path in done.tree.unreadable] == ["bad.dcm"]


def huge(file: Dataset) -> None:
    file.Rows = file.Columns = 65535


def many(file: Dataset) -> None:
    file.NumberOfFrames = 2**31 - 1


def deflated(file: Dataset) -> None:
    file.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian


@pytest.mark.parametrize("spoil", [huge, many, deflated])
def test_what_claims_too_much_is_not_read(tmp_path: Path, series: list[Path], spoil: Callable[[Dataset], None]) -> None:
    file = pydicom.dcmread(series[0])
    spoil(file)
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = study.generate_uid()
    file.save_as(tmp_path / "dicom" / "bad")
    done = import_dicom(tmp_path / "dicom", tmp_path / "out")
    assert [path.name for path in done.tree.unreadable] == ["bad"]
    assert len(done.files) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PixelSpacing", [0, 0]),
        ("PixelSpacing", ["1e300", "1e300"]),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
        ("ImageOrientationPatient", None),
        ("ImagePositionPatient", [0, 0, 0]),
        ("ImagePositionPatient", None),
        ("BitsAllocated", 1),
        ("SamplesPerPixel", 3),
        ("RescaleSlope", 0),
        ("RescaleSlope", "1e38"),
    ],
)
def test_a_series_whose_header_makes_no_sense_is_refused_with_a_reason(
    tmp_path: Path, series: list[Path], name: str, value: object
) -> None:
    for path in series:
        file = pydicom.dcmread(path)
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
        file.save_as(path)
    with pytest.raises(BadInputError, match="none of 1 series could be taken"):
        import_dicom(tmp_path / "dicom", tmp_path / "out")
    assert "\tno\t" in (tmp_path / "out" / "series.tsv").read_text()


def test_links_in_a_circle_are_walked_once(tmp_path: Path, series: list[Path]) -> None:
    (tmp_path / "dicom" / "again").symlink_to(tmp_path / "dicom")
    assert len(read_tree(tmp_path / "dicom").slices) == len(series)


def test_a_tool_that_crashes_is_told(tmp_path: Path, series: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import dcm2niix

    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho 'DOEBLING^Xanthippe' >&2\nkill -SEGV $$\n")
    tool.chmod(0o755)
    monkeypatch.setattr(dcm2niix, "bin", str(tool))
    with pytest.raises(BadInputError, match="none of 1 series"):
        import_dicom(tmp_path / "dicom", tmp_path / "out")
    assert "makes no image of it" in (tmp_path / "out" / "series.tsv").read_text()
