"""The starting network: trained on simulated lesions alone, it knows what a lesion is before the first scan."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cgckit.errors import BadInputError
from cgckit.images.case import Case
from cgckit.images.preparation import resample_case, transfer
from cgckit.lesion_evidence.evidence import mid_sagittal, standardise
from cgckit.lesion_evidence.findings import finding
from cgckit.lesion_evidence.mirror import Plane
from cgckit.nets.cgc_net import CGCNet
from cgckit.nets.loop import is_finite, own_generators
from cgckit.nets.windows import infer

SLOTS = ("flair", "t1", "t1ce", "t2")
"""What the network takes, in this order; 0 where a subject has no such image. Four mirror images follow them."""

SPACING = 2.0
"""Edge of the grid that the network works on [mm]."""

CROP = (48, 48, 48)
"""Windows that it was trained on [voxels]."""

WIDTHS = (8, 16, 32, 64)
PROJECTION = 64

WEIGHTS = Path(__file__).parent / "weights" / "starting.safetensors"

_OVERLAP = 0.125
"""Of neighbouring windows: a head of 2 mm voxels then takes two along each axis."""
_OUTSIDE = -20.0
_MAD_TO_STD = 1.4826
_CLIP = (-5.0, 10.0)


@dataclass(frozen=True, eq=False)
class StartingNetwork:
    """A network that was trained on simulated subjects of random contrast.

    It was trained on none of the scans that it is asked about, nor on what a prior says of them: an independent
    witness of where a lesion may be.

    Attributes:
        network: in evaluation mode, on the CPU.

    Example:
        >>> StartingNetwork.load().log_odds(case)  # doctest: +SKIP
    """

    network: CGCNet

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> StartingNetwork:
        """Read weights; by default those that come with the package.

        Raises:
            BadInputError: the file is not there, or damaged.
        """
        network = new_network()
        try:
            network.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise BadInputError(
                f"{path}: no weights of the starting network ({reason}); install cgckit anew"
            ) from error
        if not is_finite(network):
            raise BadInputError(f"{path}: holds weights that are not finite; install cgckit anew")
        return cls(network.eval())

    def log_odds(self, case: Case) -> Tensor:
        """Log-odds of lesion, [H, W, L] float32 on the case's grid, -20 outside the brain."""
        coarse = resample_case(case, SPACING)
        return _on(case, coarse, self._coarse_log_odds(case, coarse))

    def _coarse_log_odds(self, case: Case, coarse: Case) -> Tensor:
        """Log-odds on the grid of `coarse`, the case brought to `SPACING`."""
        return infer(
            self.network, slots(coarse, mid_sagittal(case).on(case.grid, coarse.grid)), window=CROP, overlap=_OVERLAP
        )


@cache
def shipped_hash() -> str:
    """Hash of the weights that come with the package: every subject's map depends on it."""
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()


def starting_log_odds(case: Case) -> Tensor:
    """What the network that comes with the package says of a case, see `StartingNetwork.log_odds`.

    Prior and refinement both ask; the network answers once.
    """
    coarse = resample_case(case, SPACING)
    return _on(case, coarse, finding(case, "starting", lambda: _shipped()._coarse_log_odds(case, coarse)))


def _on(case: Case, coarse: Case, logits: Tensor) -> Tensor:
    return torch.where(case.brain, transfer(logits, coarse, case), _OUTSIDE)


@cache
def _shipped() -> StartingNetwork:
    """The network that comes with the package, read once."""
    return StartingNetwork.load()


def new_network() -> CGCNet:
    """The network before its training."""
    with own_generators():
        return CGCNet(2 * len(SLOTS), WIDTHS, PROJECTION)


def slots_of(modalities: tuple[str, ...]) -> list[int | None]:
    """The slot of each modality, None for one that has none.

    Where there is no FLAIR, the first image without a slot takes its place, as CT does: its lesions are bright as well.
    """
    found = [SLOTS.index(name) if name in SLOTS else None for name in modalities]
    if 0 not in found and None in found:
        found[found.index(None)] = 0
    return found


def slots(case: Case, plane: Plane) -> Tensor:
    """What the network sees of a subject, [8, H, W, L]: its images in their slots, then the same mirrored.

    Args:
        case: the subject on a grid of `SPACING` mm. CT is brought to robust standard deviations from the brain's
            median, as other images are already.
        plane: the mirror, mid-sagittal.
    """
    brain = case.brain.numpy()
    result = np.zeros((2 * len(SLOTS), *brain.shape), dtype=np.float32)
    for name, slot, image in zip(case.modalities, slots_of(case.modalities), case.image.numpy(), strict=True):
        if slot is None:
            continue
        result[slot] = np.clip(standardise(image, brain) / _MAD_TO_STD, *_CLIP) if name == "ct" else image
        result[len(SLOTS) + slot] = plane.reflect(result[slot], case.spacing) * brain
    return torch.from_numpy(result)
