"""Smooth random fields: the one source of irregularity in the simulated anatomy, lesions and images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import BSpline

from cgckit.arrays import FloatArray

# Integral of the squared cubic B-spline: what one axis of independent unit coefficients leaves of their
# variance.
_VARIANCE_PER_AXIS = 151.0 / 315.0


def random_field(rng: np.random.Generator, shape: Sequence[int], scale: float) -> FloatArray:
    """Draw a smooth, stationary Gaussian field of zero mean and unit variance.

    Independent normal coefficients on a coarse lattice, interpolated with cubic B-splines axis by axis, which
    costs three small matrix products instead of a wide convolution.

    Args:
        rng: where the coefficients come from.
        shape: (H, W, L) of the result.
        scale: distance of the lattice's points in voxels, about half the size of a bump.

    Returns:
        [H, W, L] float32.
    """
    bases = [_basis(length, scale) for length in shape]
    field = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    for basis in reversed(bases):
        # Contracting the last axis and putting the result in front turns every axis once and ends in order.
        field = np.tensordot(basis, field, axes=(1, field.ndim - 1))
    return np.ascontiguousarray(field / np.float32(_VARIANCE_PER_AXIS ** (len(bases) / 2)))


def _basis(length: int, scale: float) -> FloatArray:
    """Cubic B-splines `scale` voxels apart, sampled at every voxel: [length, number of splines]."""
    positions = np.arange(length) / scale
    intervals = int(positions[-1]) + 1
    knots = np.arange(-3, intervals + 4, dtype=np.float64)
    return np.asarray(BSpline.design_matrix(positions, knots, 3).toarray(), dtype=np.float32)
