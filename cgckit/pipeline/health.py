"""`assess`: can a network learn from this prior? Answered from image and prior, without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from torch import Tensor

from cgckit.arrays import BoolArray, Spacing
from cgckit.images.case import Case
from cgckit.images.components import Components

_THRESHOLD = 0.5
_EMPTY_ML = 0.1
_MOST_OF_BRAIN = 0.5
# From this share of the brain on, a lesion is as thick as lesions of that size are, and not folded like the cortex.
_LARGE = 0.1
_SHEET = 0.25
# Around a lesion: a gap for its blurred border, then the tissue that it is compared with [mm].
_GAP_MM, _SHELL_MM = 2.0, 8.0
# What a skull stripping that left a rim behind, or a bright cortex, covers [mm].
_RIM_MM = 4.0
_MAD_TO_STD = 1.4826


@dataclass(frozen=True)
class Health:
    """Label-free figures about one subject's prior, taken where its probability is at least 0.5.

    Attributes:
        fraction: share of the brain that is called lesion.
        volume_ml: volume called lesion.
        contrast: how the lesion differs from the shell of tissue 2 to 8 mm around it, in robust standard
            deviations: `(median(lesion) - median(shell)) / (1.4826 MAD(shell))`, on the channel where it is
            largest in magnitude; None without lesion or shell.
        modality: the channel of `contrast`.
        components: number of connected parts (26 neighbours).
        largest_ml: volume of the largest part.
        edge_share: share of the lesion that lies within 4 mm of the brain's edge.
        degenerate: why nothing can be learned from the prior, or None.
        weighable: whether refinement may weigh it: always if it is not degenerate, and if it is a sheet. A network that
            was trained on other subjects can tell which of its parts are lesion; an empty prior, the rim or most of the
            brain have no parts to choose among.
        remarks: what looks suspicious but may be right.
    """

    fraction: float
    volume_ml: float
    contrast: float | None
    modality: str | None
    components: int
    largest_ml: float
    edge_share: float
    degenerate: str | None
    weighable: bool
    remarks: tuple[str, ...]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Health:
        """The inverse of `dataclasses.asdict`, after JSON."""
        return cls(**{**values, "remarks": tuple(values["remarks"])})


def assess(case: Case, probability: Tensor) -> Health:
    """Measure a prior `probability` [H, W, L] of a case and say whether it is degenerate.

    Degenerate is a prior with less than 0.1 ml of lesion; one that calls more than half of the brain lesion; one that
    is the brain's rim: more than 80 % of it lies there and covers more than half of it; and one that takes more than a
    tenth of the brain in a sheet, as cortex does: its mean depth is below a quarter of that of a ball of its volume.
    Gliomas have half of a ball's and more; multiple sclerosis less, but not in a tenth of the brain.
    """
    brain: BoolArray = case.brain.cpu().numpy()
    lesion: BoolArray = (probability.detach().cpu().numpy() >= _THRESHOLD) & brain
    voxel_ml = float(np.prod(case.spacing)) / 1000
    volume_ml = float(lesion.sum()) * voxel_ml
    fraction = float(lesion.sum() / max(1, brain.sum()))
    parts = Components.of(lesion, 26)
    largest_ml = float(parts.sizes.max(initial=0)) * voxel_ml
    rim = _rim(brain, case.spacing)
    on_rim = float((lesion & rim).sum())
    edge_share = on_rim / max(1.0, float(lesion.sum()))
    contrast, modality = _contrast(case, lesion, brain)

    degenerate = None
    if volume_ml < _EMPTY_ML:
        degenerate = f"it is empty ({volume_ml:.2f} ml of lesion)"
    elif fraction > _MOST_OF_BRAIN:
        degenerate = f"it calls {fraction:.0%} of the brain lesion"
    elif edge_share > 0.8 and on_rim > 0.5 * rim.sum():
        degenerate = f"it is the rim of the brain ({edge_share:.0%} of it within {_RIM_MM:g} mm of the edge)"
    weighable = degenerate is None
    if weighable and fraction > _LARGE and (depth := _relative_depth(lesion, case.spacing)) < _SHEET:
        degenerate = (
            f"it is a sheet through {fraction:.0%} of the brain, like cortex "
            f"(its mean depth is {depth:.0%} of a ball's)"
        )

    remarks = []
    if degenerate is None:
        if volume_ml < 1:
            remarks.append(f"the prior is small: {volume_ml:.2f} ml")
        if fraction > 0.25:
            remarks.append(f"the prior is large: {fraction:.0%} of the brain")
        if contrast is not None and abs(contrast) < 1:
            remarks.append(f"the prior hardly differs from the tissue around it: {contrast:.1f} robust deviations")
        if parts.count > 50 and largest_ml < 0.2 * volume_ml:
            remarks.append(f"the prior is scattered: {parts.count} parts, the largest of {largest_ml:.2f} ml")
        if edge_share > 0.5:
            remarks.append(f"the prior hugs the brain's edge: {edge_share:.0%} of it within {_RIM_MM:g} mm")
    return Health(
        fraction,
        volume_ml,
        contrast,
        modality,
        parts.count,
        largest_ml,
        edge_share,
        degenerate,
        weighable,
        tuple(remarks),
    )


def _rim(brain: BoolArray, spacing: Spacing) -> BoolArray:
    """The brain within `_RIM_MM` of its outer edge; holes, as masks may have for ventricles, have none."""
    solid = np.pad(ndimage.binary_fill_holes(brain), 1)
    depth = ndimage.distance_transform_edt(solid, sampling=spacing)[1:-1, 1:-1, 1:-1]
    rim: BoolArray = brain & (depth <= max(_RIM_MM, *spacing))
    return rim


def _relative_depth(lesion: BoolArray, spacing: Spacing) -> float:
    """Mean distance to the edge, as a share of that in a ball of the same volume."""
    box = ndimage.find_objects(lesion.astype(np.uint8))[0]
    depth = ndimage.distance_transform_edt(np.pad(lesion[box], 1), sampling=spacing)
    radius = (3 * lesion.sum() * np.prod(spacing) / (4 * np.pi)) ** (1 / 3)
    return float(depth.sum() / lesion.sum() / (radius / 4))


def _contrast(case: Case, lesion: BoolArray, brain: BoolArray) -> tuple[float | None, str | None]:
    """Robust contrast of the lesion to the shell around it, and the channel where it is most marked."""
    if not lesion.any():
        return None, None
    # Everything happens near the lesion: a distance map of the whole brain would take seconds at 1 mm.
    reach = [int(np.ceil(max(_SHELL_MM, 2 * edge) / edge)) for edge in case.spacing]
    box = tuple(
        slice(max(0, part.start - margin), part.stop + margin)
        for part, margin in zip(ndimage.find_objects(lesion.astype(np.uint8))[0], reach, strict=True)
    )
    inside = lesion[box]
    distance = ndimage.distance_transform_edt(~inside, sampling=case.spacing)
    shell = brain[box] & (distance > _GAP_MM) & (distance <= max(_SHELL_MM, *(2 * edge for edge in case.spacing)))
    if not shell.any():
        return None, None
    best: tuple[float | None, str | None] = (None, None)
    for channel, modality in zip(case.image.cpu().numpy(), case.modalities, strict=True):
        around = channel[box][shell]
        centre = np.median(around)
        spread = _MAD_TO_STD * np.median(np.abs(around - centre))
        if spread == 0:
            continue
        contrast = float((np.median(channel[box][inside]) - centre) / spread)
        if best[0] is None or abs(contrast) > abs(best[0]):
            best = contrast, modality
    return best
