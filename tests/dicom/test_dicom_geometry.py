"""Where slices are and what their values mean: tilted, uneven, missing, damaged, padded, signed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom is not in this environment")
pytest.importorskip("dcm2niix", reason="dcm2niix is not in this environment")

import dicom_study as study
import pydicom
from scipy import ndimage

from cgckit import BadInputError
from cgckit.dicom import import_dicom
from cgckit.dicom.choice import Candidate

CT: dict[str, Any] = {"modality": "CT", "intercept": -1024}
KV = {"KVP": 120}


def take(folder: Path) -> tuple[Candidate, Path]:
    """The one candidate of a folder, and the file that it became."""
    done = import_dicom(folder, folder.with_name("scans"))
    ((name, candidate),) = done.files.items()
    return candidate, done.out / name


def refused(folder: Path) -> str:
    """Why the one candidate of a folder was not taken."""
    with pytest.raises(BadInputError, match="none of 1 series"):
        import_dicom(folder, folder.with_name("scans"))
    header, line = (folder.with_name("scans") / "series.tsv").read_text().splitlines()
    return dict(zip(header.split("\t"), line.split("\t"), strict=True))["why"]


def assert_is_the_head(path: Path, blur_mm: float = 0) -> None:
    """The image is that of the phantom on its own grid, but within `blur_mm` of edges, where slices were mixed."""
    image: Any = nib.load(path)
    array = image.get_fdata()
    wanted = study.head(array.shape, image.affine) - 1000
    reach = [int(np.ceil(blur_mm / edge)) for edge in image.header.get_zooms()]
    size = [2 * edge + 1 for edge in reach]
    inside = ndimage.minimum_filter(wanted, size) == ndimage.maximum_filter(wanted, size)
    seen = ndimage.minimum_filter(array, size, mode="constant", cval=-1024) > -1024  # what was scanned
    assert (seen & inside).mean() > 0.3
    np.testing.assert_allclose(array[seen & inside], wanted[seen & inside], atol=1)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("degrees", [-20.0, 12.0])
def test_a_tilted_gantry_is_undone(tmp_path: Path, degrees: float, signed: bool) -> None:
    shape, affine = study.tilted(degrees, (2, 2, 4))
    tags = {**KV, "GantryDetectorTilt": degrees}
    ct = study.head(shape, affine) - 1000
    study.write_series(tmp_path / "ct", study.Person(), ct, affine, tags, signed=signed, **CT)
    candidate, path = take(tmp_path / "ct")
    assert candidate.notes == (f"gantry tilt of {abs(degrees):.1f} degrees undone",)
    assert study.marks(path) == [value - 1000 for value in study.MARKS]
    assert_is_the_head(path, blur_mm=2)
    image: Any = nib.load(path)
    directions = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-5)


@pytest.mark.parametrize("degrees", [0.0, 15.0])
def test_slices_at_two_distances_are_evened(tmp_path: Path, degrees: float) -> None:
    """As where the posterior fossa is scanned in thinner slices than what is above."""
    shape, affine = study.tilted(degrees, (2, 2, 1))
    where = [*range(0, 60, 3), *range(60, shape[2], 6)]
    ct = study.head(shape, affine)[:, :, where] - 1000
    study.write_series(tmp_path / "ct", study.Person(), ct, affine, KV, positions=where, **CT)
    candidate, path = take(tmp_path / "ct")
    step = f"{3 * np.cos(np.deg2rad(degrees)):.3g}"
    assert f"uneven slices, resampled every {step} mm" in candidate.notes
    assert study.marks(path) == [value - 1000 for value in study.MARKS]
    assert_is_the_head(path, blur_mm=7)


@pytest.mark.parametrize("renumbered", [False, True])
def test_a_missing_slice_is_named_not_guessed(tmp_path: Path, renumbered: bool) -> None:
    shape, affine = study.box((3, 3, 4))
    array = study.head(shape, affine)
    if renumbered:
        where = [k for k in range(shape[2]) if k not in (11, 12)]
        study.write_series(tmp_path / "mr", study.Person(), array[:, :, where], affine, study.T1, positions=where)
        assert "missing: 2 of 32 slices, between slices 11 and 12" in refused(tmp_path / "mr")
    else:
        paths = study.write_series(tmp_path / "mr", study.Person(), array, affine, study.T1)
        paths[11].unlink()
        paths[12].unlink()
        assert "missing: 2 of 32 slices, between slices 11 and 14" in refused(tmp_path / "mr")


def test_a_slice_that_is_cut_short_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shape, affine = study.box((3, 3, 4))
    paths = study.write_series(tmp_path / "mr", study.Person(), study.head(shape, affine), affine, study.T1)
    paths[7].write_bytes(paths[7].read_bytes()[:-100])
    assert "damaged: slice 8 of 32 is cut short" in refused(tmp_path / "mr")
    assert f"{paths[7]}: is cut short" in caplog.text
    for path in paths:
        path.write_bytes(path.read_bytes()[:-100])
    caplog.clear()
    refused_again(tmp_path / "mr")
    assert caplog.text.count("is cut short") == 20 + 1, "and once for the series"
    assert "and 12 files more" in caplog.text


def test_another_series_is_taken_where_the_best_is_damaged(tmp_path: Path) -> None:
    person = study.Person()
    for number, edges in enumerate([(3, 3, 3), (3, 3, 4)]):
        shape, affine = study.box(edges)
        paths = study.write_series(tmp_path / f"mr/{number}", person, study.head(shape, affine), affine, study.T1)
        if number == 0:
            paths[3].unlink()
    candidate, _ = take(tmp_path / "mr")
    assert candidate.stack.first.number == 2


@pytest.mark.parametrize(
    ("signed", "slope", "intercept"), [(True, 1, 0), (False, 1, -1024), (True, 0.5, -500), (False, 2, -3024)]
)
def test_values_are_hounsfield_units_however_they_are_stored(
    tmp_path: Path, signed: bool, slope: float, intercept: float
) -> None:
    shape, affine = study.box((3, 3, 4))
    ct = study.head(shape, affine) - 1000
    options = {"modality": "CT", "signed": signed, "slope": slope, "intercept": intercept}
    study.write_series(tmp_path / "ct", study.Person(), ct, affine, KV, **options)
    _, path = take(tmp_path / "ct")
    assert study.marks(path) == [value - 1000 for value in study.MARKS]


@pytest.mark.parametrize(
    ("signed", "intercept", "padding"), [(True, 0, -2000), (True, -1024, -2000), (False, -1024, 0)]
)
def test_what_was_not_measured_is_air(tmp_path: Path, signed: bool, intercept: float, padding: int) -> None:
    shape, affine = study.box((3, 3, 4))
    ct = study.head(shape, affine) - 1000
    ct[:3] = padding + intercept
    tags = {**KV, "PixelPaddingValue": padding}
    options = {"modality": "CT", "signed": signed, "intercept": intercept}
    study.write_series(tmp_path / "ct", study.Person(), ct, affine, tags, **options)
    _, path = take(tmp_path / "ct")
    array = nib.load(path).get_fdata()  # type: ignore[attr-defined]
    assert array.min() == -1024
    assert (array == -1024).mean() == pytest.approx(3 / shape[0])
    assert study.marks(path) == [value - 1000 for value in study.MARKS]


def test_what_dcm2niix_puts_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cgckit.dicom import conversion
    from cgckit.images.grid import Grid

    unpack = conversion._unpack

    def shifted(stack):  # type: ignore[no-untyped-def]
        found = unpack(stack)
        affine = found.grid.affine.copy()
        affine[2, 3] += 4
        return conversion.Converted(found.array, Grid(found.array.shape, affine), ())

    shape, affine = study.box((3, 3, 4))
    study.write_series(tmp_path / "mr", study.Person(), study.head(shape, affine), affine, study.T1)
    monkeypatch.setattr(conversion, "_unpack", shifted)
    assert "elsewhere than its header says" in refused(tmp_path / "mr")


def test_what_dcm2niix_reads_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cgckit.dicom import conversion

    unpack = conversion._unpack

    def swapped(stack):  # type: ignore[no-untyped-def]
        found = unpack(stack)
        return conversion.Converted(found.array[:, :, ::-1], found.grid, ())

    shape, affine = study.box((3, 3, 4))
    study.write_series(tmp_path / "mr", study.Person(), study.head(shape, affine), affine, study.T1)
    monkeypatch.setattr(conversion, "_unpack", swapped)
    assert "other values" in refused(tmp_path / "mr")


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEGLSLossless"])
def test_compressed_pixels_are_read(tmp_path: Path, syntax: str) -> None:
    shape, affine = study.box((3, 3, 4))
    paths = study.write_series(tmp_path / "mr", study.Person(), study.head(shape, affine), affine, study.T1)
    for path in paths:
        file = pydicom.dcmread(path)
        try:
            file.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False)
        except (RuntimeError, ImportError, ValueError):
            pytest.skip(f"nothing here writes {syntax}")
        file.save_as(path)
    _, path = take(tmp_path / "mr")
    assert study.marks(path) == study.MARKS
    paths[4].write_bytes(paths[4].read_bytes()[:-200])
    assert "slice 5" in refused_again(tmp_path / "mr")


def refused_again(folder: Path) -> str:
    with pytest.raises(BadInputError, match="none of 1 series"):
        import_dicom(folder, folder.with_name("scans"), overwrite=True)
    return (folder.with_name("scans") / "series.tsv").read_text()


def test_two_echoes_of_one_series_are_two_images(tmp_path: Path) -> None:
    person, uid = study.Person(), study.generate_uid()
    shape, affine = study.box((3, 3, 4))
    for number, echo in enumerate((20, 100)):
        tags = {"RepetitionTime": 4000, "EchoTime": echo, "ScanningSequence": "SE"}
        array = study.head(shape, affine) + 1000 * number
        person.series = 0
        study.write_series(tmp_path / f"mr/{number}", person, array, affine, tags, uid=uid)
    done = import_dicom(tmp_path / "mr", tmp_path / "scans")
    assert sorted(done.files) == ["sub-001/anat/sub-001_PDw.nii.gz", "sub-001/anat/sub-001_T2w.nii.gz"]
    assert study.marks(done.out / "sub-001/anat/sub-001_T2w.nii.gz") == [value + 1000 for value in study.MARKS]


def test_of_several_b_values_that_near_1000_is_taken(tmp_path: Path) -> None:
    person, uid = study.Person(), study.generate_uid()
    shape, affine = study.box((3, 3, 4))
    for number, b_value in enumerate((0.0, 1000.0, 3000.0)):
        tags = {**study.ADC, "DiffusionBValue": b_value}
        person.series = 0
        array = study.head(shape, affine) + 1000 * number
        study.write_series(tmp_path / f"mr/{number}", person, array, affine, tags, uid=uid)
    candidate, path = take(tmp_path / "mr")
    assert (candidate.finding.name, candidate.part) == ("dwi", 2)
    assert study.marks(path) == [value + 1000 for value in study.MARKS]


def test_an_enhanced_image_is_read(tmp_path: Path) -> None:
    shape, affine = study.box((3, 3, 4))
    paths = study.write_series(tmp_path / "old", study.Person(), study.head(shape, affine), affine, study.FLAIR)
    (tmp_path / "mr").mkdir()
    study.write_enhanced(paths, tmp_path / "mr" / "enhanced")
    candidate, path = take(tmp_path / "mr")
    assert candidate.finding.name == "flair"
    assert study.marks(path) == study.MARKS


def test_a_series_in_time_is_not_taken(tmp_path: Path) -> None:
    person, uid = study.Person(), study.generate_uid()
    shape, affine = study.box((3, 3, 4))
    for number in range(3):
        person.series = 0
        study.write_series(tmp_path / f"mr/{number}", person, study.head(shape, affine), affine, study.T1, uid=uid)
    assert "about 3 images at each place" in refused(tmp_path / "mr")
