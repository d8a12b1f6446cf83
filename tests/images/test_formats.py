"""Image files that are not what their name or header says, and other formats than NIfTI: read right, or refused."""

from __future__ import annotations

import gzip
import logging
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError
from cgckit.images.cohort import Cohort
from cgckit.images.volume import Volume, header_of

AFFINE = np.array([[-0.9, 0.1, 0, 12], [0.1, 1.1, 0, -7], [0, 0, 3, 5], [0, 0, 0, 1.0]])


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, (9, 10, 11)).astype(np.float32)


def assert_read(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    volume = Volume.load(path)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.grid.affine, affine, atol=1e-5)


def assert_written_on_its_grid(path: Path, folder: Path, affine: np.ndarray = AFFINE) -> nib.Nifti1Image:
    """A mask on the image's grid can be read by anybody."""
    shape = Volume.load(path).grid.shape
    written = nib.load(Derivatives.create(folder).write_mask("p", np.ones(shape), path))
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    np.testing.assert_allclose(written.header.get_zooms(), np.linalg.norm(affine[:3, :3], axis=0), rtol=1e-5)
    written.get_qform()
    return written


# ---- the name and the content


def test_a_compressed_file_is_told_by_its_content(tmp_path: Path, array: np.ndarray) -> None:
    plain, packed = tmp_path / "plain.nii", tmp_path / "packed.nii.gz"
    nib.save(nib.Nifti1Image(array, AFFINE), plain)
    nib.save(nib.Nifti1Image(array, AFFINE), packed)
    plain.rename(tmp_path / "a.nii.gz")
    packed.rename(tmp_path / "b.nii")
    for name in ("a.nii.gz", "b.nii"):
        assert_read(tmp_path / name, array)
        assert_written_on_its_grid(tmp_path / name, tmp_path / "out")


def test_a_damaged_stream_is_refused_whatever_the_name(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    content = path.read_bytes()
    for cut in (3, len(content) // 2, len(content) - 1):
        (tmp_path / "b.nii").write_bytes(content[:cut])
        with pytest.raises(BadInputError, match=r"b\.nii"):
            Volume.load(tmp_path / "b.nii")


# ---- other formats


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
def test_images_of_freesurfer(tmp_path: Path, array: np.ndarray, name: str) -> None:
    rigid = np.diag([-1.0, 1.0, 3.0, 1.0])
    nib.save(nib.MGHImage(array, rigid), tmp_path / name)
    assert_read(tmp_path / name, array, rigid)
    assert_written_on_its_grid(tmp_path / name, tmp_path / "out", rigid)


def test_a_nifti_pair(tmp_path: Path, array: np.ndarray) -> None:
    nib.save(nib.Nifti1Pair(array, AFFINE), tmp_path / "p_flair.hdr")
    assert_read(tmp_path / "p_flair.hdr", array)
    assert_written_on_its_grid(tmp_path / "p_flair.hdr", tmp_path / "out")
    for given in (tmp_path / "p_flair.img", tmp_path / "p_flair.hdr"):
        (subject,) = Cohort.find(given)
        assert list(subject.all_files) == ["flair", "flair voxels"]
    before = subject.fingerprint()
    nib.save(nib.Nifti1Pair(array + 1, AFFINE), tmp_path / "p_flair.hdr")
    assert Cohort.find(tmp_path / "p_flair.hdr")[0].fingerprint() != before
    (tmp_path / "p_flair.img").unlink()
    with pytest.raises(BadInputError, match=r"p_flair\.img: no such file"):
        Volume.load(tmp_path / "p_flair.hdr")


def test_analyze_is_read_with_a_warning_about_its_sides(tmp_path: Path, array: np.ndarray, caplog: Any) -> None:
    image = nib.AnalyzeImage(array, None)
    image.header.set_zooms((1, 2, 3))
    nib.save(image, tmp_path / "a.hdr")
    (tmp_path / "a.mat").unlink(missing_ok=True)
    affine = nib.load(tmp_path / "a.hdr").affine
    assert_read(tmp_path / "a.hdr", array, affine)
    assert "which side is left" in caplog.text
    assert_written_on_its_grid(tmp_path / "a.hdr", tmp_path / "out", affine)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_images_of_itk(tmp_path: Path, array: np.ndarray, name: str) -> None:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    nib.save(nib.Nifti1Image(array, np.diag([-0.9, 1.1, 3, 1])), tmp_path / "a.nii")
    itk.WriteImage(itk.ReadImage(str(tmp_path / "a.nii")), str(tmp_path / name))
    assert_read(tmp_path / name, array, np.diag([-0.9, 1.1, 3, 1]))
    assert_written_on_its_grid(tmp_path / name, tmp_path / "out", np.diag([-0.9, 1.1, 3, 1]))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / name).write_bytes(b"NRRD0004\nno header")
    with pytest.raises(BadInputError, match="not a readable image"):
        Volume.load(tmp_path / "b" / name)


def test_what_reads_itk_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\n")
    with pytest.raises(BadInputError, match=r"pip install 'cgckit\[prepare\]'"):
        Volume.load(tmp_path / "a.nrrd")


@pytest.mark.parametrize("name", ["a.mgz", "a.hdr"])
def test_a_damaged_file_of_another_format_is_one_line(tmp_path: Path, array: np.ndarray, name: str) -> None:
    kind = nib.MGHImage if name == "a.mgz" else nib.AnalyzeImage
    nib.save(kind(array, np.diag([1.0, 1, 1, 1])), tmp_path / name)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInputError) as caught:
        Volume.load(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


# ---- headers that are broken in part


def change(path: Path, array: np.ndarray, *fields: tuple[int, str, tuple[float, ...]]) -> Path:
    """Write an image with an affine, whose header has other values at some offsets."""
    image = nib.Nifti1Image(array, AFFINE)
    image.set_sform(AFFINE, 1)
    nib.save(image, path)
    content = bytearray(gzip.decompress(path.read_bytes()))
    for offset, form, values in fields:
        struct.pack_into(form, content, offset, *values)
    path.write_bytes(gzip.compress(content))
    return path


BROKEN = {
    "quaternion": [(252, "<h", (1,)), (256, "<3f", (0.9, 0.9, 0.9))],
    "quaternion of NaN": [(252, "<h", (1,)), (256, "<3f", (float("nan"),) * 3)],
    "spacing of 0": [(80, "<3f", (0, 0, 0))],
    "spacing of NaN": [(80, "<3f", (float("nan"),) * 3)],
    "both": [(80, "<3f", (0, 0, 0)), (252, "<h", (1,)), (256, "<3f", (0.9, 0.9, 0.9))],
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_header_that_is_broken_beside_a_sound_affine_comes_out_clean(
    tmp_path: Path, array: np.ndarray, fault: str, caplog: Any, capfd: Any
) -> None:
    path = change(tmp_path / "a.nii.gz", array, *BROKEN[fault])
    with caplog.at_level(logging.DEBUG):
        assert_read(path, array)
        written = assert_written_on_its_grid(path, tmp_path / "out")
    assert "pixdim" not in caplog.text + capfd.readouterr().err, "the library's own warnings are not shown"
    again = nib.load(written.get_filename())
    assert np.isfinite(again.header["pixdim"]).all()
    assert header_of(Path(written.get_filename())) is not None


def test_a_quaternion_that_is_off_by_rounding_is_put_right(tmp_path: Path, array: np.ndarray) -> None:
    # A turn by 180 degrees about z, and no affine beside it.
    path = change(tmp_path / "a.nii.gz", array, (252, "<2h", (1, 0)), (256, "<3f", (0, 0, 1.0001)))
    grid = Volume.load(path).grid
    np.testing.assert_allclose(grid.affine[:2, :2] / grid.spacing[:2], [[-1, 0], [0, -1]], atol=1e-6)


def test_an_orientation_that_nothing_tells_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    path = change(tmp_path / "a.nii.gz", array, (252, "<2h", (1, 0)), (256, "<3f", (0.9, 0.9, 0.9)))
    with pytest.raises(BadInputError, match="orientation cannot be read"):
        Volume.load(path)
