"""What single voxels cannot tell of a refined map: parts that are no lesion, and dark cores that are part of one.

The functions change probabilities as little as they can, so that the mask stays "0.5 or more".
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cgckit.arrays import BoolArray, Spacing

_BELOW_HALF, _ABOVE_HALF = 0.499, 0.501
_FRAGMENT = 0.1


def without_specks(probability: Tensor, spacing: Spacing, min_volume: float) -> Tensor:
    """Cut connected parts of the mask below `min_volume` mm^3 to just below one half, [H, W, L].

    Where network and prior nearly balance, noise would leave hundreds of single voxels in the mask.
    """
    components, count = ndimage.label(probability.numpy() >= 0.5)
    if count == 0:
        return probability
    volume = np.bincount(components.ravel()) * np.prod(spacing)
    volume[0] = np.inf
    specks = torch.from_numpy((volume < min_volume)[components])
    return torch.where(specks, probability.clamp(max=_BELOW_HALF), probability)


def without_refused(probability: Tensor, log_odds: Tensor, least: float) -> Tensor:
    """Cut connected parts of the mask of which another judge calls too little lesion, [H, W, L].

    A prior's false parts are whole ones: a venous sinus, a fold of cortex. Voxel by voxel a network that was trained on
    them hardly contradicts, but taken together it does: it has seen the same structure called normal in other subjects.
    A mask is not emptied, nor left with fragments alone: if all parts from a tenth of the largest one's volume on are
    refused, the one of them that the judge doubts least stays, by its mean log-odds.

    Args:
        probability: [H, W, L]; parts are those of 0.5 or more (6 neighbours).
        log_odds: [H, W, L], of lesion, by the judge.
        least: share of a part's voxels that the judge must call lesion, with log-odds of 0 or more.
    """
    components, count = ndimage.label(probability.numpy() >= 0.5)
    if count == 0:
        return probability
    parts = np.arange(1, count + 1)
    refused = ndimage.mean(log_odds.numpy() >= 0, components, parts) < least
    volume = np.bincount(components.ravel())[1:]
    large = volume >= _FRAGMENT * volume.max()
    if refused[large].all():
        belief = np.where(large, ndimage.mean(log_odds.numpy(), components, parts), -np.inf)
        refused[belief == belief.max()] = False
    outside = torch.from_numpy(np.concatenate([[False], refused])[components])
    return torch.where(outside, probability.clamp(max=_BELOW_HALF), probability)


def parts_gone(before: BoolArray, after: BoolArray) -> list[int]:
    """Voxels of each connected part of a mask [H, W, L] of which nothing is in another, largest first."""
    components, _ = ndimage.label(before)
    size = np.bincount(components.ravel())
    size[np.unique(components[after])] = 0
    return sorted((int(voxels) for voxels in size[1:] if voxels), reverse=True)


def with_cores(probability: Tensor, brain: Tensor) -> Tensor:
    """Raise what the mask encloses to just above one half, [H, W, L].

    A necrotic or cystic core is as dark as fluid, so neither prior nor network calls it lesion, but it is part of one.
    It is enclosed if it is a hole in at least two of the three planes through it: a lesion is rarely closed on all
    sides, and one plane alone would fill the ventricle beside it.
    """
    mask = probability.numpy() >= 0.5
    if not mask.any():
        return probability
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    votes = np.zeros(mask[box].shape, np.uint8)
    for axis in range(3):
        slices = np.moveaxis(mask[box], axis, 0)
        np.moveaxis(votes, axis, 0)[...] += np.stack([ndimage.binary_fill_holes(plane) for plane in slices])
    enclosed = torch.zeros(mask.shape, dtype=torch.bool)
    enclosed[box] = torch.from_numpy(votes >= 2)
    return torch.where(enclosed & brain, probability.clamp(min=_ABOVE_HALF), probability)
