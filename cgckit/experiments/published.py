"""What Yu, Zhao et al. report, to stand beside what is measured: their Tables 1 to 3."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cgckit.experiments.arms import BOTH, NETWORK, NNUNET, PLAIN, PRIOR, SUPERVISED


class Published(NamedTuple):
    """The paper's figures of a row: means over its subjects, NaN where it has none.

    Attributes:
        dice: mean Dice.
        assd: mean ASSD [mm].
        sensitivity: mean sensitivity.
        dice_sd: standard deviation of Dice.
    """

    dice: float
    assd: float = math.nan
    sensitivity: float = math.nan
    dice_sd: float = math.nan


_SUPERVISED_MRI, _SUPERVISED_CT = Published(0.9134, 1.158, 0.9136), Published(0.7962, sensitivity=0.7840)
_GMM_MRI: Mapping[str, Published] = {
    PRIOR: Published(0.7585, 2.147, 0.7965, 0.2091),
    PLAIN: Published(0.7929, 1.233, 0.8013, 0.1877),
    NETWORK: Published(0.7929, 1.233, 0.8013, 0.1877),
    "coarse": Published(0.8164, 1.339),
    "fine": Published(0.8248, 1.251),
    BOTH: Published(0.8405, 1.176, 0.8178, 0.1323),
    "patch-12x12x4": Published(0.8392, 1.237),
    "patch-6x6x4": Published(0.8405, 1.176),
    "patch-3x3x4": Published(0.8388, 1.194),
    "temperature-0.07": Published(0.8254, 1.474),
    "temperature-0.1": Published(0.8375, 1.181),
    "temperature-0.2": Published(0.8405, 1.176),
    "temperature-0.3": Published(0.8392, 1.155),
    "temperature-0.7": Published(0.8248, 1.267),
    "temperature-0.9": Published(0.8211, 1.187),
    SUPERVISED: _SUPERVISED_MRI,
    NNUNET: Published(0.9161, 1.026),
}
_MUMFORD_SHAH_MRI: Mapping[str, Published] = {
    PRIOR: Published(0.7156, sensitivity=0.7063, dice_sd=0.1881),
    BOTH: Published(0.7743, sensitivity=0.7576, dice_sd=0.1365),
    SUPERVISED: _SUPERVISED_MRI,
}
_GMM_CT: Mapping[str, Published] = {
    PRIOR: Published(0.6490, sensitivity=0.5535),
    PLAIN: Published(0.6625, sensitivity=0.6427),
    NETWORK: Published(0.6625, sensitivity=0.6427),
    BOTH: Published(0.6993, sensitivity=0.6768),
    SUPERVISED: _SUPERVISED_CT,
}
_MUMFORD_SHAH_CT: Mapping[str, Published] = {
    PRIOR: Published(0.5206, sensitivity=0.5087),
    BOTH: Published(0.5569, sensitivity=0.5348),
    SUPERVISED: _SUPERVISED_CT,
}
# Dice and sensitivity on BraTS, Dice on CQ500.
_RECONSTRUCTION = {
    "ae": (0.3543, 0.4542, 0.3381),
    "context-vae": (0.4261, 0.4371, 0.3969),
    "gmvae": (0.4418, 0.5374, 0.4147),
    "f-anogan": (0.4835, 0.5332, 0.4024),
    "bayesian-vae": (0.5348, 0.5575, 0.4391),
    "anovaegan": (0.5184, 0.5737, 0.4467),
    "amcons": (0.7362, 0.7684, 0.4741),
}
_DEVIATIONS_MRI = {"amcons": 0.1642}
BASELINES = tuple(_RECONSTRUCTION)
"""The unsupervised methods of Table 1 that it compares with, in its order, by the name of their prior."""


def published(prior: str, modalities: Sequence[str]) -> Mapping[str, Published]:
    """What the paper's Tables 1 to 3 report for the arms with this kind of prior: on CQ500 for CT, else on BraTS.

    Its P is a Gaussian mixture (here `gmm` and `aucseg`) or Mumford-Shah; of the baselines of Table 1 it has the row
    of the method alone; for other priors it has nothing but the supervised network.

    Args:
        prior: name of the prior.
        modalities: of the scans.
    """
    ct = "ct" in modalities
    if prior in ("gmm", "aucseg"):
        return _GMM_CT if ct else _GMM_MRI
    if prior in ("mumford-shah", "mumford-shah-net"):
        return _MUMFORD_SHAH_CT if ct else _MUMFORD_SHAH_MRI
    if prior not in _RECONSTRUCTION:
        return {}
    dice, sensitivity, dice_ct = _RECONSTRUCTION[prior]
    if ct:
        return {PRIOR: Published(dice_ct), SUPERVISED: _SUPERVISED_CT}
    deviation = _DEVIATIONS_MRI.get(prior, math.nan)
    return {PRIOR: Published(dice, math.nan, sensitivity, deviation), SUPERVISED: _SUPERVISED_MRI}
