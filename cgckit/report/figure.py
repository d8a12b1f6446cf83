"""A picture of a run: a row for each subject, with its prior, refined mask and, if any, reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cgckit.atomic import atomic_write
from cgckit.errors import BadInputError
from cgckit.images.volume import Volume

Mask = npt.NDArray[np.bool_]

# Told apart by people who do not see red and green alike, and bright enough on grey.
_COLOURS = ("#ffb000", "#26c6ff", "#ff4f9a", "#7ee081", "#c59bff")
_PANEL_INCHES = 2.0
_HEADING_INCHES = 0.55
_MARGIN_VOXELS = 4


@dataclass(frozen=True, eq=False)
class PictureRow:
    """One row: an image and the masks to be drawn over it.

    Attributes:
        subject: what the row is called.
        image: the image behind.
        masks: bool [H, W, L] on the image's grid, by the name of their column. The last that is not empty
            chooses the slice: the axial one where it is largest.
        notes: what to write above a mask's panel, for instance its Dice.
    """

    subject: str
    image: Volume
    masks: Mapping[str, Mask]
    notes: Mapping[str, str] = field(default_factory=dict)


def draw_picture(rows: Sequence[PictureRow], path: str | Path, title: str = "") -> None:
    """Write the figure of `make_figure` to a file.

    Args:
        rows: as for `make_figure`.
        path: the file; its ending chooses the format (`.png`, `.pdf`, `.svg`).
        title: above the picture.

    Raises:
        ValueError: no row, or a mask that is not on its image's grid.
        BadInputError: the file cannot be written, or its ending is no format of pictures.
    """
    save_figure(make_figure(rows, title), path)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write any figure to a file, whose ending chooses the format.

    Raises:
        BadInputError: the file cannot be written, or its ending is no format of pictures.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            FigureCanvasAgg(figure).print_figure(temporary, dpi=110)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be written ({error.strerror or error})") from error
    except ValueError as error:
        raise BadInputError(f"{path}: not a format of pictures; choose an ending such as .png") from error


def make_figure(rows: Sequence[PictureRow], title: str = "") -> Figure:
    """Draw a row for each subject: the image, then the image under each mask.

    Slices are axial, front at the top, the subject's left at the left (neurological convention), whatever the
    orientation of the files.

    Args:
        rows: at least one; columns are the masks of all rows, without overlay where a row lacks one.
        title: above the picture.

    Raises:
        ValueError: no row, or a mask that is not on its image's grid.
    """
    if not rows:
        raise ValueError("no row to draw")
    columns = list(dict.fromkeys(name for row in rows for name in row.masks))
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.04, wspace=0.0, hspace=0.01)
    width, height = _PANEL_INCHES * (1 + len(columns)), 1.2 * _PANEL_INCHES * len(rows)
    figure = Figure(figsize=(width, height + _HEADING_INCHES), facecolor="black", layout=layout)
    grid = figure.subplots(len(rows), 1 + len(columns), squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        _draw_row(axes, row, columns)
    if title:
        figure.suptitle(title, color="white", fontsize=10)
    return figure


def _draw_row(axes: Sequence[Axes], row: PictureRow, columns: Sequence[str]) -> None:
    image, masks = _slice(row)
    low, high = np.percentile(image[image != 0], (1, 99.7)) if image.any() else (0.0, 1.0)
    aspect = _aspect(row.image)
    for axis, name in zip(axes, ["", *columns], strict=True):
        axis.set_axis_off()
        axis.set_facecolor("black")
        axis.imshow(image.T, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=aspect)
        note = row.notes.get(name, "")
        axis.set_title(f"{name} {note}".strip() if name else row.subject, color="white", fontsize=8, pad=3)
        if name in masks:
            colour = _COLOURS[columns.index(name) % len(_COLOURS)]
            _overlay(axis, masks[name], colour, aspect)
    for side, text in ((0.02, "L"), (0.98, "R")):
        axes[0].text(side, 0.5, text, color="0.75", fontsize=7, ha="center", va="center", transform=axes[0].transAxes)


def _overlay(axis: Axes, mask: Mask, colour: str, aspect: float) -> None:
    """A thin contour, and a veil that leaves the image readable."""
    if not mask.any():
        return
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    veil = np.zeros((*mask.T.shape, 4))
    veil[mask.T] = (red, green, blue, 0.28)
    axis.imshow(veil, origin="lower", aspect=aspect, interpolation="nearest")
    axis.contour(mask.T.astype(float), levels=[0.5], colors=[colour], linewidths=0.9)


def _slice(row: PictureRow) -> tuple[npt.NDArray[np.float32], dict[str, Mask]]:
    """The chosen axial slice of image and masks, axes to the right and to the front, cut to the head."""
    image = _canonical(row.image.array, row.image)
    masks = {}
    for name, mask in row.masks.items():
        if mask.shape != row.image.grid.shape:
            raise ValueError(f"{row.subject}: mask {name} is not on the grid of {row.image.path}")
        masks[name] = _canonical(mask, row.image)
    areas = [mask.sum(axis=(0, 1)) for mask in masks.values() if mask.any()]
    level = int(areas[-1].argmax()) if areas else image.shape[2] // 2
    # One frame for the whole head, so that rows are of one scale whatever slice they show.
    head = (image != image.flat[0]).any(axis=2)
    frame = []
    for axis in (0, 1):
        there = np.flatnonzero(head.any(axis=1 - axis))
        first, last = (there[0], there[-1]) if there.size else (0, image.shape[axis] - 1)
        frame.append(slice(max(0, int(first) - _MARGIN_VOXELS), int(last) + _MARGIN_VOXELS + 1))
    cut = (frame[0], frame[1], level)
    return image[cut], {name: mask[cut] for name, mask in masks.items()}


def _canonical(array: npt.NDArray[Any], volume: Volume) -> npt.NDArray[Any]:
    """Permute and flip to axes closest to right, front, top."""
    turned: npt.NDArray[Any] = nib.apply_orientation(array, nib.io_orientation(volume.grid.affine))
    return turned


def _aspect(volume: Volume) -> float:
    spacing = volume.grid.canonical().spacing
    return spacing[1] / spacing[0]
