"""`Case`: one subject, ready to work on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cgckit.arrays import AnyArray, Spacing
from cgckit.errors import UsageError
from cgckit.images.grid import Grid, resample


@dataclass(frozen=True, eq=False)
class Case:
    """One subject on its working grid: canonical (RAS) axes, isotropic, cropped to the brain.

    Attributes:
        subject: label of the subject, alphanumeric as in BIDS.
        image: [C, H, W, L] float32; each channel is `(x - median) / (1.4826 MAD)` in the brain,
            clipped, CT `(HU - 40) / 10`, clipped; 0 outside.
        brain: [H, W, L] bool.
        modalities: name of each channel, for instance `("flair", "t1")`.
        spacing: voxel edge lengths in mm.
        grid: where the voxels of `image` lie in the world; None for a case that was made in memory.
        native: the grid of the input files, which outputs are written on; None for a case made in memory.
        source: the subject's name as its files spell it, where it differs from the label.
    """

    subject: str
    image: Tensor
    brain: Tensor
    modalities: tuple[str, ...]
    spacing: Spacing
    grid: Grid | None = None
    native: Grid | None = None
    source: str | None = None

    def channel(self, modality: str) -> Tensor:
        """Return the [H, W, L] channel of `modality`; KeyError if the case does not have it."""
        if modality not in self.modalities:
            raise KeyError(f"{self.subject} has no {modality}; it has {', '.join(self.modalities)}")
        return self.image[self.modalities.index(modality)]


def to_native(array: npt.ArrayLike, case: Case) -> AnyArray:
    """Bring an [H, W, L] array on `case.grid` to the grid of the subject's files.

    Probabilities are interpolated as `resample` does, boolean masks take the nearest voxel; both are 0
    outside the working grid.

    Raises:
        UsageError: if the case was made in memory and has no grids.
    """
    if case.grid is None or case.native is None:
        raise UsageError(f"{case.subject} was made in memory: it has no native grid to return to")
    values = np.asarray(array)
    return resample(values, case.grid, case.native, order=0 if values.dtype == np.bool_ else 1)
