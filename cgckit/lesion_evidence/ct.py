"""What CT shows of bleeding: density in a window of 0 to 80 HU, without what is dense and no blood."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray, FloatArray, Spacing
from cgckit.images.hounsfield import to_hounsfield
from cgckit.lesion_evidence.blocks import Blocks

_WINDOW = (0.0, 80.0)
# Half the difference between grey and white matter, which is the spread of a healthy brain.
_UNIT = 4.0
# Clotted blood is below 100 HU; calcification and bone, blurred, are surrounded by what looks like blood.
_CALCIFIED, _HALO_MM = 100.0, 2.0
_SHEET_MM = 2.0
_SHEET_EXCESS = 1.0


def density(image: FloatArray, brain: BoolArray, spacing: Spacing) -> FloatArray:
    """Density above the brain's median in units of 4 HU, the spread of its tissue, [H, W, L]; 0 outside the brain.

    The window is 0 to 80 HU. Calcifications (more than 100 HU) with a halo of 2 mm count as tissue. Sheets thinner than
    about 5 mm (falx, tentorium, the blur of the skull) are lowered to one unit above the opening of the image on a 2 mm
    grid, which the body of a bleeding survives.

    Args:
        image: the channel of a case, on the scale of `cgckit.images.hounsfield`.
        brain: [H, W, L] bool.
        spacing: voxel edge lengths in mm.
    """
    if not brain.any():
        return np.zeros_like(image)
    units = to_hounsfield(image)
    middle = float(np.median(units[brain]))
    sigma = [0.7 / edge for edge in spacing]
    calcified = brain & (ndimage.gaussian_filter(np.where(brain, units, middle), sigma, truncate=2) > _CALCIFIED)
    if calcified.any():
        halo = ndimage.distance_transform_edt(~calcified, sampling=spacing) <= _HALO_MM
        units = np.where(halo, middle, units)
    values = np.where(brain, (np.clip(units, *_WINDOW) - middle) / _UNIT, 0).astype(np.float32)

    blocks = Blocks.cut(brain, spacing, _SHEET_MM)
    opened = ndimage.grey_opening(blocks.mean(values), footprint=ndimage.generate_binary_structure(3, 1))
    body = ndimage.grey_dilation(opened, footprint=ndimage.generate_binary_structure(3, 2))
    bounded: FloatArray = np.minimum(values, blocks.enlarge(body) + np.float32(_SHEET_EXCESS)) * brain
    return bounded
