"""`Case`: one subject, ready to work on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from nibabel import Nifti1Image
from torch import Tensor
from typing_extensions import Self

from cgckit.arrays import AnyArray, Spacing
from cgckit.errors import BadInputError
from cgckit.images.brain import BrainExtractor, CoarseSearch, extract_brain, resolve_brain
from cgckit.images.grid import Grid, resample
from cgckit.images.layouts.labels import subject_label
from cgckit.images.modalities import canonical_modality
from cgckit.images.volume import Volume
from cgckit.images.working_grid import common_grid, to_working_grid


@dataclass(frozen=True, eq=False)
class Case:
    """One subject on its working grid: canonical (RAS) axes, isotropic, cropped to the brain.

    Attributes:
        subject: label of the subject, letters and digits as in BIDS; with a session `01_ses-a`.
        image: [C, H, W, L] float32; each channel is `(x - median) / (1.4826 MAD)` in the brain,
            clipped, CT `(HU - 40) / 10`, clipped; 0 outside.
        brain: [H, W, L] bool.
        modalities: name of each channel, for instance `("flair", "t1")`.
        spacing: voxel edge lengths in mm.
        grid: where the voxels of `image` lie in the world; by default along its axes, from its origin.
        native: the grid of the images as they came, which outputs are on; by default `grid`.
        source: the subject's name as its files spell it, where it differs from the label.
        notes: what preparation did, in words; none where the scans were prepared.
        places: grid of each scan that came as a file, where it lies in the world of `native`.
    """

    subject: str
    image: Tensor
    brain: Tensor
    modalities: tuple[str, ...]
    spacing: Spacing
    grid: Grid = None  # type: ignore[assignment] # a Grid as soon as the case is made
    native: Grid = None  # type: ignore[assignment]
    source: str | None = None
    notes: tuple[str, ...] = ()
    places: Mapping[str, Grid] = field(default_factory=dict)

    def __post_init__(self) -> None:
        height, width, length = self.brain.shape
        own = self.grid or Grid((height, width, length), np.diag([*self.spacing, 1.0]))
        object.__setattr__(self, "grid", own)
        object.__setattr__(self, "native", self.native or own)

    @classmethod
    def from_arrays(
        cls,
        images: Mapping[str, npt.ArrayLike | Nifti1Image],
        *,
        affine: npt.ArrayLike | None = None,
        brain: npt.ArrayLike | Nifti1Image | BrainExtractor | str | None = None,
        subject: str = "case",
    ) -> Self:
        """Make a case of images in memory, as they would be read from files.

        Args:
            images: values [H, W, L] by modality ("flair", "t1", "ct", ...), or NIfTI images of nibabel; all on one
                grid.
            affine: [4, 4], voxel indices to world coordinates (RAS+, mm); NIfTI images have their own.
            brain: [H, W, L], not 0 in the brain, or what finds it, by name too; by default
                `cgckit.images.brain.CoarseSearch`.
            subject: name of the subject.

        Raises:
            BadInputError: no image, images or a brain on different grids, values that are not finite, an image that is
                constant inside the brain, no brain in it; `affine` is missing where it is needed.

        Example:
            >>> import numpy as np
            >>> flair = np.random.default_rng(0).normal(100, 10, (40, 48, 36))
            >>> case = Case.from_arrays({"flair": flair}, affine=np.diag([2, 2, 2, 1]), brain=flair > 0)
            >>> case.modalities, case.native.shape
            (('flair',), (40, 48, 36))
        """
        if not isinstance(subject, str):
            raise BadInputError(f"subject {subject!r}: its name must be text")
        label = subject_label(subject)
        if not isinstance(images, Mapping):
            raise BadInputError(f"images of {subject}: give them by modality, as {{'flair': array}}")
        if not images:
            raise BadInputError(f"subject {subject} has no image")
        volumes = {
            canonical_modality(name): Volume.of(image, affine, f"{name} of {subject}") for name, image in images.items()
        }
        if len(volumes) < len(images):
            raise BadInputError(f"subject {subject}: {', '.join(images)} name a modality twice")
        native = common_grid(volumes, subject)
        brain = resolve_brain(brain) if isinstance(brain, str) else brain
        if brain is None or isinstance(brain, BrainExtractor):
            inside = extract_brain(brain or CoarseSearch(), volumes)
        else:
            given = brain if isinstance(brain, Nifti1Image) else np.asarray(brain) != 0
            mask = Volume.of(given, native.affine, f"brain of {subject}", allow_constant=True)
            if not mask.grid.matches(native):
                raise BadInputError(f"brain of {subject}: not on the grid of the images")
            inside = mask.array > 0
            if not inside.any():
                raise BadInputError(f"brain of {subject}: it is empty; leave it out to have the brain found")
        modalities = tuple(volumes)
        found = to_working_grid(volumes, inside, modalities, subject)
        return cls(
            subject=label,
            image=torch.from_numpy(found.image),
            brain=torch.from_numpy(found.brain),
            modalities=modalities,
            spacing=found.grid.spacing,
            grid=found.grid,
            native=native,
            source=subject,
        )

    def channel(self, modality: str) -> Tensor:
        """Return the [H, W, L] channel of `modality`; KeyError if the case does not have it."""
        if modality not in self.modalities:
            raise KeyError(f"{self.subject} has no {modality}; it has {', '.join(self.modalities)}")
        return self.image[self.modalities.index(modality)]

    def with_channels(self, modalities: Sequence[str]) -> Self:
        """The same case with these channels, in this order; one that it lacks is 0 everywhere."""
        if self.modalities == tuple(modalities):
            return self
        image = torch.zeros((len(modalities), *self.brain.shape))
        for channel, name in enumerate(modalities):
            if name in self.modalities:
                image[channel] = self.channel(name)
        return dataclasses.replace(self, image=image, modalities=tuple(modalities))

    def copy(self) -> Self:
        """The same in memory of its own, for whoever might change it."""
        return dataclasses.replace(self, image=self.image.clone(), brain=self.brain.clone())

    def to_native(self, array: npt.ArrayLike) -> AnyArray:
        """Bring an [H, W, L] array from the case's grid to the grid that its images came on.

        Probabilities are interpolated as `cgckit.images.grid.resample` does, boolean masks take the nearest voxel; both
        are 0 outside the working grid.
        """
        values = np.asarray(array)
        return resample(values, self.grid, self.native, order=0 if values.dtype == np.bool_ else 1)


def require_case(value: object) -> None:
    """Raise BadInputError for what is no `Case`."""
    if not isinstance(value, Case):
        raise BadInputError(f"a {type(value).__name__} is no case: make one of images with Case.from_arrays")
