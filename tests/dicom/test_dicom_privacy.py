"""Nothing personal leaves: identifiers are planted wherever a header has room, and searched for in every byte."""

from __future__ import annotations

import gzip
import json
import sys
import traceback
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom is not in this environment")
pytest.importorskip("dcm2niix", reason="dcm2niix is not in this environment")

import dicom_study as study

import cgckit
from cgckit.cli.main import main
from cgckit.errors import CgckitError


def every_byte(folder: Path) -> dict[Path, bytes]:
    """What is in each file below a folder, its name included, what is compressed unpacked."""
    found = {}
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if content[:2] == b"\x1f\x8b":
            content = content[:64] + gzip.decompress(content)  # the header may hold a name
        found[path] = str(path.relative_to(folder)).encode() + b"\n" + content
    return found


def leaks(content: bytes, secrets: tuple[str, ...] = study.SECRETS) -> list[str]:
    low = content.lower()
    wide = content.replace(b"\0", b"").lower()
    return [secret for secret in secrets if secret.lower().encode() in low or secret.lower().encode() in wide]


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x" * 50 + b"doebling" + b"x" * 50))
    (tmp_path / "Xanthippe").mkdir()
    found = [secret for content in every_byte(tmp_path).values() for secret in leaks(content)]
    assert sorted(found) == ["DOEBLING", "Xanthippe"]


def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["cgckit", "-v", *map(str, arguments)])
    code: object = 0
    try:
        main()
    except SystemExit as ending:
        code = ending.code or 0
    except CgckitError as error:  # as -v shows it
        code = error.exit_code
        print(*traceback.format_exception(error))
    printed = capfd.readouterr()
    assert isinstance(code, int)
    return code, printed.out + printed.err


def test_nothing_personal_of_dicom_is_written_or_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "export"
    study.write_study(source)
    files = sorted(source.rglob("IM*"))
    assert len(leaks(b"".join(path.read_bytes() for path in files))) == len(study.SECRETS), "they are all planted"
    files[5].write_bytes(files[5].read_bytes()[:-10])
    whole = files[100].read_bytes()
    (source / "broken").write_bytes(whole[:900])
    files[200].unlink()
    code, said = run(monkeypatch, capfd, "dicom", source, "--out", tmp_path / "scans")
    assert code == 6
    assert leaks(said.encode()) == []
    for path, content in every_byte(tmp_path / "scans").items():
        assert leaks(content) == [], path
    assert list((tmp_path / "scans").rglob("*.nii.gz"))


def test_an_unusual_header_is_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """pydicom warns of values that break the standard, and quotes them."""
    shape, affine = study.box((4, 4, 5))
    paths = study.write_series(tmp_path / "a", study.Person(), study.head(shape, affine), affine, study.FLAIR)
    for path in paths:
        content = path.read_bytes()
        for name, other in ((b"19500307", b"DOEBLING"), (b"143059.25 ", b"Xanthippe "), (b"20240229", b"DOEBLING")):
            content = content.replace(name, other)
        path.write_bytes(content)
    code, said = run(monkeypatch, capfd, "dicom", tmp_path / "a", "--out", tmp_path / "out")
    assert (code, leaks(said.encode())) == (0, [])
    assert not any(leaks(content) for content in every_byte(tmp_path / "out").values())


def test_the_mapping_alone_says_who_is_who(tmp_path: Path) -> None:
    from cgckit.dicom import import_dicom

    shape, affine = study.box((4, 4, 5))
    study.write_series(tmp_path / "a", study.Person(), study.head(shape, affine), affine, study.FLAIR)
    import_dicom(tmp_path / "a", tmp_path / "out", mapping=tmp_path / "who.tsv")
    assert set(leaks((tmp_path / "who.tsv").read_bytes())) >= {"DOEBLING", "PID-4711", "19500307"}
    assert not any(leaks(content) for content in every_byte(tmp_path / "out").values())


FIELDS = {"descrip": 80, "db_name": 18, "aux_file": 24, "intent_name": 16, "data_type": 10}


def test_nothing_personal_of_a_nifti_header_reaches_any_output(tmp_path: Path) -> None:
    """Fields, extensions and the sidecar hold identifiers; a run and its report are searched."""
    from cgckit.report.write import write_report

    shape, affine = study.box((3, 3, 4))
    noise = np.random.default_rng(0).normal(0, 3, shape)
    clean = study.head(shape, affine)
    image = nib.Nifti1Image(np.where(clean > 0, clean + noise, 0).clip(0).astype(np.float32), affine)
    for name, size in FIELDS.items():
        image.header[name] = f"DOEBLING {name}"[:size].encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOEBLING Xanthippe 19500307"))
    scans = tmp_path / "scans" / "s1"
    scans.mkdir(parents=True)
    nib.save(image, scans / "flair.nii.gz")
    planted = gzip.decompress((scans / "flair.nii.gz").read_bytes())
    assert planted.count(b"DOEBLING") == 1 + len(FIELDS)
    (scans / "flair.json").write_text(json.dumps({"PatientName": "DOEBLING^Xanthippe", "AcquisitionDate": "19500307"}))
    settings = {"spacing": 4.0, "crop": (16, 16, 16), "widths": (4, 4, 4, 4), "projection": 4, "batch": 1, "steps": 1}
    done = cgckit.refine(tmp_path / "scans", "gmm", tmp_path / "out", settings=settings, device="cpu")
    write_report(done.out)
    for path, content in every_byte(tmp_path / "out").items():
        assert leaks(content, ("DOEBLING", "Xanthippe", "19500307")) == [], path
