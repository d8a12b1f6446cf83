"""How far the edge of a prior's lesion is trusted: what training leaves out, and what refinement may move.

A prior is most often wrong near its own edge: a threshold too high leaves the rim of a lesion out, one too low takes
in the tissue around it, and blur moves it either way. Training on those voxels teaches the network the prior's
mistakes. They are left out instead, so that the network learns lesion from the prior's interior and normal tissue
from afar, and puts the edge where the images change from one into the other.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cgckit.arrays import Spacing
from cgckit.images.components import Components

_NOWHERE = 1e6
"""Distance to a lesion, in mm, where there is none."""
_CERTAINTY = 0.98
"""Where a prior's probability is cut before it becomes log-odds: its certainty must not outvote everything else."""
_DEPTH = 6.0
"""Log-odds that a prior gains with the distance from its edge."""


def signed_distance(prior: Tensor, spacing: Spacing) -> Tensor:
    """Distance to the edge of the prior's lesion in mm, [H, W, L] float32: positive inside, negative outside.

    Args:
        prior: [H, W, L] probability; lesion is 0.5 or more.
        spacing: voxel edge lengths in mm.
    """
    lesion = prior.numpy() >= 0.5
    if not lesion.any():
        return torch.full(prior.shape, -_NOWHERE)
    if lesion.all():
        return torch.full(prior.shape, _NOWHERE)
    inside = ndimage.distance_transform_edt(lesion, sampling=spacing)
    outside = ndimage.distance_transform_edt(~lesion, sampling=spacing)
    return torch.from_numpy((inside - outside).astype(np.float32))


def trusted(
    prior: Tensor, brain: Tensor, spacing: Spacing, *, inner: float, outer: float, doubt: float = 0.0
) -> Tensor:
    """Voxels of the brain that are trained on, [H, W, L] bool: away from the edge of the prior's lesion, and decided.

    Args:
        prior: [H, W, L] probability.
        brain: [H, W, L] bool.
        spacing: voxel edge lengths in mm.
        inner: voxels of the lesion up to this deep in it are left out [mm]; 0 trusts all of it. A component that is
            nowhere deeper keeps its deepest voxels: a small lesion is still an example of lesion.
        outer: voxels up to this far from the lesion are left out [mm]; 0 trusts them all.
        doubt: voxels whose probability is nearer to 0.5 than this are left out, among them those on which two fused
            priors disagree; 0 trusts them all.
    """
    distance = signed_distance(prior, spacing)
    kept = (distance > inner) | (distance < -outer) | _cores(distance, spacing, inner)
    return kept & brain & ((prior - 0.5).abs() >= doubt)


def _cores(distance: Tensor, spacing: Spacing, inner: float) -> Tensor:
    """The deepest voxels of each component (6 neighbours) that has none deeper than `inner` mm, [H, W, L] bool."""
    depth = distance.numpy()
    parts = Components.of(depth > 0, 6)
    if parts.count == 0:
        return torch.zeros(distance.shape, dtype=torch.bool)
    deepest = np.concatenate([[np.inf], ndimage.maximum(depth, parts.labels, np.arange(1, parts.count + 1))])
    shallow = deepest <= inner
    return torch.from_numpy(shallow[parts.labels] & (depth > deepest[parts.labels] - min(spacing) / 2))


def prior_log_odds(prior: Tensor, spacing: Spacing, *, reach: float) -> Tensor:
    """What the prior says of each voxel, as log-odds of lesion that grow with the distance to its edge, [H, W, L].

        logit(P) + 6 clip(signed distance / reach, -1, 1)     P cut to [0.02, 0.98]

    A prior's own certainty says little of its errors near the edge, where most of them are; deep inside its lesion, or
    far away from it, it takes a very sure network to overrule it.

    Args:
        prior: [H, W, L] probability.
        spacing: voxel edge lengths in mm.
        reach: distance in mm over which the second term grows.
    """
    depth = (signed_distance(prior, spacing) / reach).clamp(-1, 1)
    return prior.clamp(1 - _CERTAINTY, _CERTAINTY).logit() + _DEPTH * depth
