"""Names of the array types that annotations use, the same in every module."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

AnyArray = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
ShortArray = npt.NDArray[np.int16]
FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]

Shape = tuple[int, int, int]
"""Voxels along each axis."""
Spacing = tuple[float, float, float]
"""Voxel edge lengths in mm."""
