"""Perturbed cohorts as files: what a user would have, had it befallen the scans."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.robustness.perturbations import PERTURBATIONS, Scan
from cgckit.arrays import AnyArray
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError
from cgckit.evaluation.compare import read_reference
from cgckit.experiments.references import References
from cgckit.images.brain import BrainExtractor, extract_brain, read_brain_mask
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.grid import Grid
from cgckit.images.volume import Volume
from cgckit.images.working_grid import common_grid

SCANS = "scans.tsv"
REFERENCES = "{subject}_seg.nii.gz"


def write_perturbed(
    cohort: Cohort,
    references: References,
    name: str,
    folder: Path,
    *,
    brain: BrainExtractor,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Path, str]:
    """Write what a perturbation makes of a cohort, or take what is there: a folder is renamed once it is whole.

    Every subject gets a brain mask, found in the unperturbed images where none is given: what is measured is the
    segmentation, not the search for the brain.

    Args:
        cohort: the subjects, with their files.
        references: of each of them.
        name: of the perturbation.
        folder: to write to; it belongs to this cohort, perturbation and seed alone.
        brain: finds the brain where no mask is given.
        seed: of what is drawn; a subject's draws depend on it, its name and the perturbation alone.
        progress: called with each subject's name once it is written.

    Returns:
        The table of the scans and the pattern of the references, as `cgckit.refine` and `cgckit.evaluate` take them.
    """
    if not folder.exists():
        partial = folder.with_name(f".partial-{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        rows = []
        for subject in cohort:
            drawn = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(subject.label.encode())])
            scan = PERTURBATIONS[name].do(read_scan(subject, references, brain), drawn)
            rows.append({"subject": subject.source, **_write_scan(partial, subject.label, scan)})
            progress(subject.source)
        Derivatives.create(partial).write_table(SCANS, rows)
        os.replace(partial, folder)
    return folder / SCANS, str(folder / REFERENCES)


def read_scan(subject: Subject, references: References, brain: BrainExtractor) -> Scan:
    """A subject's images, brain and reference on the grid of its files.

    Raises:
        BadInputError: a file that cannot be used, or on another grid than the others.
    """
    volumes = {name: Volume.load(path) for name, path in subject.files.items()}
    grid = common_grid(volumes, subject.source)
    mask = read_brain_mask(subject.brain_mask, grid) if subject.brain_mask else extract_brain(brain, volumes)
    reference, frame = read_reference(references.files[subject.label], references.labels)
    if not frame.grid.matches(grid):
        raise BadInputError(f"{frame.path}: not on the grid of the images of {subject.source}; resample it to them")
    return Scan({name: volume.array for name, volume in volumes.items()}, mask, reference, grid)


def _write_scan(folder: Path, label: str, scan: Scan) -> dict[str, str]:
    """Write a scan's files; gives the row of the table."""
    arrays: dict[str, AnyArray] = {**scan.images, "brain_mask": scan.brain.astype(np.uint8)}
    for name, array in arrays.items():
        _write(folder / f"sub-{label}_{name}.nii.gz", array, scan.grid)
    _write(folder / REFERENCES.format(subject=f"sub-{label}"), scan.reference.astype(np.uint8), scan.grid)
    return {name: f"sub-{label}_{name}.nii.gz" for name in arrays}


def _write(path: Path, array: AnyArray, grid: Grid) -> None:
    image = nib.Nifti1Image(np.ascontiguousarray(array), grid.affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
