"""From a stack to a volume: dcm2niix unpacks the pixels, the headers say where they are, and both must agree.

Slices that a tilted gantry sheared, or that lie at unequal distances, are resampled here: what dcm2niix makes of them
depends on how pixels are stored, and may be elsewhere than the headers say.
"""

from __future__ import annotations

import subprocess  # nosec
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from scipy import ndimage

from cgckit.arrays import DoubleArray, FloatArray
from cgckit.dicom.slices import quiet
from cgckit.dicom.stacks import Stack
from cgckit.errors import BadInputError
from cgckit.images.grid import Grid
from cgckit.images.nifti import check_affine

# What dcm2niix may take for one series [s]; it takes seconds.
_PATIENCE = 900
_AIR = -1024.0
"""Hounsfield units of nothing: below are marks of what was not measured."""
# Corners of one image, read in two ways, differ by rounding alone [mm]; values by that of slope and intercept.
_SAME_PLACE, _SAME_VALUE = 0.1, 1e-3
_MOST_VOXELS = 2**29


class ConversionError(ValueError):
    """A stack of which no right volume can be made; the message has nothing of its headers' text."""


@dataclass(frozen=True, eq=False)
class Converted:
    """A volume: values [H, W, L] on a grid, and what was done to have them there."""

    array: FloatArray
    grid: Grid
    notes: tuple[str, ...]


def convert(stack: Stack) -> Converted:
    """Make a volume of a stack that has no fault.

    Raises:
        ConversionError: dcm2niix cannot, or what it gives is not what the headers and the pixels say.
    """
    count = len(stack.slices)
    if count * stack.first.shape[0] * stack.first.shape[1] > _MOST_VOXELS:
        raise ConversionError("more voxels than any scan of a head has")
    unpacked = _unpack(stack)
    array, affine = unpacked.array, unpacked.grid.affine
    columns, rows = stack.first.shape
    if array.shape != (columns, rows, count):
        raise ConversionError(f"dcm2niix makes {array.shape} of {count} slices of {columns} x {rows}")
    array, exact = _in_order(stack, array, affine)
    _check_values(stack, array)
    array = _without_padding(stack, array)
    try:
        check_affine(exact, Path("."))
    except BadInputError as error:
        raise ConversionError("its header gives its slices no place in the world") from error
    if stack.is_even and stack.is_upright:
        _check_grid(affine, exact, array.shape)
        return Converted(array, Grid(array.shape, exact), ())
    return _straightened(stack, array)


def _unpack(stack: Stack) -> Converted:
    """What dcm2niix makes of the files, under names that say nothing."""
    tool = Path(import_module("dcm2niix").bin)
    with tempfile.TemporaryDirectory(prefix="cgckit-") as folder:
        given, made = Path(folder, "in"), Path(folder, "out")
        given.mkdir()
        made.mkdir()
        for number, path in enumerate(dict.fromkeys(item.path for item in stack.slices)):
            (given / f"{number:06d}.dcm").symlink_to(path.resolve())
        # No sidecar, no compression, values as they are, Philips' scaling as the standard has it, nothing cropped.
        options = ("-b", "n", "-z", "n", "-l", "o", "-p", "n", "-x", "i", "-m", "y", "-f", "v", "-w", "1", "-g", "i")
        try:
            done = subprocess.run(  # nosec
                [str(tool), *options, "-o", str(made), str(given)],
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
                cwd=folder,
            )
        except subprocess.TimeoutExpired:
            raise ConversionError(f"dcm2niix did not end within {_PATIENCE} s") from None
        except OSError as error:
            raise ConversionError(f"dcm2niix cannot be run ({error.strerror})") from error
        path = made / "v.nii"
        if not path.is_file():
            several = [item.name for item in made.glob("*.nii")]
            what = (
                f"makes {len(several)} images of it"
                if several
                else f"makes no image of it (it ended with {done.returncode})"
            )
            raise ConversionError(f"dcm2niix {what}")
        try:
            image: Any = nib.load(path)
            with np.errstate(all="ignore"):  # what does not fit is infinite, and refused
                array = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
            affine = np.asarray(image.affine, np.float64)
        except Exception as error:
            raise ConversionError("dcm2niix makes no readable image of it") from error
        if array.ndim != 3 or not np.isfinite(array).all():
            raise ConversionError(f"dcm2niix makes an image of {array.ndim} dimensions of it, or of no finite values")
        return Converted(array, Grid(array.shape, affine), ())


def _in_order(stack: Stack, array: FloatArray, affine: DoubleArray) -> tuple[FloatArray, DoubleArray]:
    """The array with axes 0 to 2 along the headers' columns, rows and slices; and their exact affine.

    For uneven slices, the third column is that of their mean distance.
    """
    axes = stack.axes
    assert axes is not None
    ras = axes * (-1, -1, 1)
    across, down, _ = stack.edges
    with np.errstate(all="ignore"):  # what is no number is none of the signs that are wanted
        columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    signs = [float(columns[:, axis] @ ras[axis]) for axis in range(3)]
    # The third column of sheared slices is not their normal.
    if not (abs(signs[0]) > 0.999 and abs(signs[1]) > 0.999 and abs(signs[2]) > 0.7):
        raise ConversionError("dcm2niix turns it otherwise than its header says")
    flips = tuple(axis for axis in range(3) if signs[axis] < 0)
    array = np.flip(array, flips)
    first, last = (np.asarray(item.position) * (-1, -1, 1) for item in (stack.slices[0], stack.slices[-1]))
    exact = np.eye(4)
    exact[:3, 0], exact[:3, 1] = ras[0] * across, ras[1] * down
    exact[:3, 2] = (last - first) / (len(stack.slices) - 1)
    exact[:3, 3] = first
    begin = last if 2 in flips else first
    for axis, (edge, count) in enumerate(zip((across, down), array.shape, strict=False)):
        begin = begin + (ras[axis] * edge * (count - 1) if axis in flips else 0)
    if not np.abs(affine[:3, 3] - begin).max() <= _SAME_PLACE:
        raise ConversionError("dcm2niix puts it elsewhere than its header says")
    return array, exact


def _check_grid(affine: DoubleArray, exact: DoubleArray, shape: tuple[int, ...]) -> None:
    """Raise ConversionError unless both affines put the corners of an image at the same points."""
    ends = np.array(np.meshgrid(*[(0, size - 1) for size in shape], indexing="ij")).reshape(3, -1)
    one, other = (matrix[:3, :3] @ ends + matrix[:3, 3:] for matrix in (affine, exact))
    distances = np.linalg.norm(one[:, :, None] - other[:, None, :], axis=0)
    if not distances.min(axis=1).max() <= _SAME_PLACE + 0.01 * np.linalg.norm(exact[:3, 2]):
        raise ConversionError("dcm2niix puts it elsewhere than its header says")


def _check_values(stack: Stack, array: FloatArray) -> None:
    """Compare the first, the middle and the last slice with what pydicom reads, where pixels are not compressed."""
    if not stack.first.plain or stack.first.frames > 1:
        return
    for k in sorted({0, len(stack.slices) // 2, len(stack.slices) - 1}):
        item = stack.slices[k]
        try:
            with quiet():
                stored = pydicom.dcmread(item.path).pixel_array
        except Exception as error:
            raise ConversionError(f"the pixels of slice {item.instance} cannot be read") from error
        wanted = stored.T.astype(np.float64) * item.slope + item.intercept
        scale = max(1.0, float(np.abs(wanted).max()))
        if wanted.shape != array.shape[:2] or np.abs(wanted - array[:, :, k]).max() > _SAME_VALUE * scale:
            raise ConversionError(f"dcm2niix reads other values from slice {item.instance} than its file holds")


def _without_padding(stack: Stack, array: FloatArray) -> FloatArray:
    """The array with what was not measured set to air for CT, else to 0."""
    background = _background(stack)
    padding = stack.first.padding
    if padding is not None:
        marked = array == np.float32(padding * stack.first.slope + stack.first.intercept)
        array = np.where(marked, np.float32(background), array)
    if stack.first.kind == "ct":
        array = np.maximum(array, np.float32(_AIR))
    return np.ascontiguousarray(array, np.float32)


def _straightened(stack: Stack, array: FloatArray) -> Converted:
    """Slices upright and at even distances, linearly interpolated; all of them are kept."""
    notes = []
    low = stack.positions[:, :2].min(axis=0)
    if not stack.is_upright:
        array = _unsheared(stack, array, low)
        notes.append(f"gantry tilt of {stack.tilt:.1f} degrees undone")
    step = stack.step
    if not stack.is_even:
        array, step = _evened(stack.levels, array)
        notes.append(f"uneven slices, resampled every {step:.3g} mm")
    assert stack.axes is not None
    affine = np.eye(4)
    affine[:3, :3] = (stack.axes * (-1, -1, 1)).T * (*stack.edges[:2], step)
    affine[:3, 3] = (stack.axes.T @ [*low, stack.levels[0]]) * (-1, -1, 1)
    height, width, length = array.shape
    return Converted(np.ascontiguousarray(array), Grid((height, width, length), affine), tuple(notes))


def _unsheared(stack: Stack, array: FloatArray, low: DoubleArray) -> FloatArray:
    """Each slice shifted along its own plane to where the others are; what is beyond its edges is air."""
    shifts = (stack.positions[:, :2] - low) / stack.edges[:2]  # in voxels
    room = np.ceil(shifts.max(axis=0) - 1e-3).astype(int)
    background = _background(stack)
    wide = np.pad(array, ((0, room[0]), (0, room[1]), (0, 0)), constant_values=background)
    for k, shift in enumerate(shifts):
        wide[:, :, k] = ndimage.shift(wide[:, :, k], shift, order=1, mode="grid-constant", cval=background)
    return wide


def _evened(levels: DoubleArray, array: FloatArray) -> tuple[FloatArray, float]:
    """Slices every smallest distance, each a mixture of its two neighbours; and that distance in mm."""
    step = float(np.diff(levels).min())
    count = int(np.floor((levels[-1] - levels[0]) / step + 1e-3)) + 1
    wanted = levels[0] + step * np.arange(count)
    below = np.clip(np.searchsorted(levels, wanted, side="right") - 1, 0, len(levels) - 2)
    share = np.clip((wanted - levels[below]) / (levels[below + 1] - levels[below]), 0, 1).astype(np.float32)
    return np.asarray(array[:, :, below] * (1 - share) + array[:, :, below + 1] * share, np.float32), step


def _background(stack: Stack) -> float:
    return _AIR if stack.first.kind == "ct" else 0.0
