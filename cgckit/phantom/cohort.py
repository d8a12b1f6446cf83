"""Writing a simulated cohort: images in one folder, references in another."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from cgckit.arrays import AnyArray
from cgckit.atomic import atomic_write
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError, UsageError
from cgckit.images.grid import Grid
from cgckit.phantom.subject import (
    PhantomSubject,
    simulate_ct_subject,
    simulate_raw_subject,
    simulate_subject,
    subject_label,
)

GENERATOR_VERSION = 1
"""Raised by any change of what the generator draws for a given seed."""

Modality = Literal["mri", "ct", "raw"]
_SIMULATE = {"mri": simulate_subject, "ct": simulate_ct_subject, "raw": simulate_raw_subject}

_DESCRIPTION = "phantom.json"


def write_cohort(
    out: str | Path,
    subjects: int,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    modality: Modality = "mri",
) -> Path:
    """Simulate subjects and write them as NIfTI; what an earlier call with the same seed finished is kept.

    ::

        out/images/sub-001/sub-001_flair.nii.gz, sub-001_t1.nii.gz (or sub-001_ct.nii.gz): what a scanner would give
        out/references/sub-001_seg.nii.gz: where the lesions are; apart from `images`, so that it cannot be
            picked up by accident
        out/parameters/sub-001.json, out/participants.tsv: what was simulated
        out/phantom.json: seed and version of the generator
        out/prepared/sub-001/...: of "raw", the images as perfect preparation would leave them
        out/brains/sub-001_brain.nii.gz: of "raw", the brain on the grid of the reference

    Args:
        out: folder; made if it is not there.
        subjects: how many; subject k does not depend on it.
        seed: another seed gives another cohort.
        progress: called with the label of each subject as it is finished.
        modality: "mri" for FLAIR and T1 of skull-stripped brains, "ct" for heads with bleeding, "raw" for FLAIR,
            T1 and T2 of whole heads, each on its own grid, the head moved in between; `parameters` has the transforms.

    Returns:
        The folder of images.

    Raises:
        UsageError: if `subjects` is below 1 or `seed` negative.
        BadInputError: if the folder holds anything else, or cannot be written.
    """
    if subjects < 1 or seed < 0:
        raise UsageError(f"--subjects {subjects}, --seed {seed}: at least one subject and a seed of 0 or more")
    out = Path(out)
    _claim(out, seed, modality)
    rows = []
    for index in range(subjects):
        label = subject_label(index)
        record = out / "parameters" / f"{label}.json"
        if not record.exists():
            _write_subject(out, _SIMULATE[modality](seed, index))
        parameters = json.loads(record.read_text(encoding="utf-8"))
        rows.append({"participant_id": label, **parameters["summary"]})
        if progress is not None:
            progress(label)
    Derivatives(out).write_table("participants.tsv", rows)
    return out / "images"


def _claim(out: Path, seed: int, modality: Modality) -> None:
    """Mark a new folder as this cohort's, or check that it is."""
    wanted = {"Generator": "cgckit phantom", "Version": GENERATOR_VERSION, "Seed": seed}
    if modality != "mri":
        wanted["Modality"] = modality
    if out.exists() and not out.is_dir():
        raise BadInputError(f"{out}: is a file; give a folder")
    if out.is_dir() and any(out.iterdir()):
        try:
            found = json.loads((out / _DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if found != wanted:
            what = f"holds another phantom ({found})" if found else "is not empty and holds no phantom"
            raise BadInputError(f"{out}: {what}; choose another folder")
        return
    Derivatives(out).write_json(_DESCRIPTION, wanted)


def _write_subject(out: Path, subject: PhantomSubject) -> None:
    for modality, image in subject.images.items():
        grid = subject.grids.get(modality, subject.grid)
        _write_image(out / "images" / subject.label / f"{subject.label}_{modality}.nii.gz", image, grid)
    if subject.transforms:
        for modality, image in subject.prepared().items():
            _write_image(out / "prepared" / subject.label / f"{subject.label}_{modality}.nii.gz", image, subject.grid)
        brain = subject.brain.astype(np.uint8)
        _write_image(out / "brains" / f"{subject.label}_brain.nii.gz", brain, subject.grid)
    reference = subject.lesion.astype(np.uint8)
    _write_image(out / "references" / f"{subject.label}_seg.nii.gz", reference, subject.grid)
    # Written last: it says that the subject is complete.
    content = {"summary": subject.summary, **subject.plans}
    if subject.transforms:
        content["transforms"] = {name: matrix.tolist() for name, matrix in subject.transforms.items()}
    Derivatives(out).write_json(f"parameters/{subject.label}.json", content)


def _write_image(path: Path, array: AnyArray, grid: Grid) -> None:
    """Write an array as `.nii.gz`; gzip's time is left out, so that equal images are equal files."""
    image = nib.Nifti1Image(array, grid.affine)
    image.set_sform(grid.affine, code=1)
    image.set_qform(grid.affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic_write(path) as temporary,
            temporary.open("wb") as file,
            gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=file, mtime=0) as stream,
        ):
            image.to_stream(stream)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be written ({error.strerror or error})") from error
