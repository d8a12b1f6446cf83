"""`export_dicom_seg`: refined masks as DICOM segmentations of the series that the scans were made of.

They go back to the archive that the scans came from, so they carry the patient's and the study's identifiers, which are
those of the DICOM files; nothing else that cgckit writes does.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from cgckit.arrays import BoolArray
from cgckit.atomic import atomic_write
from cgckit.dicom.choice import Candidate
from cgckit.dicom.importing import Plan, plan_of
from cgckit.dicom.slices import quiet
from cgckit.dicom.stacks import Stack
from cgckit.errors import BadInputError
from cgckit.exports.folder import export_folder
from cgckit.exports.run import Refined, read_run
from cgckit.images.grid import Grid, resample
from cgckit.images.volume import Volume
from cgckit.version import __version__

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """A segmentation: whose it is, the file, and of how many slices of the series some of it is."""

    label: str
    path: Path
    slices: int


def export_dicom_seg(
    run: str | Path,
    out: str | Path,
    dicom: str | Path,
    *,
    mapping: str | Path | None = None,
    step: Callable[[int], None] = lambda total: None,
) -> list[Exported]:
    """Write the refined mask of each subject as a DICOM segmentation, on the slices of the series it was made of.

    Which series that is follows from the DICOM files as `cgckit dicom` reads them, so these must be the same. A mask
    whose scan was resampled (a tilted gantry, uneven slices) goes back to the scanner's own slices, by nearest voxels.

    Args:
        run: output folder of `refine` or `predict` on a cohort that `cgckit dicom` made.
        out: a new folder: `sub-001.dcm`, ...
        dicom: the DICOM files that the cohort was made of.
        mapping: the `--mapping` of the import, if it had one.
        step: called with the number of subjects as each is done.

    Returns:
        What was written; a subject without any lesion has no segmentation, and a warning says so.

    Raises:
        BadInputError: no complete run; scans that `cgckit dicom` did not make of these files.
        UsageError: `out` holds something else.
    """
    run, out, dicom = Path(run), Path(out), Path(dicom)
    subjects = read_run(run)
    plan = plan_of(dicom, None if mapping is None else Path(mapping))
    by_name: dict[str, list[Candidate]] = {}
    for item in plan.candidates:
        by_name.setdefault(Path(plan.file_of(item)).name, []).append(item)
    done = []
    with export_folder(out, "dicom-seg", [run, dicom]) as ledger:
        for subject in subjects:
            candidate = _source(subject, plan, by_name, dicom)
            path = out / f"sub-{re.sub(r'[^A-Za-z0-9_-]', '', subject.label)}.dcm"
            ledger.intend([path])
            slices = _write(subject, candidate.stack, path)
            if slices:
                ledger.record([path])
                done.append(Exported(subject.label, path, slices))
            else:
                logger.warning("sub-%s: no lesion, so there is nothing to segment: no file", subject.label)
            step(len(subjects))
    return done


def _source(subject: Refined, plan: Plan, by_name: dict[str, list[Candidate]], dicom: Path) -> Candidate:
    """The series that a subject's scan was made of: of its name, and on its grid."""
    frame = subject.frame
    grid = Volume.load(frame).grid
    for candidate in sorted(by_name.get(frame.name, []), key=lambda item: item.rank):  # as they are chosen
        if not candidate.stack.fault and _is_made_of(grid, candidate.stack):
            return candidate
    raise BadInputError(
        f"{frame}: was not made by cgckit dicom of a series in {dicom}; give the same files, and the same --mapping"
    )


def _is_made_of(grid: Grid, stack: Stack) -> bool:
    """Whether a grid is a stack's own, or what remains of it where it was straightened: the first slice's plane."""
    if stack.is_upright and stack.is_even:
        return grid.matches(_grid_of(stack), tolerance=0.01)
    own = _grid_of(stack)
    columns = [matrix[:3, :2] / np.linalg.norm(matrix[:3, :2], axis=0) for matrix in (grid.affine, own.affine)]
    return bool(np.allclose(columns[0], columns[1], atol=1e-3)) and np.allclose(
        grid.spacing[:2], own.spacing[:2], atol=1e-3
    )


def _grid_of(stack: Stack, k: int | None = None) -> Grid:
    """The grid of a stack's columns, rows and slices; with `k`, of that one slice alone."""
    assert stack.axes is not None
    ras = stack.axes * (-1, -1, 1)
    affine = np.eye(4)
    step = float(np.ptp(stack.levels)) / (len(stack.slices) - 1)
    affine[:3, :3] = ras.T * (*stack.edges[:2], step)
    affine[:3, 3] = np.asarray(stack.slices[k or 0].position) * (-1, -1, 1)
    columns, rows = stack.first.shape
    return Grid((columns, rows, len(stack.slices) if k is None else 1), affine)


def _on_slices(mask: BoolArray, grid: Grid, stack: Stack) -> npt.NDArray[np.uint8]:
    """A mask [H, W, L] on its grid at the pixels of a stack: [slices, rows, columns]."""
    if stack.is_upright and stack.is_even:
        return np.ascontiguousarray(mask.transpose(2, 1, 0).astype(np.uint8))
    layers = [resample(mask, grid, _grid_of(stack, k), order=0, cval=0)[:, :, 0].T for k in range(len(stack.slices))]
    return np.stack(layers).astype(np.uint8)


def _write(subject: Refined, stack: Stack, path: Path) -> int:
    """Write the segmentation of a subject; gives how many slices it is of, 0 if there is none to write."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    mask = Volume.load(subject.mask, allow_constant=True)
    pixels = _on_slices(mask.array > 0, mask.grid, stack)
    if not pixels.any():
        return 0
    with quiet():
        if stack.first.frames > 1:
            pixels = pixels[np.argsort([item.frame for item in stack.slices])]
        files: Sequence[Any] = [pydicom.dcmread(path) for path in dict.fromkeys(item.path for item in stack.slices)]
        algorithm = hd.AlgorithmIdentificationSequence(
            name="cgckit", version=__version__, family=codes.cid7162.ArtificialIntelligence
        )
        segment = hd.seg.SegmentDescription(
            segment_number=1,
            segment_label="lesion",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        try:
            segmentation = hd.seg.Segmentation(
                source_images=files,
                pixel_array=pixels,
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[segment],
                series_instance_uid=hd.UID(),
                series_number=max(stack.first.number, 0) + 9000,
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer="cgckit",
                manufacturer_model_name="cgckit refine",
                software_versions=__version__,
                device_serial_number="1",
                series_description="cgckit: research use only",
                omit_empty_frames=True,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # whose words may quote the header
            raise BadInputError(
                f"{subject.frame}: highdicom makes no segmentation of its series ({type(error).__name__}): something "
                "that the standard asks for is missing in the DICOM headers"
            ) from None
        with atomic_write(path) as temporary:
            segmentation.save_as(temporary)
    return int(pixels.any(axis=(1, 2)).sum())
