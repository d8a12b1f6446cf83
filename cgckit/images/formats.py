"""Image formats besides NIfTI, brought to the form of NIfTI: Analyze, FreeSurfer's MGH and MGZ, NRRD and MetaImage."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.imageglobals import logger as library

from cgckit.errors import BadInputError

logger = logging.getLogger(__name__)

_MGH, _ITK = (".mgh", ".mgz"), (".nrrd", ".nhdr", ".mha", ".mhd")
_DETACHED = re.compile(rb"^(?:data ?file|ElementDataFile)\s*[:=]\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
# From the patient's left, back and feet, as ITK counts, to NIfTI's right, front and head.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def is_foreign(path: Path) -> bool:
    """Whether a file is none of NIfTI, a NIfTI pair of `.hdr` and `.img` included."""
    if path.suffix.lower() != ".hdr":
        return path.suffix.lower() in (*_MGH, *_ITK)
    try:
        with path.open("rb") as file:
            return file.read(348)[344:347] not in (b"ni1", b"n+1")
    except OSError:
        return False


def voxels_beside(path: Path) -> Path | None:
    """The file of the voxels, for formats that keep the header in a file of its own; None for others."""
    suffix = path.suffix.lower()
    if suffix == ".hdr":
        names = (path.with_suffix(ending) for ending in (".img", ".IMG", ".img.gz"))
        return next((name for name in names if name.exists()), path.with_suffix(".img"))
    if suffix not in (".nhdr", ".mhd"):
        return None
    try:
        match = _DETACHED.search(path.read_bytes()[: 2**16])
    except OSError:
        return None
    name = "LOCAL" if match is None else match[1].decode(errors="replace")
    return None if name.upper().startswith(("LOCAL", "LIST")) else path.with_name(name)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep nibabel from logging what is wrong with a header: what matters is said here, once, or mended."""
    level = library.level
    library.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        library.setLevel(level)


def open_foreign(path: Path) -> nib.Nifti1Image:
    """Open an image of another format as if it were NIfTI; its voxels are read when they are asked for, if possible.

    Analyze files do not say which side is left: as nibabel and SPM do, the first voxel of a row is taken for the right.

    Raises:
        BadInputError: it cannot be read, or what reads it is not installed.
    """
    if path.suffix.lower() in _ITK:
        return _from_itk(path)
    try:
        with quiet():
            image: Any = nib.load(path)
            affine, header = np.asarray(image.affine, dtype=np.float64), nib.Nifti1Header()
            header.set_data_dtype(image.get_data_dtype())
            header.set_xyzt_units("mm")
            found = nib.Nifti1Image(image.dataobj, affine, header)
    except Exception as error:  # nibabel has many ways to say so
        raise BadInputError(f"{path}: not a readable image; convert it to .nii.gz") from error
    if path.suffix.lower() == ".hdr":
        logger.warning("%s: an Analyze file, which does not say which side is left; look at the result", path)
    return found


def _from_itk(path: Path) -> nib.Nifti1Image:
    try:
        import SimpleITK
    except ImportError as error:
        raise BadInputError(
            f"{path}: SimpleITK reads such files, which is not installed; pip install 'cgckit[prepare]', or convert it"
        ) from error
    try:
        image = SimpleITK.ReadImage(str(path))
        array = SimpleITK.GetArrayFromImage(image).T
        size = image.GetDimension()
        affine = np.eye(4)
        directions = np.reshape(image.GetDirection(), (size, size))[:3, :3]
        affine[:3, :3] = directions @ np.diag(image.GetSpacing()[:3])
        affine[:3, 3] = image.GetOrigin()[:3]
    except (RuntimeError, ValueError) as error:
        raise BadInputError(f"{path}: not a readable image; convert it to .nii.gz") from error
    if array.dtype in (np.int64, np.uint64):
        array = array.astype(np.float32)  # NIfTI has no name for them that all readers know
    found = nib.Nifti1Image(array, _LPS_TO_RAS @ affine)
    found.header.set_xyzt_units("mm")
    return found
