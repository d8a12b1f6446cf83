"""What can be said against a cohort's files before any voxel is read."""

from __future__ import annotations

from cgckit.errors import BadInputError
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.volume import grid_of, open_nifti


def check_headers(cohort: Cohort) -> None:
    """Check that every file is a volume on the grid of its subject's other files.

    Headers alone are read, which takes milliseconds a file: a run of hours does not end at its last subject with
    what could have been said at once. Damaged voxels are found when the images are prepared.

    Raises:
        BadInputError: a file that is missing, no NIfTI or no volume, or lies on another grid than the others.
    """
    for subject in cohort:
        _check_subject(subject)


def _check_subject(subject: Subject) -> None:
    grids = {path: grid_of(open_nifti(path).header, path) for path in subject.files.values()}
    if not grids:
        raise BadInputError(f"subject {subject.source} has no image")
    first, *others = grids
    for path in others:
        if not grids[path].matches(grids[first]):
            raise BadInputError(
                f"{path} and {first} lie on different grids; resample the images of {subject.source} to one of them"
            )
    mask = subject.brain_mask
    if mask is not None and not grid_of(open_nifti(mask).header, mask).matches(grids[first]):
        raise BadInputError(f"{mask}: the brain mask is not on the grid of {first}; resample it to that")
