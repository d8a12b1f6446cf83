"""Reading one image file, and refusing what is none."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from cgckit.errors import BadInputError
from cgckit.images.volume import Volume


@pytest.fixture
def array():
    return np.random.default_rng(0).normal(100, 20, size=(6, 7, 8)).astype(np.float32)


def save(path, array):
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def assert_refused(path, *words):
    """The error is one line that names the file and says the words."""
    with pytest.raises(BadInputError) as caught:
        Volume.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for word in words:
        assert word in message
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nifti_files_are_read_with_their_grid(tmp_path, array, name, kind):
    affine = np.array([[0, -2, 0, 5], [1.5, 0, 0, -3], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    nib.save(kind(array, affine), tmp_path / name)
    volume = Volume.load(tmp_path / name)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.grid.affine, affine, atol=1e-5)
    np.testing.assert_allclose(volume.grid.spacing, (1.5, 2, 3), rtol=1e-6)


def test_slope_and_intercept_are_applied(tmp_path):
    stored = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(0.5, -20)
    nib.save(image, tmp_path / "a.nii.gz")
    on_disk = nib.load(tmp_path / "a.nii.gz").dataobj
    raw = np.asarray(on_disk.get_unscaled(), dtype=np.float64)
    expected = raw * on_disk.slope + on_disk.inter
    assert (on_disk.slope, on_disk.inter) != (1, 0)
    np.testing.assert_allclose(Volume.load(tmp_path / "a.nii.gz").array, expected, rtol=1e-6)


def test_a_fourth_axis_of_one_volume_is_accepted(tmp_path, array):
    volume = Volume.load(save(tmp_path / "a.nii.gz", array[..., None]))
    np.testing.assert_array_equal(volume.array, array)
    assert volume.grid.shape == array.shape


def test_several_volumes_are_refused(tmp_path, array):
    assert_refused(save(tmp_path / "a.nii.gz", np.stack([array, array], axis=-1)), "several volumes")


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1)])
def test_a_2d_image_is_refused(tmp_path, shape):
    assert_refused(save(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=shape)), "2-D")


def test_a_missing_file_is_refused(tmp_path):
    assert_refused(tmp_path / "nobody.nii.gz", "no such file")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_something_else_than_nifti_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("this is a letter to the editor, longer than a header" * 20)
    assert_refused(path, "NIfTI")


def test_another_image_format_is_refused(tmp_path, array):
    (tmp_path / "a.mnc").write_bytes(b"CDF" + bytes(1000))
    assert_refused(tmp_path / "a.mnc", "not a NIfTI")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_a_truncated_file_is_refused(tmp_path, array, name, kept):
    path = save(tmp_path / name, array)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert_refused(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, array, value):
    array[1, 2, 3] = value
    assert_refused(save(tmp_path / "a.nii.gz", array), "NaN or infinite")


def test_a_constant_image_is_refused_unless_it_may_be_one(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.full((4, 4, 4), 7, np.int16))
    assert_refused(path, "every voxel is 7")
    assert (Volume.load(path, allow_constant=True).array == 7).all()


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_complex_and_rgb_voxels_are_refused(tmp_path, dtype):
    assert_refused(save(tmp_path / "a.nii.gz", np.zeros((4, 4, 4), dtype)), "complex or RGB")


@pytest.mark.parametrize("second", [(0, 0, 0), (1, 1, 0)], ids=["no second axis", "two parallel axes"])
def test_a_singular_affine_is_refused(tmp_path, array, second):
    header = nib.Nifti1Image(array, np.eye(4)).header
    header["sform_code"] = 1
    rows = np.column_stack([(1, 1, 0), second, (0, 0, 1), (0, 0, 0)])
    header["srow_x"], header["srow_y"], header["srow_z"] = rows
    nib.save(nib.Nifti1Image(array, None, header), tmp_path / "a.nii.gz")
    assert_refused(tmp_path / "a.nii.gz", "singular")
