"""`DeepBet`: a brain extractor whose trained networks come in its package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, ClassVar

import nibabel as nib
import numpy as np

from cgckit.arrays import BoolArray
from cgckit.errors import BadInputError, UsageError
from cgckit.images.brain.extractor import BrainExtractor
from cgckit.images.volume import Volume
from cgckit.options import SHARE

# It was trained on T1; on the others skull and fluid look less as there.
_ORDER = ("t1", "t1ce", "flair", "pd", "t2")


def best_of(volumes: Mapping[str, Volume], order: Sequence[str]) -> Volume:
    """The image whose modality comes first in `order`; one that is not in it comes last."""
    rank = {modality: number for number, modality in enumerate(order)}
    return volumes[min(volumes, key=lambda name: rank.get(name, len(rank)))]


@dataclass
class DeepBet(BrainExtractor):
    """Two networks of the package deepbet, which find first the box of the brain and then the brain.

    They were trained on T1 of healthy adults, and are given T1 where there is one. It runs on the CPU.

    Source: Fisch et al., "deepbet: Fast brain extraction of T1-weighted MRI using Convolutional Neural Networks",
    Computers in Biology and Medicine 179, 2024.

    Attributes:
        threshold: probability from which on a voxel is brain.
    """

    summary: ClassVar[str] = "networks of the package deepbet, best on T1"

    threshold: Annotated[float, SHARE] = 0.5

    @staticmethod
    def is_installed() -> bool:
        """Whether the package deepbet is there."""
        return find_spec("deepbet") is not None

    def extract(self, volumes: Mapping[str, Volume]) -> BoolArray:
        """Return the brain, [H, W, L] bool.

        Raises:
            UsageError: deepbet is not installed.
            BadInputError: it finds no brain.
        """
        try:
            from deepbet import BrainExtraction
        except ImportError as error:
            raise UsageError(f"brain extractor deepbet: pip install 'cgckit[brain]' ({error})") from error
        volume = best_of(volumes, _ORDER)
        networks = BrainExtraction(no_gpu=True)
        image = nib.Nifti1Image(volume.array, volume.grid.affine)
        try:
            _, found, _ = networks.run(image, threshold=self.threshold)
        except (AssertionError, ValueError) as error:  # of an empty box, or of no component in it
            raise BadInputError(f"{volume.path}: deepbet finds no brain in it; give a brain mask") from error
        brain: BoolArray = np.asarray(found.dataobj) > 0
        if not brain.any():
            raise BadInputError(f"{volume.path}: deepbet finds no brain in it; give a brain mask")
        return brain
