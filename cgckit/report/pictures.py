"""Static pictures of a subject: axial slices with the outlines of its masks, as JPEG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cgckit.arrays import BoolArray
from cgckit.images.volume import Volume
from cgckit.report.maps import REFINED
from cgckit.report.view import COLOURS, AxialView, spread_levels

SLICES = 6
_INCHES, _DOTS_PER_INCH, _SMALL_DOTS_PER_INCH = 3.0, 130, 70
_JPEG = {"quality": 84, "subsampling": 0}  # the colours of thin contours at full resolution
# The refined outline lies upon the prior's, which is wider: both are seen where they agree, in whatever colours.
_THIN, _WIDE = 1.1, 3.0


class Pictures(NamedTuple):
    """JPEG files of a subject: slices from foot to head, and a small one of the slice with most lesion."""

    slices: list[bytes]
    small: bytes


def draw_pictures(scan: Volume, masks: Mapping[str, BoolArray]) -> Pictures:
    """Draw slices that share the voxels of all masks evenly.

    Args:
        scan: what is drawn in grey.
        masks: bool [H, W, L] on its grid by name; `refined` is outlined in the second colour, all others in the first.

    Raises:
        ValueError: a mask is not on the scan's grid.
    """
    view = AxialView(scan)
    areas = np.sum([view.areas(mask) for mask in masks.values()], axis=0)
    slices = [_draw(view, masks, level, _DOTS_PER_INCH) for level in spread_levels(areas, SLICES)]
    largest = int(areas.argmax()) if areas.any() else view.depth // 2
    return Pictures(slices, _draw(view, masks, largest, _SMALL_DOTS_PER_INCH))


def _draw(view: AxialView, masks: Mapping[str, BoolArray], level: int, dots_per_inch: int) -> bytes:
    figure = Figure(figsize=(_INCHES, _INCHES * view.height_to_width), facecolor="black")
    axis = figure.add_axes((0, 0, 1, 1))
    view.show(axis, level)
    for name, mask in sorted(masks.items(), key=lambda item: item[0] == REFINED):
        refined = name == REFINED
        view.outline(axis, mask, level, COLOURS[refined], width=_THIN if refined else _WIDE)
    view.mark_sides(axis)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="jpg", dpi=dots_per_inch, facecolor="black", pil_kwargs=_JPEG)
    return buffer.getvalue()
