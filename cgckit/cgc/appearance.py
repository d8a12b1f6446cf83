"""What lesion and normal tissue look like in one subject, learnt from that subject's own mask."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from scipy import ndimage
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from cgckit.arrays import FloatArray
from cgckit.images.case import Case
from cgckit.lesion_evidence.cores import cores_within

_SMOOTHING_MM = 0.7
"""Against noise; as wide as a voxel's own blur, so that edges stay where they are."""
_SURROUNDINGS_MM = 25.0
"""Normal tissue is described by the voxels up to this far from the mask: a lesion must differ from its own place."""
_DOUBTFUL_MM = 5.0
"""So near to the mask, tissue may be lesion that it misses, which a mixture would learn as normal tissue of its own."""
_REACH_MM = 10.0
"""Up to this far from the mask, voxels are judged; farther away a look-alike is more often a twin than a lesion."""
_TISSUES = 3
"""Around a lesion lie white matter, grey matter and fluid."""
_LEAST_VARIANCE = 0.05
"""Added to each variance, in squared robust standard deviations: no modality may be surer than noise allows, and one
that the subject lacks, 0 everywhere, must not make a covariance singular."""
_SAMPLES = 20_000
_FEWEST = 30
"""Voxels of either class below which nothing is learnt."""
_CERTAINTY = math.log(0.98 / 0.02)
"""Log-odds at which they are cut: two Gaussians know nothing of the tails."""


def appearance_log_odds(case: Case, lesion: Tensor) -> Tensor:
    """Log-odds that a voxel looks like the lesion rather than like the tissues around it, [H, W, L] float32.

        log N(I(x); mu, S) - log sum_k w_k N(I(x); mu_k, S_k)     k = 1, 2, 3; cut to +-3.9

    of all modalities at the voxel: one Gaussian for the mask, a mixture of three for the brain 5 to 25 mm around it.
    The mask may miss a part of the lesion or take in normal tissue: as long as most of it is right, both sides are
    described by what is right, and the voxels that were mistaken look like the other side. Unlike a network, this uses
    the subject's full resolution and nothing of other subjects. 0 farther than 10 mm from the mask, outside the brain,
    where there is too little to learn from, and in the cores that the mask takes in
    (`cgckit.lesion_evidence.cores.cores_within`): what they look like says nothing.

    Args:
        case: the subject.
        lesion: [H, W, L] bool on the case's grid.
    """
    log_odds = torch.zeros(case.brain.shape)
    brain = case.brain.numpy()
    mask = lesion.numpy() & brain
    if not mask.any():
        return log_odds
    silent = cores_within(case, mask)
    distance = ndimage.distance_transform_edt(~mask, sampling=case.spacing)
    like, normal = mask & ~silent, brain & (distance > _DOUBTFUL_MM) & (distance <= _SURROUNDINGS_MM)
    if min(like.sum(), normal.sum()) < _FEWEST:
        return log_odds
    sigma = [_SMOOTHING_MM / edge for edge in case.spacing]
    smooth = np.stack([ndimage.gaussian_filter(channel, sigma) for channel in case.image.numpy()], axis=-1)
    judged = brain & ~silent & (distance <= _REACH_MM)
    voxels = smooth[judged].astype(np.float64)
    found = _density(smooth[like], 1).score_samples(voxels) - _density(smooth[normal], _TISSUES).score_samples(voxels)
    log_odds[torch.from_numpy(judged)] = torch.from_numpy(np.clip(found, -_CERTAINTY, _CERTAINTY)).float()
    return log_odds


def _density(voxels: FloatArray, components: int) -> GaussianMixture:
    """A mixture of so many Gaussians, fitted to a sample of voxels [N, C]."""
    sample = np.random.default_rng(0).permutation(voxels)[:_SAMPLES].astype(np.float64)
    mixture = GaussianMixture(components, reg_covar=_LEAST_VARIANCE, random_state=0)
    with warnings.catch_warnings():
        # What EM has reached after 100 steps describes the tissues well enough; fewer distinct voxels than components
        # are no fault either.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(sample)
