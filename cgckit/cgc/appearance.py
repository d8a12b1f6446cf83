"""What lesion and normal tissue look like in one subject, learnt from that subject's own mask."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from torch import Tensor

from cgckit.images.case import Case

_SMOOTHING_MM = 0.7
"""Against noise; as wide as a voxel's own blur, so that edges stay where they are."""
_SURROUNDINGS_MM = 25.0
"""Normal tissue is described by the voxels up to this far from the mask: a lesion must differ from its own place."""
_REACH_MM = 10.0
"""Up to this far from the mask, voxels are judged; farther away a look-alike is more often a twin than a lesion."""
_SHRINKAGE = 0.1
_FEWEST = 30
"""Voxels of either class below which nothing is learnt."""
_CERTAINTY = math.log(0.98 / 0.02)
"""Log-odds at which they are cut: two Gaussians know nothing of the tails."""


def appearance_log_odds(case: Case, lesion: Tensor) -> Tensor:
    """Log-odds that a voxel looks like the lesion rather than like the tissue around it, [H, W, L] float32.

        log N(I(x); mu_1, S_1) - log N(I(x); mu_0, S_0)     cut to +-3.9

    by quadratic discriminant analysis of all modalities at the voxel, `mu_1, S_1` being those of the mask and
    `mu_0, S_0` those of the brain up to 25 mm around it. The mask may miss a part of the lesion or take in normal
    tissue: as long as most of it is right, both classes are described by what is right, and the voxels that were
    mistaken look like the other class. Unlike a network, this uses the subject's full resolution and nothing of other
    subjects. 0 farther than 10 mm from the mask, outside the brain, and where there is too little to learn from.

    Args:
        case: the subject.
        lesion: [H, W, L] bool on the case's grid.
    """
    log_odds = torch.zeros(case.brain.shape)
    brain = case.brain.numpy()
    mask = lesion.numpy() & brain
    if not mask.any():
        return log_odds
    distance = ndimage.distance_transform_edt(~mask, sampling=case.spacing)
    normal = brain & ~mask & (distance <= _SURROUNDINGS_MM)
    if min(mask.sum(), normal.sum()) < _FEWEST:
        return log_odds
    sigma = [_SMOOTHING_MM / edge for edge in case.spacing]
    smooth = np.stack([ndimage.gaussian_filter(channel, sigma) for channel in case.image.numpy()], axis=-1)
    judged = brain & (distance <= _REACH_MM)
    samples = np.concatenate([smooth[mask], smooth[normal]]).astype(np.float64)
    classes = np.repeat([True, False], [mask.sum(), normal.sum()])
    # The shrinkage also keeps a modality that the subject lacks, 0 everywhere, from making the covariances singular.
    model = QuadraticDiscriminantAnalysis(priors=[0.5, 0.5], reg_param=_SHRINKAGE)
    model.fit(samples, classes)
    found = model.decision_function(smooth[judged].astype(np.float64))
    log_odds[torch.from_numpy(judged)] = torch.from_numpy(np.clip(found, -_CERTAINTY, _CERTAINTY)).float()
    return log_odds
