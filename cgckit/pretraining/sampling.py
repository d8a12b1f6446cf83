"""Sampling several maps at the same points, many times faster than one after the other."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from cgckit.arrays import FloatArray


def sample(maps: FloatArray, points: FloatArray) -> FloatArray:
    """Interpolate maps [C, H, W, L] linearly at `points` [3, h, w, l] in voxels, to [C, h, w, l] float32.

    Points beyond the edge get the nearest value at the edge.
    """
    half = (np.array(maps.shape[1:], dtype=np.float32) - 1) / 2
    # PyTorch wants the last axis first, from -1 to 1.
    scaled = np.stack([points[axis] / half[axis] - 1 for axis in (2, 1, 0)], axis=-1).astype(np.float32)
    sampled = F.grid_sample(
        torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[None],
        torch.from_numpy(scaled)[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return sampled[0].numpy()
