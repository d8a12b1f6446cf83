"""`lesions_of`: every lesion of a run by itself, with its size, its place and what it looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from cgckit.arrays import BoolArray, DoubleArray, FloatArray
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError
from cgckit.exports.run import Refined, read_run
from cgckit.images.components import Components
from cgckit.images.grid import Grid, resample
from cgckit.images.volume import Volume
from cgckit.ledger import Ledger
from cgckit.lesion_evidence.mirror import Plane

TABLE = "lesions.tsv"
"""Where the table is written in a run's folder."""
COLUMNS = ["participant_id", "lesion", "volume_ml", "x_mm", "y_mm", "z_mm", "diameter_mm", "probability"]
COLUMNS += ["hemisphere", "depth_mm"]
# The mid-sagittal plane is found on voxels of this size [mm].
_PLANE_SPACING = 4.0
# A lesion of which less than this share is on the other side belongs to one side.
_OTHER_SIDE = 0.1


@dataclass(frozen=True)
class Lesion:
    """One connected part of a refined mask (voxels that share a face, an edge or a corner).

    Attributes:
        label: of the subject.
        number: from 1, the largest first.
        volume_ml: its volume.
        centre_mm: centre of gravity in the scan's own world coordinates (right, front, up).
        diameter_mm: the largest distance of two of its points, voxels' corners included.
        probability: mean refined probability of lesion.
        hemisphere: left or right, or both where at least a tenth is on the other side of the mid-sagittal plane.
        depth_mm: distance of its nearest voxel to the brain's surface, the centre of the first voxel outside.
        means: mean of each modality, in the scan's own units.
    """

    label: str
    number: int
    volume_ml: float
    centre_mm: tuple[float, float, float]
    diameter_mm: float
    probability: float
    hemisphere: str
    depth_mm: float
    means: Mapping[str, float]

    def row(self) -> dict[str, Any]:
        """Its row of the table."""
        row: dict[str, Any] = {"participant_id": f"sub-{self.label}", "lesion": self.number}
        row |= {"volume_ml": round(self.volume_ml, 4)}
        row |= {f"{axis}_mm": round(value, 2) for axis, value in zip("xyz", self.centre_mm, strict=True)}
        row |= {"diameter_mm": round(self.diameter_mm, 2), "probability": round(self.probability, 4)}
        row |= {"hemisphere": self.hemisphere, "depth_mm": round(self.depth_mm, 2)}
        return row | {f"mean_{name}": float(f"{value:.6g}") for name, value in self.means.items()}


def write_lesions(
    run: str | Path,
    out: str | Path | None = None,
    *,
    scans: str | Path | None = None,
    step: Callable[[int], None] = lambda total: None,
) -> tuple[Path, list[Lesion]]:
    """Write the table of all lesions of a run.

    Args:
        run: output folder of `refine` or `predict`.
        out: the table; by default `lesions.tsv` in `run`.
        scans: what the run was made of; by default, what lies beside the scan that each mask names.
        step: called with the number of subjects as each is done.

    Returns:
        Where the table is, and the lesions.

    Raises:
        BadInputError: no complete run, or a file that cannot be read or written.
        UsageError: the table would replace a file in the run that cgckit did not write.
    """
    run = Path(run)
    path = run / TABLE if out is None else Path(out)
    subjects = read_run(run, None if scans is None else Path(scans))
    own = path.resolve() == (run / TABLE).resolve()
    ledger = Ledger(run)
    if own:
        ledger.intend([run / TABLE])
    found: list[Lesion] = []
    for subject in subjects:
        found += lesions_of(subject)
        step(len(subjects))
    Derivatives(path.parent).write_table(path.name, [lesion.row() for lesion in found], columns=COLUMNS)
    if own:
        ledger.record([run / TABLE])
    return path, found


def lesions_of(subject: Refined) -> list[Lesion]:
    """The lesions of one subject, the largest first.

    Raises:
        BadInputError: a file of the subject cannot be read, or a scan lies on another grid than the mask.
    """
    mask = Volume.load(subject.mask, allow_constant=True)
    brain = Volume.load(subject.brain, allow_constant=True).array > 0
    probability = Volume.load(subject.probability, allow_constant=True).array
    images = {name: Volume.load(path) for name, path in subject.scans.items()}
    for image in images.values():
        if not image.grid.matches(mask.grid):
            raise BadInputError(f"{image.path}: not on the grid of {subject.mask}")
    lesion = mask.array > 0
    parts = Components.of(lesion, 26)
    if parts.count == 0:
        return []
    right = _right_side(next(iter(images.values())), brain)
    arrays = {name: image.array for name, image in images.items()}
    measured = _measure(subject.label, parts, mask.grid, brain | lesion, probability, arrays, right)
    ordered = sorted(measured, key=lambda item: (-item.volume_ml, item.centre_mm))
    return [replace(item, number=number) for number, item in enumerate(ordered, 1)]


def _measure(
    label: str,
    parts: Components,
    grid: Grid,
    brain: BoolArray,
    probability: FloatArray,
    images: Mapping[str, FloatArray],
    right: Callable[[DoubleArray], BoolArray],
) -> Iterator[Lesion]:
    depth = _depths(brain, grid)
    voxel_ml = float(abs(np.linalg.det(grid.affine[:3, :3]))) / 1000
    for number, box in enumerate(ndimage.find_objects(parts.labels), 1):
        inside = parts.labels[box] == number
        voxels = np.argwhere(inside) + [axis.start for axis in box]
        points: DoubleArray = apply_affine(grid.affine, voxels)
        share = float(right(points).mean())
        side = "right" if share > 1 - _OTHER_SIDE else "left" if share < _OTHER_SIDE else "both"
        x, y, z = (float(value) for value in points.mean(axis=0))
        yield Lesion(
            label=label,
            number=number,
            volume_ml=len(voxels) * voxel_ml,
            centre_mm=(x, y, z),
            diameter_mm=_diameter(voxels, grid),
            probability=float(probability[box][inside].mean()),
            hemisphere=side,
            depth_mm=float(depth[box][inside].min()),
            means={name: float(image[box][inside].mean()) for name, image in images.items()},
        )


def _diameter(voxels: DoubleArray, grid: Grid) -> float:
    """The largest distance of two corners of voxels [N, 3], in mm."""
    offsets = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing="ij")).reshape(3, -1).T
    corners = np.unique((voxels[:, None] + offsets).reshape(-1, 3), axis=0)
    points = corners @ grid.affine[:3, :3].T
    # Eight corners of one voxel span space, so there always is a hull, and the farthest points are on it.
    return float(pdist(points[ConvexHull(points).vertices]).max())


def _depths(brain: BoolArray, grid: Grid) -> FloatArray:
    """Distance of each voxel to the nearest one outside the brain, in mm; what is beyond the image is outside."""
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    padded = np.pad(brain[box], 1)
    found = np.zeros(brain.shape, np.float32)
    found[box] = ndimage.distance_transform_edt(padded, sampling=grid.spacing)[1:-1, 1:-1, 1:-1]
    return found


def _right_side(image: Volume, brain: BoolArray) -> Callable[[DoubleArray], BoolArray]:
    """Tells which points [N, 3] in mm are right of the mid-sagittal plane, found on the image and the brain's shape."""
    coarse = image.grid.canonical().isotropic(_PLANE_SPACING)
    inside = resample(brain.astype(np.float32), image.grid, coarse) > 0.5
    values = resample(image.array, image.grid, coarse)
    median = float(np.median(values[inside])) if inside.any() else 0.0
    spread = 1.4826 * float(np.median(np.abs(values[inside] - median))) if inside.any() else 1.0
    plane = Plane.find([np.asarray((values - median) / (spread or 1.0), np.float32)], inside, coarse.spacing)
    inverse = np.linalg.inv(coarse.affine)

    def is_right(points: DoubleArray) -> BoolArray:
        # Of the plane, x is in mm from the first voxel's corner.
        places = (apply_affine(inverse, points) + 0.5) * coarse.spacing
        return np.asarray(places @ plane.normal > plane.offset)

    return is_right
