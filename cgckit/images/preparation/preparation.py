"""`Preparation`: from a subject's files, prepared or as they come from the scanner, to a `Case`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from cgckit.arrays import BoolArray, DoubleArray
from cgckit.errors import BadInputError
from cgckit.images.brain import BRAINS, AutoBrain, BrainExtractor, resolve_brain
from cgckit.images.brain.search import find_foreground
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.images.preparation.brains import find_brain, given_brain
from cgckit.images.preparation.known import NO, YES, Known
from cgckit.images.preparation.prepared import Prepared
from cgckit.images.registration import (
    REGISTRATIONS,
    Registration,
    angle,
    distance,
    register,
    resolve_registration,
)
from cgckit.images.volume import Volume, grid_of, header_of
from cgckit.images.working_grid import to_working_grid
from cgckit.version import __version__

logger = logging.getLogger(__name__)

# What shapes transforms and brains besides cgckit, where it is installed.
_LIBRARIES = ("SimpleITK", "deepbet")
# Images on one grid that are found this close lie where they should: registration itself is no better on thick slices.
_ALIGNED_MM = 1.0


@dataclass(frozen=True)
class Preparation:
    """How scans are brought together and the brain is found in them.

    Scans are prepared if they lie on one grid and show the brain alone, or a brain mask comes with them: nothing is
    done to them then. Else all are aligned with the first by a rigid transform; those on its grid are moved only if
    they are found 1 mm away or more. Nothing is resampled before the working grid, and outputs are on the grid of the
    first.

    Attributes:
        brain: finds the brain where no mask is given.
        registration: aligns the scans; None to take all scans as they lie.
        known: what the user says is prepared.
        cache: folder for what was found out, by a key of everything that it depends on; None to keep nothing.
    """

    brain: BrainExtractor
    registration: Registration | None = None
    known: Known = Known()
    cache: Path | None = None

    @classmethod
    def of(
        cls,
        brain: str | BrainExtractor = "auto",
        registration: str | Registration = "rigid",
        prepared: str | os.PathLike[str] | Mapping[str, str] = "auto",
    ) -> Preparation:
        """Read what the user asks for; errors as `resolve_brain`, `resolve_registration` and `Known.of`."""
        return cls(resolve_brain(brain), resolve_registration(registration), Known.of(prepared))

    def kept_in(self, cache: Path) -> Preparation:
        """The same with a folder for what is found out."""
        return replace(self, cache=cache)

    def identity(self) -> dict[str, Any]:
        """What a case depends on besides the files, as plain JSON values."""
        return {
            "brain": BRAINS.identity(self.brain),
            "registration": None if self.registration is None else REGISTRATIONS.identity(self.registration),
            "prepared": [self.known.others, dict(sorted(self.known.named.items()))],
            "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
        }

    def check_headers(self, subject: Subject) -> None:
        """Check that every file of a subject is a volume, on a grid that can be worked with.

        Headers alone are read, which takes milliseconds a file: a run of hours does not end at its last subject with
        what could have been said at once. Damaged voxels are found when the images are prepared.

        Raises:
            BadInputError: a file that is missing, no NIfTI or no volume, or lies on another grid than the others and
                cannot be brought to it.
        """
        grids = {
            path: grid_of(header_of(path), path, subject.volumes.get(name)) for name, path in subject.files.items()
        }
        if not grids:
            raise BadInputError(f"subject {subject.source} has no image")
        first, *others = grids
        for path in others:
            if not grids[path].matches(grids[first]):
                self._need_registration(subject, f"{path} and {first} lie on different grids")
        mask = subject.brain_mask
        if mask is not None:
            found = grid_of(header_of(mask), mask)
            if not any(found.matches(grid) for grid in grids.values()):
                raise BadInputError(f"{mask}: the brain mask is not on the grid of {first}; resample it to that")

    def case(self, subject: Subject, modalities: Sequence[str]) -> Case:
        """Bring a subject's images to the working grid, see `cgckit.images.working_grid.to_working_grid`.

        A subject that was made in memory is a case already; its channels are put in order.

        Args:
            subject: the files.
            modalities: the channels, in this order; one that the subject lacks is 0 everywhere.

        Returns:
            Case with image [C, H, W, L], on `case.grid`; `case.native` is the grid of the first file.

        Raises:
            BadInputError: for a file that cannot be used (see `Volume.load`), images that cannot be aligned, a brain
                mask that is empty or on another grid, an image that is constant inside the brain, a file that was
                replaced since its fingerprint was taken.
        """
        if subject.case is not None:
            return subject.case.with_channels(modalities)
        volumes, prepared = self.scans(subject, modalities)
        native = next(iter(volumes.values())).grid
        places = {name: volume.grid for name, volume in volumes.items()}
        found = to_working_grid(volumes, prepared.brain, modalities, subject.source)
        return Case(
            subject=subject.label,
            image=torch.from_numpy(found.image),
            brain=torch.from_numpy(found.brain),
            modalities=tuple(modalities),
            spacing=found.grid.spacing,
            grid=found.grid,
            native=native,
            source=subject.source,
            notes=prepared.notes,
            places=places,
        )

    def scans(self, subject: Subject, modalities: Sequence[str]) -> tuple[dict[str, Volume], Prepared]:
        """The scans, each with its grid where it lies in the world of the first, and what was found out of them."""
        with subject.unchanged():
            volumes = {name: subject.load(name) for name in modalities if name in subject.files}
            if not volumes:
                raise BadInputError(f"subject {subject.source} has none of: {', '.join(modalities)}")
            path = None if self.cache is None else self._path(self.cache, subject, list(volumes))
            shape = next(iter(volumes.values())).grid.shape
            prepared = None if path is None else Prepared.read(path, shape)
            if prepared is None:
                prepared = self._find_out(subject, volumes)
                for note in prepared.notes:
                    logger.info("%s: %s", subject.label, note)
                if path is not None:
                    prepared.write(path)
        return prepared.place(volumes), prepared

    def outlook(self, subject: Subject, modalities: Sequence[str]) -> tuple[str, ...]:
        """What would have to be done before a subject's scans can be worked on: "align", "find brain"; or nothing.

        Voxels are read, and nothing is aligned or searched for. Whether scans on different grids show the brain alone
        is judged by the first.

        Raises:
            BadInputError: a file that cannot be used; scans on different grids that are not to be aligned.
        """
        if subject.case is not None:
            return ()
        volumes = {name: subject.load(name) for name in modalities if name in subject.files}
        (name, first), *others = volumes.items()
        elsewhere = next((volume for _, volume in others if not volume.grid.matches(first.grid)), None)
        if elsewhere is not None:
            self._need_registration(subject, f"{elsewhere.path} and {first.path} lie on different grids")
        aligned = elsewhere is None and self._is_aligned(subject, volumes)
        if subject.brain_mask is not None:
            stripped = True
        elif not isinstance(self.brain, AutoBrain) or self.known.says_of(subject) == NO:
            stripped = False
        else:
            stripped = find_foreground(volumes if elsewhere is None else {name: first}) is not None
        return (*([] if aligned else ["align"]), *([] if stripped else ["find brain"]))

    def _path(self, folder: Path, subject: Subject, modalities: list[str]) -> Path:
        parts = {
            "cgckit": __version__,
            "how": {**self.identity(), "prepared": self.known.says_of(subject)},
            "modalities": modalities,
            "inputs": subject.fingerprint(),
        }
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
        return folder / f"{subject.label}-{key}.safetensors"

    def _find_out(self, subject: Subject, volumes: Mapping[str, Volume]) -> Prepared:
        moves, notes = self._moves(subject, volumes)
        placed = Prepared(np.empty(0, bool), moves).place(volumes)
        brain, note = self._brain(subject, volumes, placed)
        return Prepared(brain, moves, (*notes, *note))

    def _moves(self, subject: Subject, volumes: Mapping[str, Volume]) -> tuple[dict[str, DoubleArray], list[str]]:
        """Where the other scans lie, and what to say of it."""
        (first, fixed), *others = volumes.items()
        elsewhere = [name for name, volume in others if not volume.grid.matches(fixed.grid)]
        if elsewhere:
            self._need_registration(subject, f"{volumes[elsewhere[0]].path} and {fixed.path} lie on different grids")
        elif self._is_aligned(subject, volumes):
            return {}, []
        moves: dict[str, DoubleArray] = {}
        notes: list[str] = []
        registration = cast(Registration, self.registration)  # without one, all scans are taken as they lie
        for name, volume in others:
            matrix = register(registration, fixed, volume)
            gap, degrees = distance(matrix, fixed.grid), angle(matrix)
            if name in elsewhere or gap >= _ALIGNED_MM:
                moves[name] = matrix
                notes.append(f"{name} moved to {first} by {gap:.1f} mm, {degrees:.1f} degrees")
        return moves, notes

    def _is_aligned(self, subject: Subject, volumes: Mapping[str, Volume]) -> bool:
        """Whether scans on one grid are to be taken as they lie."""
        says = self.known.says_of(subject)
        if len(volumes) == 1 or says == YES or self.registration is None or self.registration.missing:
            return True
        return says != NO and (subject.brain_mask is not None or find_foreground(volumes) is not None)

    def _need_registration(self, subject: Subject, what: str) -> None:
        """Raise BadInputError, which begins with `what`, if scans on different grids are not to be aligned."""
        if self.registration is None or self.known.says_of(subject) == YES:
            raise BadInputError(
                f"{what}; resample the images of {subject.source} to one of them, or do not call them prepared"
            )
        if self.registration.missing:
            raise BadInputError(
                f"{what}; to have them aligned: {self.registration.missing}; or resample the images of "
                f"{subject.source} to one of them"
            )

    def _brain(
        self, subject: Subject, volumes: Mapping[str, Volume], placed: Mapping[str, Volume]
    ) -> tuple[BoolArray, list[str]]:
        """The brain on the grid of the first scan, and what to say of it."""
        if subject.brain_mask is not None:
            return given_brain(subject.brain_mask, volumes, placed), []
        return find_brain(self.brain, placed, head=self.known.says_of(subject) == NO)


def prepare(subject: Subject, modalities: Sequence[str], brain: BrainExtractor) -> Case:
    """`Preparation.case` of scans that are taken as they lie, on one grid."""
    return Preparation(brain).case(subject, modalities)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
