"""Spatial cleaning of a lesion map: opening, small components out, holes filled, a soft edge kept."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cgckit.priors.evidence import BoolArray, FloatArray, Spacing

_OPENING_MM = 1.0
_EDGE_MM = 3.0
_MIN_VOLUME_MM3 = 50.0
_MARGIN = 0.01


def ball(radius: float, spacing: Spacing) -> BoolArray:
    """Structuring element: the voxels within `radius` mm of the centre, on a coarse grid only itself."""
    reach = [int(radius / edge + 1e-6) for edge in spacing]
    offsets = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    squared = sum((offset * edge) ** 2 for offset, edge in zip(offsets, spacing, strict=True))
    return np.asarray(squared <= radius**2 + 1e-6)


def clean(region: BoolArray, brain: BoolArray, spacing: Spacing, min_component: float) -> BoolArray:
    """Open a region by 1 mm, drop its small components, fill its holes; [H, W, L].

    Args:
        region: voxels taken for lesion.
        brain: the brain; the result stays inside it.
        spacing: voxel edge lengths in mm.
        min_component: components below this share of the largest one are dropped, and any below 50 mm^3.
    """
    opened = ndimage.binary_opening(region & brain, ball(_OPENING_MM, spacing))
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.zeros_like(brain)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = sizes >= max(min_component * sizes.max(), _MIN_VOLUME_MM3 / float(np.prod(spacing)), 1)
    return np.asarray(ndimage.binary_fill_holes(kept[labels])) & brain


def cleaned_probability(membership: FloatArray, brain: BoolArray, spacing: Spacing, min_component: float) -> FloatArray:
    """Make a soft lesion membership agree with its cleaned region, [H, W, L] in [0, 1].

    Above one half exactly in the region that `clean` leaves of `membership > .5`; up to 3 mm around it the
    membership, held below one half, gives a soft edge; zero elsewhere.
    """
    region = clean(membership > 0.5, brain, spacing, min_component)
    edge = ndimage.binary_dilation(region, ball(_EDGE_MM, spacing)) & brain & ~region
    probability = np.where(region, np.clip(membership, 0.5 + _MARGIN, 1), 0)
    return np.where(edge, np.clip(membership, 0, 0.5 - _MARGIN), probability).astype(np.float32)
