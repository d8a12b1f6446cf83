"""`Volume`: one three-dimensional image file."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from cgckit.arrays import DoubleArray, FloatArray
from cgckit.errors import BadInputError
from cgckit.images.grid import Grid

_UNREADABLE = (ImageFileError, HeaderDataError, EOFError, OSError, ValueError, zlib.error)


@dataclass(frozen=True, eq=False)
class Volume:
    """One image as it is in its file.

    Attributes:
        array: [H, W, L] float32, in the file's own orientation, slope and intercept applied; not to be written to.
        grid: shape and affine of `array`.
        header: the file's NIfTI header; outputs on this grid copy it.
        path: the file, or what messages call an image that was made in memory.
    """

    array: FloatArray
    grid: Grid
    header: nib.Nifti1Header
    path: Path

    @classmethod
    def load(cls, path: str | Path, *, allow_constant: bool = False) -> Volume:
        """Read a NIfTI-1 or NIfTI-2 file, compressed or not.

        Args:
            path: the file; a fourth axis is accepted if it holds one volume.
            allow_constant: accept an image of one value, as an empty mask is.

        Raises:
            BadInputError: if the file is missing, damaged or no NIfTI; if the image is not one real-valued
                volume, has NaN or infinite values or one value everywhere; if the affine is singular.
        """
        path = Path(path)
        return cls._read(open_nifti(path), path, allow_constant)

    @classmethod
    def of(
        cls,
        image: nib.Nifti1Image | npt.ArrayLike,
        affine: npt.ArrayLike | None,
        name: str,
        *,
        allow_constant: bool = False,
    ) -> Volume:
        """Take an image from memory.

        Args:
            image: [H, W, L] values, or a NIfTI image of nibabel, which has an affine of its own.
            affine: [4, 4], voxel indices to world coordinates (RAS+, mm), for values without one.
            name: what messages call it.
            allow_constant: as in `load`.

        Raises:
            BadInputError: as `load`, or the affine is missing or no [4, 4] matrix.
        """
        if not isinstance(image, nib.Nifti1Pair):
            values = np.asarray(image)
            matrix = _matrix(affine, name)
            if values.dtype.kind == "b" or values.dtype in (np.int64, np.uint64, np.float16, np.longdouble):
                values = values.astype(np.float32)  # which NIfTI has no name for, or nibabel asks about
            if values.dtype.kind not in "iuf":
                raise BadInputError(f"{name}: voxels of type {values.dtype}; give real numbers")
            _check_affine(matrix, Path(name))
            image = nib.Nifti1Image(values, matrix)
            image.header.set_xyzt_units("mm")
        return cls._read(image, Path(name), allow_constant)

    @classmethod
    def _read(cls, image: nib.Nifti1Pair, path: Path, allow_constant: bool) -> Volume:
        grid = grid_of(image.header, path)
        try:
            array = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(grid.shape, order="F")
        except _UNREADABLE as error:
            raise BadInputError(f"{path}: the image data are damaged or cut short; copy the file again") from error
        low, high = float(array.min()), float(array.max())  # NaN, if anywhere, wins in both
        if not (np.isfinite(low) and np.isfinite(high)):
            raise BadInputError(f"{path}: holds NaN or infinite values; replace them, for instance by 0")
        if low == high and not allow_constant:
            raise BadInputError(f"{path}: every voxel is {low:g}; there is no image in this file")
        array.flags.writeable = False  # it is handed to plug-ins
        return cls(array, grid, image.header, path)


def _matrix(affine: npt.ArrayLike | None, name: str) -> DoubleArray:
    """The affine as a matrix; BadInputError, naming `name`, if there is none, or it is not [4, 4]."""
    if affine is None:
        raise BadInputError(f"{name}: give affine=, the [4, 4] matrix from voxels to mm")
    try:
        matrix = np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadInputError(f"{name}: affine={affine!r} is no [4, 4] matrix of numbers") from None
    if matrix.shape != (4, 4):
        raise BadInputError(f"{name}: affine is a matrix of {list(matrix.shape)}, not [4, 4]")
    return matrix


def open_nifti(path: Path) -> nib.Nifti1Pair:
    """Open a NIfTI file without reading its voxels; BadInputError if it is missing or none."""
    if not path.exists():
        raise BadInputError(f"{path}: no such file")
    try:
        image = nib.load(path)
    except _UNREADABLE as error:
        raise BadInputError(f"{path}: not a readable NIfTI file; give .nii or .nii.gz images") from error
    if not isinstance(image, nib.Nifti1Pair):
        raise BadInputError(f"{path}: not a NIfTI file; convert it to .nii.gz")
    return image


def grid_of(header: nib.Nifti1Header, path: Path) -> Grid:
    """Return the grid of a header; BadInputError, naming `path`, if it does not describe one real volume."""
    shape = tuple(int(size) for size in header.get_data_shape())
    if header.get_data_dtype().kind not in "iufb":
        raise BadInputError(f"{path}: voxels are complex or RGB; give an image of one real value a voxel")
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise BadInputError(f"{path}: a 2-D image (shape {shape}); volumes are needed")
    if any(size != 1 for size in shape[3:]):
        raise BadInputError(f"{path}: holds several volumes (shape {shape}); split it into one file for each")
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise BadInputError(f"{path}: the header's orientation cannot be read; write its affine anew") from error
    _check_affine(affine, path)
    return Grid((shape[0], shape[1], shape[2]), affine)


def _check_affine(affine: DoubleArray, path: Path) -> None:
    """Raise BadInputError, naming `path`, for an affine that maps different voxels to one point."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    # Normalised by the edges, so that neither small voxels nor thick slices count as singular.
    if not np.isfinite(affine).all() or not edges.all() or abs(np.linalg.det(affine[:3, :3] / edges)) < 1e-3:
        raise BadInputError(f"{path}: the affine is singular; write the image with a valid orientation")
