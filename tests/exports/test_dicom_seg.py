"""Refined masks as DICOM segmentations: on the right pixels of the right slices, whatever was resampled in between."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom is not in this environment")
pytest.importorskip("dcm2niix", reason="dcm2niix is not in this environment")
pytest.importorskip("highdicom", reason="highdicom is not in this environment")

import dicom_study as study
import highdicom as hd
import pydicom

from cgckit import BadInputError
from cgckit.cli.main import main
from cgckit.derivatives import Derivatives
from cgckit.dicom import import_dicom
from cgckit.exports.dicom_seg import export_dicom_seg
from cgckit.sealed import write_json


def run_on(scans: Path, out: Path, empty: bool = False) -> Path:
    """A run whose masks are the marks and the ball of the phantom: all that is brighter than its head."""
    results = Derivatives.create(out)
    rows = []
    for path in sorted(scans.rglob("*.nii.gz")):
        image = nib.load(path)
        array = np.asarray(image.dataobj)
        label = path.name.split("_")[0].removeprefix("sub-")
        bright = array > (-850 if path.name.endswith("_ct.nii.gz") else 150)
        results.write_mask(label, bright & (not empty), path)
        results.write_probability(label, bright * np.float32(not empty), path)
        rows.append({"participant_id": f"sub-{label}", "source": label})
    results.write_table("participants.tsv", rows)
    write_json(out / "run.json", {"status": "complete", "options": {"modalities": ["ct"]}})
    return out


def segmented(path: Path, files: list[Path]) -> np.ndarray:
    """The segmentation of each of the files' images, [files, rows, columns], found by what it refers to."""
    found = hd.seg.segread(path)
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files]
    return np.asarray(found.get_pixels_by_source_instance(uids, ignore_spatial_locations=True, segment_numbers=[1]))[
        ..., 0
    ]


SHAPES = {
    "sagittal": study.box((3, 3, 4), study.SAGITTAL),
    "coronal": study.box((3, 3, 4), study.CORONAL),
}


@pytest.mark.parametrize("plane", SHAPES)
def test_pixels_are_those_of_the_lesion(tmp_path: Path, plane: str) -> None:
    shape, affine = SHAPES[plane]
    array = study.head(shape, affine)
    files = study.write_series(tmp_path / "dicom", study.Person(), array, affine, study.FLAIR)
    scans = import_dicom(tmp_path / "dicom", tmp_path / "scans").out
    (done,) = export_dicom_seg(run_on(scans, tmp_path / "run"), tmp_path / "seg", tmp_path / "dicom")
    found = segmented(done.path, files)
    np.testing.assert_array_equal(found > 0, (array > 150).transpose(2, 1, 0))
    assert done.slices == (array > 150).any(axis=(0, 1)).sum()


def test_the_segmentation_belongs_to_the_patient_and_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, affine = SHAPES["coronal"]
    files = study.write_series(tmp_path / "dicom", study.Person(), study.head(shape, affine), affine, study.FLAIR)
    scans = import_dicom(tmp_path / "dicom", tmp_path / "scans").out
    (done,) = export_dicom_seg(run_on(scans, tmp_path / "run"), tmp_path / "seg", tmp_path / "dicom")
    one, other = pydicom.dcmread(done.path), pydicom.dcmread(files[0])
    arguments = ["export", "dicom-seg", tmp_path / "run", tmp_path / "more", "--dicom", tmp_path / "dicom"]
    monkeypatch.setattr(sys, "argv", ["cgckit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code in (None, 0)
    assert (tmp_path / "more" / done.path.name).is_file(), "the command writes the same"
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert one[name].value == other[name].value
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    assert one.Modality == "SEG"
    assert done.path.name == "sub-001.dcm"


def test_a_mask_goes_back_to_tilted_slices(tmp_path: Path) -> None:
    shape, affine = study.tilted(-15, (2, 2, 4))
    array = study.head(shape, affine) - 1000
    tags = {"KVP": 120}
    files = study.write_series(tmp_path / "dicom", study.Person(), array, affine, tags, modality="CT", intercept=-1024)
    scans = import_dicom(tmp_path / "dicom", tmp_path / "scans").out
    (done,) = export_dicom_seg(run_on(scans, tmp_path / "run"), tmp_path / "seg", tmp_path / "dicom")
    found = segmented(done.path, files) > 0
    truth = (array > -850).transpose(2, 1, 0)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.93  # half a pixel at each edge


def test_no_lesion_is_no_file_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shape, affine = SHAPES["coronal"]
    study.write_series(tmp_path / "dicom", study.Person(), study.head(shape, affine), affine, study.FLAIR)
    scans = import_dicom(tmp_path / "dicom", tmp_path / "scans").out
    run = run_on(scans, tmp_path / "run", empty=True)
    assert export_dicom_seg(run, tmp_path / "seg", tmp_path / "dicom") == []
    assert "no lesion" in caplog.text


def test_other_dicom_files_are_refused(tmp_path: Path) -> None:
    shape, affine = SHAPES["coronal"]
    study.write_series(tmp_path / "dicom", study.Person(), study.head(shape, affine), affine, study.FLAIR)
    scans = import_dicom(tmp_path / "dicom", tmp_path / "scans").out
    shape, affine = SHAPES["sagittal"]
    study.write_series(tmp_path / "other", study.Person("P2"), study.head(shape, affine), affine, study.FLAIR)
    with pytest.raises(BadInputError, match="was not made by cgckit dicom"):
        export_dicom_seg(run_on(scans, tmp_path / "run"), tmp_path / "seg", tmp_path / "other")


def test_a_header_that_lacks_what_the_standard_asks_for_is_told_without_its_words(tmp_path: Path) -> None:
    shape, affine = SHAPES["coronal"]
    files = study.write_series(tmp_path / "dicom", study.Person(), study.head(shape, affine), affine, study.FLAIR)
    for path in files:
        file = pydicom.dcmread(path)
        del file.FrameOfReferenceUID
        file.save_as(path)
    scans = import_dicom(tmp_path / "dicom", tmp_path / "scans").out
    with pytest.raises(BadInputError, match="highdicom makes no segmentation") as caught:
        export_dicom_seg(run_on(scans, tmp_path / "run"), tmp_path / "seg", tmp_path / "dicom")
    assert not any(secret in str(caught.value) for secret in study.SECRETS)


def test_an_enhanced_image_is_segmented_frame_by_frame(tmp_path: Path) -> None:
    shape, affine = SHAPES["coronal"]
    array = study.head(shape, affine)
    paths = study.write_series(tmp_path / "old", study.Person(), array, affine, study.FLAIR)
    (tmp_path / "dicom").mkdir()
    study.write_enhanced(paths[::-1], tmp_path / "dicom" / "enhanced")
    scans = import_dicom(tmp_path / "dicom", tmp_path / "scans").out
    (done,) = export_dicom_seg(run_on(scans, tmp_path / "run"), tmp_path / "seg", tmp_path / "dicom")
    found = hd.seg.segread(done.path)
    uid = pydicom.dcmread(tmp_path / "dicom" / "enhanced").SOPInstanceUID
    frames = list(range(1, len(paths) + 1))
    options = {"ignore_spatial_locations": True, "assert_missing_frames_are_empty": True, "segment_numbers": [1]}
    pixels = found.get_pixels_by_source_frame(uid, frames, **options)
    np.testing.assert_array_equal(np.asarray(pixels)[::-1, :, :, 0] > 0, (array > 150).transpose(2, 1, 0))
