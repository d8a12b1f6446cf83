"""`CoarseSearch`: the brain without a learned model; and brain masks that somebody made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy import ndimage
from sklearn.cluster import KMeans

from cgckit.arrays import BoolArray, DoubleArray, FloatArray
from cgckit.errors import BadInputError
from cgckit.images.brain.extractor import BrainExtractor
from cgckit.images.brain.morphology import dilate, erode, largest_component, millilitres, solid
from cgckit.images.brain.skull import find_inside_of_skull, is_head_in_hounsfield_units
from cgckit.images.grid import Grid, resample
from cgckit.images.volume import Volume

# An intracranial volume is at most about 2 litres; a head has 3 and more.
_LARGEST_BRAIN_ML = 2100.0
_SMALLEST_BRAIN_ML = 300.0
_LARGEST_FIELD_ML = 150_000.0
_HEAD_SPACING = 2.0
_SENSITIVITY_MM = 30.0
# Modalities in the order in which a whole head is best told apart from its brain.
_HEAD_ORDER = ("t1", "flair", "t1ce", "t2")
_WAY_OUT = "give a brain mask (column brain_mask of a table, brain= in Python)"


def read_brain_mask(path: Path, grid: Grid) -> BoolArray:
    """Read a mask that somebody made: every voxel above 0 is brain.

    Raises:
        BadInputError: if the file cannot be read, is empty or lies on another grid than the images.
    """
    mask = Volume.load(path, allow_constant=True)
    if not mask.grid.matches(grid):
        raise BadInputError(f"{path}: the brain mask is not on the images' grid; resample it to theirs")
    brain: BoolArray = mask.array > 0
    if not brain.any():
        raise BadInputError(f"{path}: the brain mask is empty; leave it out to have the brain found")
    return brain


@dataclass
class CoarseSearch(BrainExtractor):
    """The brain as what differs from an empty background, or by clustering and morphology in a whole head.

    Images whose surroundings have one value, as after skull-stripping, show the brain as everything else: the
    union over such images, its largest component, holes filled. If that is larger than a brain can be, or no
    image is like that, the image is of a whole head: `cgckit.images.brain.skull` looks into CT, `find_brain_in_head`
    into MRI.
    """

    summary: ClassVar[str] = "what an empty background leaves, or a coarse search in a whole head"

    def extract(self, volumes: Mapping[str, Volume]) -> BoolArray:
        """Find the brain in the images of one subject, [H, W, L].

        Raises:
            BadInputError: if no brain is found.
        """
        brain = find_foreground(volumes)
        if brain is not None:
            return brain
        heads = {name for name, volume in volumes.items() if is_head_in_hounsfield_units(volume)}
        if heads:
            return find_inside_of_skull(volumes[min(heads)])
        rank = {modality: number for number, modality in enumerate(_HEAD_ORDER)}
        modality = min(volumes, key=lambda name: rank.get(name, len(rank)))
        return find_brain_in_head(volumes[modality])


def find_foreground(volumes: Mapping[str, Volume]) -> BoolArray | None:
    """The brain in images on one grid, [H, W, L], if it is all that is in them, as after skull-stripping; else None."""
    heads = {name for name, volume in volumes.items() if is_head_in_hounsfield_units(volume)}
    candidates = (foreground(volume.array) for name, volume in volumes.items() if name not in heads)
    foregrounds = [mask for mask in candidates if mask is not None]
    if not foregrounds:
        return None
    brain = solid(np.logical_or.reduce(foregrounds))
    return brain if millilitres(brain, next(iter(volumes.values())).grid) <= _LARGEST_BRAIN_ML else None


def find_brain_in_head(volume: Volume) -> BoolArray:
    """Find the brain in an image of a whole head by clustering and morphology, [H, W, L].

    On a 2 mm grid, voxels of tissue (the brighter two of three clusters of the head) are eroded until the
    largest component comes loose from scalp and neck; it is then grown back and closed.
    It is coarse, several mm off at the brain stem, the eyes and the sagittal sinus, and fails where the skull
    is not darker than brain and scalp; with such images, give masks of a brain extractor.

    Raises:
        BadInputError: if nothing of the size of a brain is found.
    """
    field = float(np.prod(volume.grid.shape) * np.prod(volume.grid.spacing)) / 1000
    if not _SMALLEST_BRAIN_ML <= field <= _LARGEST_FIELD_ML:
        size = " x ".join(f"{n * edge:.0f}" for n, edge in zip(volume.grid.shape, volume.grid.spacing, strict=True))
        raise BadInputError(f"{volume.path}: no brain found in a field of view of {size} mm; {_WAY_OUT}")
    canonical = volume.grid.canonical()
    grid = canonical.isotropic(max([_HEAD_SPACING, *(edge for edge in canonical.spacing if edge < 4)]))
    head = resample(volume.array, volume.grid, grid)
    tissue = _tissue(head, grid)
    for radius in (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0):
        core = largest_component(erode(tissue, radius, grid.spacing))
        if core is None:
            break
        brain = dilate(core, radius + 1, grid.spacing) & tissue
        brain = solid(erode(dilate(brain, 8, grid.spacing), 8, grid.spacing))
        if not _SMALLEST_BRAIN_ML <= millilitres(brain, grid) <= _LARGEST_BRAIN_ML:
            continue
        native: BoolArray = resample(brain, grid, volume.grid) >= 0.5
        return native
    raise BadInputError(f"{volume.path}: no brain found in it; {_WAY_OUT}")


def foreground(array: FloatArray) -> BoolArray | None:
    """Return what differs from the one value that surrounds it; None if the surroundings have many values."""
    faces = np.concatenate([np.moveaxis(array, axis, 0)[end].ravel() for axis in range(3) for end in (0, -1)])
    values, counts = np.unique(faces, return_counts=True)
    background = values[counts.argmax()]
    if counts.max() < 0.6 * faces.size:
        return None
    foreground: BoolArray = array != background
    return foreground if foreground.any() else None


def _tissue(head: FloatArray, grid: Grid) -> BoolArray:
    """Tell soft tissue from air, bone and fluid by intensity."""
    smooth = ndimage.gaussian_filter(np.minimum(head, np.percentile(head, 99)), 0.7)
    inside = smooth > _split(smooth.ravel(), 2)[0]
    # The mean of the surroundings stands for the coil's sensitivity; without it one end of the brain may be dark.
    sigma = [_SENSITIVITY_MM / edge for edge in grid.spacing]
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma)
    smooth = np.minimum(smooth, np.percentile(smooth[inside], 80))
    flat = smooth * weight / np.maximum(ndimage.gaussian_filter(smooth * inside, sigma), np.finfo(np.float32).tiny)
    result: BoolArray = inside & (flat > _split(flat[inside], 3)[0])
    return result


def _split(values: FloatArray, clusters: int) -> DoubleArray:
    """Return the thresholds between the k-means clusters, ascending; the brightest 1 % count as one value."""
    sample = np.minimum(values, np.percentile(values, 99))[:: max(1, values.size // 100_000)]
    start = np.linspace(sample.min(), sample.max(), 2 * clusters + 1)[1::2]
    means = (
        KMeans(clusters, init=start[:, None], n_init=1, random_state=0).fit(sample[:, None]).cluster_centers_.ravel()
    )
    means = np.sort(means.astype(np.float64))
    thresholds: DoubleArray = (means[1:] + means[:-1]) / 2
    return thresholds
