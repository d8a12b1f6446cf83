"""The brain on the grid of a subject's first scan, whatever grids the others lie on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cgckit.arrays import BoolArray
from cgckit.errors import BadInputError
from cgckit.images.brain import AutoBrain, BrainExtractor, extract_brain, read_brain_mask
from cgckit.images.brain.search import find_foreground
from cgckit.images.grid import Grid, resample
from cgckit.images.volume import Volume, grid_of, header_of

# A slab through the head is no place to look for the brain in, however fine.
_SHORTEST_MM = 100.0


def given_brain(mask: Path, volumes: Mapping[str, Volume], placed: Mapping[str, Volume]) -> BoolArray:
    """A mask that somebody made on the grid of one of the scans.

    Args:
        mask: the file.
        volumes: the scans as they came.
        placed: where they lie.

    Raises:
        BadInputError: it cannot be read, is empty or lies on another grid.
    """
    native = next(iter(volumes.values())).grid
    found = grid_of(header_of(mask), mask)
    for name, volume in volumes.items():
        if not found.matches(native) and found.matches(volume.grid):
            return _moved(read_brain_mask(mask, volume.grid), placed[name].grid, native)
    return read_brain_mask(mask, native)


def find_brain(
    extractor: BrainExtractor, placed: Mapping[str, Volume], *, head: bool = False
) -> tuple[BoolArray, list[str]]:
    """The brain that an extractor finds, and what to say of it.

    Scans on different grids are shown to it on the grid of the one with the smallest voxels.

    Args:
        extractor: which one.
        placed: the scans, where they lie.
        head: they are known to show the whole head, whatever their background looks like.

    Raises:
        BadInputError: there is no brain in them.
        PluginError: the extractor failed.
    """
    native = next(iter(placed.values())).grid
    shown = _on_one_grid(placed)
    notes: list[str] = []
    brain = None
    if isinstance(extractor, AutoBrain):
        brain = None if head else find_foreground(shown)
        if brain is None:
            notes = extractor.notes(shown)
            extractor = extractor.for_head(shown)
    if brain is None:
        brain = extract_brain(extractor, shown)
    grid = next(iter(shown.values())).grid
    if not grid.matches(native):
        brain = _moved(brain, grid, native)
    return brain, notes


def _moved(brain: BoolArray, source: Grid, target: Grid) -> BoolArray:
    moved: BoolArray = resample(brain, source, target) >= 0.5
    if not moved.any():
        raise BadInputError("the brain that was found in one scan lies outside the first; check their headers")
    return moved


def _on_one_grid(volumes: Mapping[str, Volume]) -> Mapping[str, Volume]:
    """The scans on one grid: as they are, or on that of the one with the smallest voxels; around a scan is 0."""
    grids = [volume.grid for volume in volumes.values()]
    if all(grid.matches(grids[0]) for grid in grids):
        return volumes
    target = min(grids, key=lambda grid: (_is_slab(grid), max(grid.spacing)))
    return {
        name: volume
        if volume.grid.matches(target)
        else Volume.of(resample(volume.array, volume.grid, target), target.affine, str(volume.path))
        for name, volume in volumes.items()
    }


def _is_slab(grid: Grid) -> bool:
    return min(count * edge for count, edge in zip(grid.shape, grid.spacing, strict=True)) < _SHORTEST_MM
