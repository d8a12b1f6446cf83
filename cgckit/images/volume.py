"""`Volume`: one three-dimensional image file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from cgckit.arrays import DoubleArray, FloatArray
from cgckit.errors import BadInputError
from cgckit.images.grid import Grid
from cgckit.images.nifti import check_affine, grid_of, header_of, read_voxels

__all__ = ["Volume", "grid_of", "header_of"]

# Squares of such values still fit float32; no scanner's unit is this small.
_LARGEST = 1e15


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
    def load(cls, path: str | Path, *, allow_constant: bool = False, volume: int | None = None) -> Volume:
        """Read an image file: NIfTI-1 or NIfTI-2, compressed or not, or another format of `cgckit.images.formats`.

        Args:
            path: the file; a fourth axis is accepted if it holds one volume.
            allow_constant: accept an image of one value, as an empty mask is.
            volume: the one to take of a file that holds several, counted from 0.

        Raises:
            BadInputError: if the file is missing, damaged or no image; if the image is not one real-valued
                volume, has NaN or infinite values or one value everywhere; if the affine is singular.
        """
        path = Path(path)
        image, array = read_voxels(path, volume)
        return cls._of(image.header, array, path, allow_constant)

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
            check_affine(matrix, Path(name))
            image = nib.Nifti1Image(values, matrix)
            image.header.set_xyzt_units("mm")
        grid_of(image.header, Path(name))
        file = image.get_filename()
        if nib.is_proxy(image.dataobj) and file is not None:  # not read yet, so nobody looked at its checksum
            array = read_voxels(Path(file))[1]
            if array.shape != image.shape:
                raise BadInputError(f"{name}: {file} is another image by now; load it anew")
        else:
            with np.errstate(all="ignore"):
                array = image.get_fdata(dtype=np.float32, caching="unchanged")
        return cls._of(image.header, array, Path(name), allow_constant)

    def copy(self) -> Volume:
        """The same in memory of its own, for whoever might change it; the values are in the same order."""
        array = self.array.copy(order="K")
        array.flags.writeable = False
        return replace(self, array=array, header=self.header.copy())

    @classmethod
    def _of(cls, header: nib.Nifti1Header, array: FloatArray, path: Path, allow_constant: bool) -> Volume:
        grid = grid_of(header, path)
        array = array.reshape(grid.shape, order="F")
        low, high = float(array.min()), float(array.max())  # NaN, if anywhere, wins in both
        if not (np.isfinite(low) and np.isfinite(high)):
            raise BadInputError(f"{path}: holds NaN or infinite values; replace them, for instance by 0")
        if low == high and not allow_constant:
            raise BadInputError(f"{path}: every voxel is {low:g}; there is no image in this file")
        if max(-low, high) > _LARGEST:
            raise BadInputError(f"{path}: values up to {max(-low, high):.0e} are no intensities; rescale the image")
        array.flags.writeable = False  # it is handed to plug-ins
        return cls(array, grid, header, path)


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
