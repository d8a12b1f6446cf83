"""The scale that CT images have in a `Case`: Hounsfield units, shifted and scaled alike for all subjects.

Hounsfield units mean the same in every scan, so a brain's own median and spread, which bleeding and atrophy move,
would only take knowledge away: `x = (HU - 40) / 10`. The usual window for the brain, 0 to 80 HU, is [-4, 4].
"""

from __future__ import annotations

import numpy as np

from cgckit.arrays import FloatArray

_CENTRE, _STEP = 40.0, 10.0
# The median over brain and fluid, atrophy and swelling included, of images in Hounsfield units.
_MEDIANS = (10.0, 60.0)


def is_hounsfield(median: float | np.floating) -> bool:
    """Whether a brain of this median can be in Hounsfield units; an image that was rescaled for display is not."""
    return bool(_MEDIANS[0] < median < _MEDIANS[1])


def from_hounsfield(values: FloatArray) -> FloatArray:
    """From Hounsfield units to the scale of a case's image."""
    return np.asarray((values - _CENTRE) / _STEP, dtype=np.float32)


def to_hounsfield(values: FloatArray) -> FloatArray:
    """From the scale of a case's image to Hounsfield units."""
    return np.asarray(values * _STEP + _CENTRE, dtype=np.float32)
