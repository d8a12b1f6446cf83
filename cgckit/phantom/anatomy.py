"""The simulated subject's anatomy: the MNI152 tissue maps, deformed and refolded at random."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray, FloatArray, Shape
from cgckit.images.grid import Grid
from cgckit.phantom.fields import random_field

MARGIN = 9
"""Voxels kept around the template's brain, so that a deformed brain still fits."""

_FAR = 100.0

_VENTRICLE_BOX = ((3.0, 45.0), (-65.0, 45.0), (-22.0, 40.0))
"""Where the lateral ventricles lie in MNI space: ranges of |x|, y and z in mm. Leaving out the midline cuts
them off from the third ventricle and the fissures."""


@dataclass(frozen=True, eq=False)
class Template:
    """The MNI152 maps cropped to the brain, at 1 mm.

    Attributes:
        gm: [H, W, L] float32, fraction of grey matter.
        wm: [H, W, L] float32, fraction of white matter.
        depth: [H, W, L] float32, distance below the brain's surface in mm, negative outside.
        ventricle_distance: [H, W, L] float32, distance to the ventricles in mm, 0 inside them.
        grid: where the voxels lie in MNI space.
    """

    gm: FloatArray
    wm: FloatArray
    depth: FloatArray
    ventricle_distance: FloatArray
    grid: Grid


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One subject's tissues, each [H, W, L] float32.

    `gm`, `wm` and `csf` are fractions that add up to one, outside the brain too, where everything is fluid: a
    scanner's blur reaches across the surface before the skull is stripped. `mni` is [3, H, W, L]: the
    template's coordinates in mm of the point that lies at each voxel. `brain` is [H, W, L] bool; `depth` and
    `ventricle_distance` as in `Template`.
    """

    gm: FloatArray
    wm: FloatArray
    csf: FloatArray
    brain: BoolArray
    depth: FloatArray
    ventricle_distance: FloatArray
    mni: FloatArray
    grid: Grid

    @property
    def shape(self) -> Shape:
        """(H, W, L)."""
        return self.grid.shape


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the tissue maps that nilearn ships (no download) and derive depth and ventricles from them."""
    from nilearn import datasets

    images = [
        load(resolution=1)
        for load in (
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
            datasets.load_mni152_brain_mask,
        )
    ]
    brain = np.asarray(images[2].dataobj) > 0
    box = tuple(
        slice(max(0, extent.start - MARGIN), min(length, extent.stop + MARGIN))
        for extent, length in zip(ndimage.find_objects(brain.astype(np.uint8))[0], brain.shape, strict=True)
    )
    gm, wm = (np.asarray(image.dataobj, dtype=np.float32)[box] for image in images[:2])
    brain = brain[box]
    affine = np.array(images[2].affine, dtype=np.float64)
    affine[:3, 3] += affine[:3, :3] @ np.array([extent.start for extent in box])

    depth = ndimage.distance_transform_edt(brain) - ndimage.distance_transform_edt(~brain)
    coordinates = [
        (affine[axis, 3] + np.arange(length)).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, length in enumerate(brain.shape)
    ]
    coordinates[0] = np.abs(coordinates[0])
    fluid = brain & (gm + wm < 0.5)
    for axis, (low, high) in enumerate(_VENTRICLE_BOX):
        fluid &= (coordinates[axis] >= low) & (coordinates[axis] <= high)
    ventricles = _two_largest(fluid)
    return Template(
        gm=gm,
        wm=wm,
        depth=depth.astype(np.float32),
        ventricle_distance=ndimage.distance_transform_edt(~ventricles).astype(np.float32),
        grid=Grid(brain.shape, affine),
    )


def simulate_anatomy(rng: np.random.Generator) -> Anatomy:
    """Deform the template smoothly and displace its tissue borders, so that no two subjects fold alike."""
    template = load_template()
    shape = template.grid.shape
    centre = (np.array(shape) - 1) / 2
    stretch = 1 + 0.03 * rng.standard_normal(3)

    points = np.empty((3, *shape), dtype=np.float32)
    for axis, length in enumerate(shape):
        line = (np.arange(length) - centre[axis]) * stretch[axis] + centre[axis]
        along = line.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        points[axis] = along + 3.0 * random_field(rng, shape, 30) + 0.7 * random_field(rng, shape, 12)

    near = template.depth > -MARGIN
    inside = points[:, near]

    def pull(array: FloatArray, outside: float) -> FloatArray:
        warped = np.full(shape, outside, dtype=np.float32)
        warped[near] = ndimage.map_coordinates(array, inside, output=np.float32, order=1, mode="nearest")
        return warped

    gm, wm, depth = pull(template.gm, 0), pull(template.wm, 0), pull(template.depth, -MARGIN)
    csf = np.clip(1 - gm - wm, 0, 1)
    # The template is an average of many heads, hence blurred: raising the fractions to a power restores a
    # cortex with sulci, and the random weights move its borders, which is what another head would do.
    gm = gm**1.7 * np.exp(0.3 * random_field(rng, shape, 5))
    wm = wm**1.7 * np.exp(0.3 * random_field(rng, shape, 5))
    csf = csf**1.7 * np.exp(0.5 * random_field(rng, shape, 5)) + 1e-6
    total = gm + wm + csf
    affine = template.grid.affine
    mni = points * np.diag(affine)[:3, None, None, None].astype(np.float32)
    mni += affine[:3, 3, None, None, None].astype(np.float32)
    return Anatomy(
        gm=gm / total,
        wm=wm / total,
        csf=csf / total,
        brain=depth > 0,
        depth=depth,
        ventricle_distance=pull(template.ventricle_distance, _FAR),
        mni=mni,
        grid=template.grid,
    )


def _two_largest(mask: BoolArray) -> BoolArray:
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.isin(labels, np.argsort(sizes)[-2:])
