"""`ExternalPrior`: masks or probability maps that somebody already has, one file a subject."""

from __future__ import annotations

import glob
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from cgckit.arrays import FloatArray
from cgckit.errors import BadInputError, UsageError
from cgckit.images.case import Case
from cgckit.images.cohort import Subject
from cgckit.images.grid import resample
from cgckit.images.layouts.labels import check_inside
from cgckit.images.volume import Volume
from cgckit.priors.base import Prediction, Prior

_PLACEHOLDER = "{subject}"
# A resampled or rescaled probability may overshoot 0 and 1 by rounding.
_ROUNDING = 1e-3


@dataclass
class ExternalPrior(Prior):
    """A file for each subject, on the grid of its images: a mask, labels or a probability map.

    Values within [0, 1] are probabilities (a mask is one of 0 and 1). A file of other non-negative whole
    numbers is a label map: every label above 0 is lesion. Written `mask:PATTERN` on the command line.

    Attributes:
        pattern: path of the files; `{subject}` stands for the subject's name or its label, `*`, `?` and
            `[...]` are wildcards, `**` is any folders.

    Raises:
        UsageError: if the pattern is empty or lacks `{subject}`.
    """

    summary: ClassVar[str] = "A mask or probability file for each subject (mask:PATTERN with {subject})"
    cost: ClassVar[str] = "files are read"

    pattern: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.pattern:
            raise UsageError("prior mask needs a pattern: write mask:PATH/{subject}.nii.gz")
        if _PLACEHOLDER not in self.pattern:
            raise UsageError(f"prior mask:{self.pattern}: the pattern must hold {{subject}}, a file for each subject")

    def find_file(self, label: str, source: str | None) -> Path:
        """Return the file of the subject with that label; its name in the input, `source`, is tried first.

        Raises:
            BadInputError: if the pattern matches no file, or several, or the name leads out of its folder.
        """
        tried = []
        for name in dict.fromkeys(filter(None, (source, label))):
            check_inside(name)
            # A name is taken as it is, even if it holds what would be a wildcard in the pattern.
            pattern = str(Path(self.pattern).expanduser()).replace(_PLACEHOLDER, glob.escape(name))
            files = sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())
            if len(files) == 1:
                return Path(files[0])
            if files:
                raise BadInputError(
                    f"prior mask:{self.pattern}: {len(files)} files match for subject {name}, "
                    f"among them {files[0]} and {files[1]}: narrow the pattern"
                )
            tried.append(name)
        raise BadInputError(f"prior mask:{self.pattern}: there is no file for subject {' or '.join(tried)}")

    def predict(self, case: Case) -> Prediction:
        """Return the file's probability on the case's grid, [H, W, L] float32, 0 outside the brain.

        Raises:
            BadInputError: if there is not exactly one file, it cannot be read, is on another grid than the
                images, or holds values that are neither probabilities nor labels.
        """
        path = self.find_file(case.subject, case.source)
        volume = Volume.load(path, allow_constant=True)
        if not volume.grid.matches(case.native):
            if volume.grid.shape != case.native.shape:
                difference = f"its shape is {volume.grid.shape}, theirs {case.native.shape}"
            else:
                difference = "the affines differ"
            raise BadInputError(
                f"{path} is not on the grid of the images of {case.source or case.subject}: {difference}; "
                "resample it to the images"
            )
        probability, kind = _as_probability(volume.array, path)
        moved = torch.from_numpy(resample(probability, volume.grid, case.grid).astype(np.float32))
        return Prediction(moved.clamp(0, 1) * case.brain.cpu(), f"{kind} read from {path}")

    def fingerprint(self, subject: Subject) -> str:
        """SHA-256 of the subject's file."""
        path = self.find_file(subject.label, subject.source)
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error


def _as_probability(array: FloatArray, path: Path) -> tuple[FloatArray, str]:
    """Read the values [H, W, L] of a file as probabilities, and say what they were."""
    low, high = float(array.min()), float(array.max())
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        whole = bool(((array == 0) | (array == 1)).all())
        return array.clip(0, 1), "mask" if whole else "probability"
    if low >= 0 and bool((array == np.rint(array)).all()):
        return (array > 0).astype(np.float32), "labels above 0"
    raise BadInputError(
        f"{path}: values from {low:g} to {high:g} are neither probabilities in [0, 1] nor labels; "
        "rescale or threshold it"
    )
