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
from cgckit.dicom import conversion, import_dicom
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


def shear(file: Dataset, number: int) -> None:
    x, y, z = file.ImagePositionPatient
    file.ImagePositionPatient = [x, y + 2 * number, z]


def stagger(file: Dataset, number: int) -> None:
    x, y, z = file.ImagePositionPatient
    file.ImagePositionPatient = [x, y + 30 * (number % 2), z]


def paint(file: Dataset, number: int) -> None:
    file.PhotometricInterpretation = "PALETTE COLOR"


def enlarge(file: Dataset, number: int) -> None:
    file.PixelSpacing = [1e5, 1e5]


SHAPES = {
    shear: "sheared by",
    stagger: "shifted against each other",
    paint: "a picture in colour",
    enlarge: "which no scan of a head has",
}


@pytest.mark.parametrize("spoil", SHAPES)
def test_a_series_that_is_no_volume_is_refused_with_a_reason(
    tmp_path: Path, series: list[Path], spoil: Callable[[Dataset, int], None]
) -> None:
    for number, path in enumerate(series):
        file = pydicom.dcmread(path)
        spoil(file, number)
        file.save_as(path)
    with pytest.raises(BadInputError, match="none of 1 series could be taken"):
        import_dicom(tmp_path / "dicom", tmp_path / "out")
    assert SHAPES[spoil] in (tmp_path / "out" / "series.tsv").read_text()


@pytest.mark.parametrize(("kept", "reason"), [(1, "a single slice"), (6, "6 slices alone")])
def test_a_few_slices_are_no_head(tmp_path: Path, series: list[Path], kept: int, reason: str) -> None:
    for path in series[kept:]:
        path.unlink()
    with pytest.raises(BadInputError, match="none of 1 series could be taken"):
        import_dicom(tmp_path / "dicom", tmp_path / "out")
    assert reason in (tmp_path / "out" / "series.tsv").read_text()


def test_a_directory_of_files_is_passed_over(tmp_path: Path, series: list[Path]) -> None:
    content = element(2, 2, b"UI", b"1.2.840.10008.1.3.10") + element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0")
    meta = element(2, 0, b"UL", struct.pack("<I", len(content))) + content
    (tmp_path / "dicom" / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + meta)
    tree = read_tree(tmp_path / "dicom")
    assert (len(tree.slices), tree.unreadable, tree.others) == (len(series), {}, 0)


def test_links_in_a_circle_are_walked_once(tmp_path: Path, series: list[Path]) -> None:
    (tmp_path / "dicom" / "again").symlink_to(tmp_path / "dicom")
    assert len(read_tree(tmp_path / "dicom").slices) == len(series)


SCRIPTS = {
    "kill -SEGV $$": "makes no image of it",
    "sleep 30": "did not end",
    'while [ "$1" != -o ]; do shift; done; echo damaged > "$2/v.nii"': "makes no readable image of it",
    'while [ "$1" != -o ]; do shift; done; touch "$2/v_1.nii" "$2/v_2.nii"': "makes 2 images of it",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_tool_that_fails_is_told(
    tmp_path: Path, series: list[Path], monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    import dcm2niix

    reason = SCRIPTS[script]

    tool = tmp_path / "tool"
    said = "echo 'DOEBLING^Xanthippe' >&2"
    tool.write_text(f"#!/bin/sh\n{said}\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(dcm2niix, "bin", str(tool))
    monkeypatch.setattr(conversion, "_PATIENCE", 1)
    with pytest.raises(BadInputError, match="none of 1 series"):
        import_dicom(tmp_path / "dicom", tmp_path / "out")
    table = (tmp_path / "out" / "series.tsv").read_text()
    assert reason in table
    assert "DOEBLING" not in table


def test_a_tool_that_is_gone_is_told(tmp_path: Path, series: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import dcm2niix

    monkeypatch.setattr(dcm2niix, "bin", str(tmp_path / "gone"))
    with pytest.raises(BadInputError, match="none of 1 series"):
        import_dicom(tmp_path / "dicom", tmp_path / "out")
    assert "cannot be run" in (tmp_path / "out" / "series.tsv").read_text()


def test_more_voxels_than_a_head_has_are_not_unpacked(
    tmp_path: Path, series: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "_MOST_VOXELS", 1000)
    with pytest.raises(BadInputError, match="none of 1 series"):
        import_dicom(tmp_path / "dicom", tmp_path / "out")
    assert "more voxels" in (tmp_path / "out" / "series.tsv").read_text()
