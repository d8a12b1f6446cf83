"""NIfTI files, which may be damaged or made to harm: what a header claims is judged before anything is read by it."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from cgckit.arrays import DoubleArray, FloatArray
from cgckit.errors import BadInputError
from cgckit.images.files import check_file
from cgckit.images.formats import is_foreign, open_foreign, quiet, voxels_beside
from cgckit.images.grid import Grid

_HEADERS = {348: nib.Nifti1Image, 540: nib.Nifti2Image}
# Whole heads at a quarter of a millimetre have 3e8; in float32, as images are worked on, these are 2 GiB.
_MOST_VOXELS = 2**29
# A head on 4 m of a scanner's table is a mistake of units, and so is a voxel thinner than a hair [mm].
_EDGES, _LONGEST, _LARGEST_ML, _FARTHEST = (0.02, 30.0), 2500.0, 1e6, 1e5
# Where the voxels begin at the latest: after the header and its extensions, as a scanner's protocol [bytes].
_LATEST_VOXEL = 2**26
# What may follow the voxels: some writers fill up a block with zeros [bytes].
_PADDING = 2**16
# What a byte of a gzip file can stand for at most.
_DEFLATE = 1032
# What git-annex and Git LFS leave in place of a file that was not fetched.
_POINTERS = (b"/annex/objects/", b"version https://git-lfs")
_GZIP = b"\x1f\x8b"
# A quaternion whose squares add up to more than 1 by rounding.
_ROUNDED = 1.01


def header_of(path: Path) -> nib.Nifti1Header:
    """The header of an image, to be copied before it is changed; no voxel is read.

    The headers that were read last are remembered for as long as their files stay what they are: each is asked for by
    several, and on a file system in a network it is the opening that takes long.

    Raises:
        BadInputError: the file is missing or no regular file, cannot be read, is none, or claims what no file can hold.
    """
    check_file(path)
    key = _key(path)
    known = _REMEMBERED.get(key)
    if known is None:
        with _opened(path) as (_, image):
            known = image.header
        _remember(key, known)
    return known


def note_header(path: Path, file: BinaryIO) -> None:
    """Have `header_of` remember what an open file begins with; where that is no header, it says so when it is asked."""
    if is_foreign(path) or voxels_beside(path) is not None:
        return
    file.seek(0)
    with suppress(BadInputError), _unpacked(path, file) as (stream, packed):
        _remember(_key(path), _header(stream.read(max(_HEADERS)), path, _room(path, packed))[1])


_Key = tuple[Path, int, int, int, int]
_REMEMBERED: OrderedDict[_Key, nib.Nifti1Header] = OrderedDict()
_MOST_REMEMBERED = 256


def _key(path: Path) -> _Key:
    """What tells a file, as it is, from any other."""
    status = path.stat()
    return path.absolute(), status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


def _remember(key: _Key, header: nib.Nifti1Header) -> None:
    _REMEMBERED[key] = header
    while len(_REMEMBERED) > _MOST_REMEMBERED:
        _REMEMBERED.popitem(last=False)


def read_voxels(path: Path, volume: int | None = None) -> tuple[nib.Nifti1Pair, FloatArray]:
    """The image, and its values as float32 in the file's own shape, slope and intercept applied.

    With `volume`, image and values are that one of several. The file is read to its end, where gzip keeps its
    checksum: a damaged stream is refused, and so is a file that holds more than its header says.

    Raises:
        BadInputError: as `open_nifti` and `grid_of`; the voxels are damaged, too few or too many.
    """
    with _opened(path) as (stream, image):
        grid_of(image.header, path, volume)
        try:
            with np.errstate(all="ignore"):  # what does not fit float32 is refused as infinite
                array: FloatArray = image.get_fdata(dtype=np.float32, caching="unchanged")
            rest = stream.read(_PADDING + 1)
        except MemoryError as error:
            raise BadInputError(f"{path}: does not fit this machine's memory") from error
        except Exception as error:  # nibabel, gzip and zlib have many ways to say so
            raise BadInputError(f"{path}: the image data are damaged or cut short; copy the file again") from error
        if len(rest) > _PADDING or any(rest):
            raise BadInputError(f"{path}: holds more than its header says: it is damaged; copy or convert it again")
    if volume is None:
        return image, array
    header = image.header.copy()
    header.set_data_shape(array.shape[:3])
    return nib.Nifti1Image(array[..., volume], None, header), array[..., volume]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A file's decompressed content, and the image that reads from it; errors as `open_nifti`."""
    check_file(path)
    if is_foreign(path):
        yield io.BytesIO(), open_foreign(path)
        return
    voxels = voxels_beside(path)
    if voxels is None:
        head = None
    else:
        check_file(voxels)
        with _opening(path) as file, _unpacked(path, file) as (stream, _):
            head = stream.read(max(_HEADERS))
    with _opening(voxels or path) as file, _unpacked(path, file) as (stream, packed):
        try:
            kind, header = _header(head or stream.read(max(_HEADERS)), path, _room(voxels or path, packed))
            # Without the header's extensions, which describe the acquisition and may be of any size.
            image = kind(ArrayProxy(stream, header, mmap=False), None, header)
        except (BadInputError, EOFError, OSError, zlib.error):
            raise
        except Exception as error:
            raise BadInputError(f"{path}: not a readable NIfTI file; give .nii or .nii.gz images") from error
        yield stream, image


@contextmanager
def _opening(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes; BadInputError if it cannot be opened."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error
    with file:
        yield file


@contextmanager
def _unpacked(path: Path, file: BinaryIO) -> Iterator[tuple[Any, bool]]:
    """What is in an open file, and whether it is packed, whatever its name says.

    Raises:
        BadInputError: it is not, after all, or is cut short, or cannot be read.
    """
    packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    try:
        with gzip.GzipFile(fileobj=file) if packed else nullcontext(file) as stream:
            yield stream, packed
    except OSError as error:  # gzip's own has no number
        what = error.strerror or "not a readable NIfTI file; give .nii or .nii.gz images"
        raise BadInputError(f"{path}: cannot be read ({what})") from error
    except (EOFError, zlib.error) as error:
        raise BadInputError(f"{path}: not a readable NIfTI file; give .nii or .nii.gz images") from error


def _room(path: Path, packed: bool) -> int:
    """What a file can hold at most, unpacked [bytes]."""
    return path.stat().st_size * (_DEFLATE if packed else 1)


def _header(head: bytes, path: Path, size: int) -> tuple[Any, Any]:
    """What reads a file that begins with `head`, and its header; BadInputError if it claims what no file can hold.

    Args:
        head: of the header's file.
        path: names it in messages.
        size: what the file of the voxels can hold at most [bytes].
    """
    kind = _HEADERS.get(int.from_bytes(head[:4], "little")) or _HEADERS.get(int.from_bytes(head[:4], "big"))
    if head.startswith(_POINTERS):
        raise BadInputError(f"{path}: stands for a file that is not there; fetch it, as with `git annex get`")
    if kind is None:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            raise BadInputError(f"{path}: not a readable NIfTI file; give .nii or .nii.gz images")
        raise BadInputError(f"{path}: not a NIfTI file; convert it to .nii.gz")
    with quiet():
        header = kind.header_class(head[: kind.header_class.template_dtype.itemsize])
    offset = float(header["vox_offset"])
    if not 0 <= offset <= _LATEST_VOXEL:
        raise BadInputError(f"{path}: not a readable NIfTI file: its voxels begin at byte {offset:g}")
    voxels = math.prod(max(0, int(edge)) for edge in header.get_data_shape())
    if offset + voxels * header.get_data_dtype().itemsize > size:
        raise BadInputError(f"{path}: too short for what its header says: it is damaged or cut short; copy it again")
    _mend(header, kind.header_class(head[: kind.header_class.template_dtype.itemsize], check=False))
    return kind, header


def _mend(header: nib.Nifti1Header, given: nib.Nifti1Header) -> None:
    """Make a header whole whose orientation is known all the same, so that what copies it can be read.

    A quaternion that is none is left out beside an affine, or put right where it is off by rounding; spacings of 0 are
    those of the affine.
    """
    squares = sum(float(given[f"quatern_{axis}"]) ** 2 for axis in "bcd")
    if not squares <= 1:
        if given["sform_code"] > 0:
            header["qform_code"] = 0
            for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
                header[name] = 0
        elif squares <= _ROUNDED:
            for axis in "bcd":
                header[f"quatern_{axis}"] = given[f"quatern_{axis}"] / math.sqrt(squares)
    edges = np.linalg.norm(header.get_sform()[:3, :3], axis=0) if given["sform_code"] > 0 else np.zeros(3)
    for place, edge in enumerate(edges, 1):
        if not given["pixdim"][place] > 0 and np.isfinite(edge) and edge > 0:
            header["pixdim"][place] = edge


def grid_of(header: nib.Nifti1Header, path: Path, volume: int | None = None) -> Grid:
    """Return the grid of a header; BadInputError, naming `path`, if it does not describe one real volume.

    With `volume`, it must describe several, and that one among them.
    """
    shape = tuple(int(size) for size in header.get_data_shape())
    if header.get_data_dtype().kind not in "iufb":
        raise BadInputError(f"{path}: voxels are complex or RGB; give an image of one real value a voxel")
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise BadInputError(f"{path}: a 2-D image (shape {shape}); volumes are needed")
    if volume is not None and (len(shape) != 4 or volume >= shape[3]):
        raise BadInputError(f"{path}: no volume {volume} in an image of shape {shape}; check the channels' names")
    if volume is None and any(size != 1 for size in shape[3:]):
        raise BadInputError(f"{path}: holds several volumes (shape {shape}); split it into one file for each")
    if math.prod(shape) > _MOST_VOXELS:
        raise BadInputError(
            f"{path}: {' x '.join(map(str, shape[:3]))} voxels are too many; at most {_MOST_VOXELS:.1e}"
        )
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except Exception as error:
        raise BadInputError(f"{path}: the header's orientation cannot be read; write its affine anew") from error
    check_affine(affine, path)
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    _check_size(grid, path)
    return grid


def check_affine(affine: DoubleArray, path: Path) -> None:
    """Raise BadInputError, naming `path`, for an affine that maps different voxels to one point, or far away."""
    with np.errstate(all="ignore"):
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        # Normalised by the edges, so that neither small voxels nor thick slices count as singular.
        volume = np.linalg.det(affine[:3, :3] / edges) if np.isfinite(edges).all() and edges.all() else 0.0
    if not np.isfinite(affine).all() or not abs(volume) >= 1e-3:
        raise BadInputError(f"{path}: the affine is singular; write the image with a valid orientation")
    if np.abs(affine[:3, 3]).max() > _FARTHEST:
        raise BadInputError(f"{path}: the affine's origin is {np.abs(affine[:3, 3]).max():g} mm away; write it anew")


def _check_size(grid: Grid, path: Path) -> None:
    """Raise BadInputError for voxels or a field of view that no scan of a head has."""
    low, high = _EDGES
    if min(grid.spacing) < low or max(grid.spacing) > high:
        edges = " x ".join(f"{edge:g}" for edge in grid.spacing)
        raise BadInputError(f"{path}: voxels of {edges} mm; edges from {low:g} to {high:g} mm are worked with")
    field = [count * edge for count, edge in zip(grid.shape, grid.spacing, strict=True)]
    if max(field) > _LONGEST or math.prod(field) / 1000 > _LARGEST_ML:
        size = " x ".join(f"{edge:.0f}" for edge in field)
        raise BadInputError(f"{path}: a field of view of {size} mm; crop the image to the head, or mend its spacing")
