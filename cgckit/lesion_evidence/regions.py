"""Regions of a brain: which of their connected parts are lesion, and a lesion map that agrees with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from cgckit.arrays import AnyArray, BoolArray, DoubleArray, FloatArray, Spacing
from cgckit.images.components import Components
from cgckit.lesion_evidence.blocks import Blocks

MIN_VOLUME_MM3 = 50.0
_EDGE_MM = 3.0
_MARGIN = 0.01
_LEAST_WITNESSED = 0.1
_WITNESSED = 0.5
_LENIENCE = 0.3
"""So much of `min_component` is asked of a part that the witness calls lesion."""
ENCLOSED = 0.9
"""Probability of what a lesion encloses: it does not look like lesion, so no image can tell how sure that is."""


def ball(radius: float, spacing: Spacing) -> BoolArray:
    """Structuring element: the voxels within `radius` mm of the centre, on a coarse grid only itself."""
    reach = [int(radius / edge + 1e-6) for edge in spacing]
    offsets = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    squared = sum((offset * edge) ** 2 for offset, edge in zip(offsets, spacing, strict=True))
    return np.asarray(squared <= radius**2 + 1e-6)


@dataclass(frozen=True, eq=False)
class Landscape:
    """Lesion evidence as the height of a landscape, whose slopes tell a lesion's border from a chance contour.

    Attributes:
        evidence: [H, W, L], in MADs above the brain's median.
        brain: [H, W, L] bool.
        spacing: voxel edge lengths in mm.
        slope: [H, W, L], norm of the gradient of the evidence, per mm.
        depth: [H, W, L], distance to the brain's surface in mm; holes in the brain are no surface.
        witness: [H, W, L] bool, what an independent judge calls lesion, if there is one.
    """

    evidence: FloatArray
    brain: BoolArray
    spacing: Spacing
    slope: FloatArray
    depth: FloatArray
    witness: BoolArray | None = None
    _indices: dict[float, tuple[AnyArray, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, evidence: FloatArray, brain: BoolArray, spacing: Spacing, witness: BoolArray | None = None
    ) -> Landscape:
        """Measure the slopes of the evidence; a voxel at the brain's edge has none, as that border is no lesion's."""
        squared = np.zeros_like(evidence)
        for axis, edge in enumerate(spacing):
            if evidence.shape[axis] > 1:
                squared += np.gradient(evidence, edge, axis=axis) ** 2
        inner = ndimage.binary_erosion(brain)
        slope = np.where(inner, np.sqrt(squared), np.float32(0))
        return cls(evidence, brain, spacing, slope, _depth(brain, spacing), witness)

    def select(
        self, region: BoolArray, level: float, min_component: float, min_edge: float, min_depth: float = 0.0
    ) -> Selection | None:
        """Keep the connected parts of a region that look like lesions; None if there are none.

        The holes of the region are filled first. Above `min_depth`, what has nothing of the region beneath it, at the
        nearest point of that depth, is cut off: a sheet of fat may touch a lesion that reaches the surface.

        A part's mass is `sum max(e - level, 0)`, its edge the mean slope over its outermost voxels, its depth the
        mass-weighted mean depth. Kept are parts of at least 50 mm^3 and `min_depth`, `min_component` of the largest
        mass (.3 of that if the witness calls half of the part lesion or more: small lesions beside large ones) and
        `min_edge` of the mass-weighted mean edge. Cortex and artefacts are larger than many a lesion, but
        fade out where a lesion ends; fat, eyes and bone that were not stripped are bright at the surface alone. Of the
        rest, one that the witness calls lesion in less than a tenth is dropped, unless it has the largest mass.

        Args:
            region: [H, W, L] bool.
            level: evidence at the region's border.
            min_component: share of the largest mass.
            min_edge: share of the mean edge.
            min_depth: in mm.
        """
        filled = ndimage.binary_fill_holes(region & self.brain) & self.brain
        if min_depth > 0:
            filled &= filled[self._beneath(min_depth)]
        parts = Components.of(filled, 6)
        if parts.count == 0:
            return None
        surface = filled & ~ndimage.binary_erosion(filled)

        def total(weights: FloatArray | None, where: BoolArray) -> DoubleArray:
            chosen = None if weights is None else weights[where]
            return np.bincount(parts.labels[where], chosen, minlength=parts.count + 1)[1:].astype(np.float64)

        size, length, slope = total(None, filled), total(None, surface), total(self.slope, surface)
        excess = np.maximum(self.evidence - np.float32(level), 0)
        mass = total(excess, filled)
        voxel = float(np.prod(self.spacing))
        kept = (size * voxel >= MIN_VOLUME_MM3) & (length > 0) & (mass > 0)
        kept &= total(excess * self.depth, filled) >= min_depth * mass
        if not kept.any():
            return None
        largest = mass[kept].max()
        least = np.full(parts.count, min_component * largest)
        if self.witness is not None:
            witnessed = total(None, filled & self.witness)
            kept &= (witnessed >= _LEAST_WITNESSED * size) | (mass == largest)
            least[witnessed >= _WITNESSED * size] *= _LENIENCE
        kept &= mass >= least
        edge = slope / np.maximum(length, 1)
        kept &= edge >= min_edge * np.average(edge[kept], weights=mass[kept])
        region = parts.where(kept)
        return Selection(
            region,
            float(size[kept].sum()) * voxel / 1000,
            float(slope[kept].sum() / length[kept].sum()),
            None if self.witness is None else _overlap(region, self.witness),
        )

    def _beneath(self, depth: float) -> tuple[AnyArray, ...]:
        """Of each voxel the nearest one at a depth of so many mm, as indices; of a deeper one itself."""
        if depth not in self._indices:
            deep = self.depth >= depth
            found = np.indices(deep.shape, np.int32)
            if deep.any():
                ndimage.distance_transform_edt(
                    ~deep, sampling=self.spacing, return_distances=False, return_indices=True, indices=found
                )
            self._indices[depth] = tuple(found)
        return self._indices[depth]


def _overlap(one: BoolArray, other: BoolArray) -> float:
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


def _depth(brain: BoolArray, spacing: Spacing) -> FloatArray:
    solid = np.pad(ndimage.binary_fill_holes(brain), 1)
    inner = (slice(1, -1),) * 3
    return np.asarray(ndimage.distance_transform_edt(solid, sampling=spacing)[inner], np.float32)


@dataclass(frozen=True, eq=False)
class Selection:
    """Parts of a region that look like lesions.

    Attributes:
        region: [H, W, L] bool.
        volume_ml: their volume.
        edge: mean slope of the evidence at their border, in MADs per mm.
        agreement: their Dice coefficient with what the witness calls lesion; None without one.
    """

    region: BoolArray
    volume_ml: float
    edge: float
    agreement: float | None


def lesion_map(membership: FloatArray, blocks: Blocks, spacing: Spacing, chosen: BoolArray) -> FloatArray:
    """Restrict a soft lesion membership to the parts that were chosen on a coarse grid, [H, W, L] in [0, 1].

    Above one half in the parts of `membership > .5` that touch `chosen`, 0.9 in their holes, no farther than 3 mm from
    it: on the fine grid a bridge of a few voxels may join what was not chosen. Up to 3 mm around them the
    membership, held below one half, gives a soft edge; zero elsewhere.

    Args:
        membership: [H, W, L].
        blocks: the brain, cut into the blocks that were chosen from.
        spacing: voxel edge lengths in mm.
        chosen: [h, w, l] bool.
    """
    brain = blocks.fine
    bright = (membership > 0.5) & brain
    filled = ndimage.binary_fill_holes(bright) & brain
    membership = np.where(filled & ~bright, np.float32(ENCLOSED), membership)
    parts = Components.of(filled, 6)
    kept = np.zeros(parts.count + 1, bool)
    kept[np.unique(blocks.sample(parts.labels)[chosen])] = True
    near = ndimage.binary_dilation(chosen, ball(_EDGE_MM, blocks.spacing))
    region = parts.where(kept[1:]) & (blocks.enlarge(near.astype(np.float32)) >= 0.5)
    edge = ndimage.binary_dilation(region, ball(_EDGE_MM, spacing)) & brain & ~region
    probability = np.where(region, np.clip(membership, 0.5 + _MARGIN, 1), 0)
    return np.where(edge, np.clip(membership, 0, 0.5 - _MARGIN), probability).astype(np.float32)
