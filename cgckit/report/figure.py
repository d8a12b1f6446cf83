"""A picture of a run: a row for each subject, with its prior, refined mask and, if any, reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cgckit.arrays import BoolArray
from cgckit.atomic import atomic_write
from cgckit.errors import BadInputError
from cgckit.images.volume import Volume
from cgckit.report.view import COLOURS, AxialView

_PANEL_INCHES = 2.0
_HEADING_INCHES = 0.55


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
    masks: Mapping[str, BoolArray]
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
    view = AxialView(row.image)
    level = _level(row, view)
    for axis, name in zip(axes, ["", *columns], strict=True):
        view.show(axis, level)
        note = row.notes.get(name, "")
        axis.set_title(f"{name} {note}".strip() if name else row.subject, color="white", fontsize=8, pad=3)
        if name in row.masks:
            colour = COLOURS[columns.index(name) % len(COLOURS)]
            view.veil(axis, row.masks[name], level, colour, opacity=0.28)
            view.outline(axis, row.masks[name], level, colour)
    view.mark_sides(axes[0])


def _level(row: PictureRow, view: AxialView) -> int:
    """The slice where the last mask that is not empty is largest; the middle one if all are."""
    areas = [view.areas(mask) for mask in row.masks.values()]
    found = [area for area in areas if area.any()]
    return int(found[-1].argmax()) if found else view.depth // 2
