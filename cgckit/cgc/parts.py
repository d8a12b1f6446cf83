"""What single voxels cannot tell of a refined map: which of its connected parts are no lesion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cgckit.arrays import BoolArray, Spacing
from cgckit.images.components import Components

_BELOW_HALF = 0.499
_FRAGMENT = 0.1
_WITNESSED = 0.5


class Judged(NamedTuple):
    """A map whose connected parts have been judged.

    Attributes:
        probability: [H, W, L].
        doubted_ml: volumes of the parts that the judge refuses and that stay all the same, largest first.
        learnt: share of the voxels that the judge was taught to call lesion, and does; None if it was taught none.
    """

    probability: Tensor
    doubted_ml: list[float]
    learnt: float | None = None


def without_false_parts(
    probability: Tensor,
    log_odds: Tensor,
    spacing: Spacing,
    *,
    min_volume: float,
    least: float,
    prior: Tensor | None = None,
    witness: Tensor | None = None,
) -> Judged:
    """Cut specks, and connected parts of which two judges call too little lesion, to just below one half.

    Where network and prior nearly balance, noise would leave hundreds of single voxels in the mask: specks.

    A prior's false parts are whole ones: a venous sinus, a fold of cortex. Voxel by voxel a network that was trained on
    them hardly contradicts, but taken together it does: it has seen the same structure called normal in other subjects.
    So may a lesion have been, of a kind that the prior misses there. Hence a part goes only if a witness that was not
    trained on the prior refuses it as well. Nor is a mask emptied, or fragments left alone in it: if all parts from a
    tenth of the largest one's volume on are refused, the one of them that the judge doubts least stays, by its mean
    log-odds.

    Args:
        probability: [H, W, L]; parts are those of 0.5 or more, whose voxels share faces (6 neighbours).
        log_odds: [H, W, L], of lesion, by the judge.
        spacing: voxel edge lengths in mm.
        min_volume: parts below it are specks [mm^3]; they never stay.
        least: share of a part's voxels that the judge must call lesion, with log-odds of 0 or more.
        prior: [H, W, L] probability; the part that holds the most of it stays.
        witness: [H, W, L] bool, what the witness calls lesion: half of a part is enough for it to stay. Without one
            the judge decides alone.
    """
    parts = Components.of(probability.numpy() >= 0.5, 6)
    if parts.count == 0:
        return Judged(probability, [])
    speck = parts.sizes * np.prod(spacing) < min_volume
    refused = parts.mean(log_odds.numpy() >= 0) < least
    dropped = refused.copy() if witness is None else refused & (parts.mean(witness.numpy()) < _WITNESSED)
    large = ~speck & (parts.sizes >= _FRAGMENT * parts.sizes.max(initial=0, where=~speck))
    if dropped[large].all():
        belief = np.where(large, parts.mean(log_odds.numpy()), -np.inf)
        dropped[belief == belief.max()] = False
    if prior is not None:
        held = parts.mean(prior.numpy()) * parts.sizes
        dropped[held.argmax()] &= held.max() == 0
    false = torch.from_numpy(parts.where(speck | dropped))
    doubted = parts.sizes[refused & ~dropped & ~speck] * np.prod(spacing) / 1000
    return Judged(
        torch.where(false, probability.clamp(max=_BELOW_HALF), probability), sorted(doubted.tolist(), reverse=True)
    )


def parts_gone(before: BoolArray, after: BoolArray) -> list[int]:
    """Voxels of each part (6 neighbours) of a mask [H, W, L] of which nothing is in another, largest first."""
    parts = Components.of(before, 6)
    return sorted((int(voxels) for voxels in parts.sizes[~parts.touched(after)]), reverse=True)
