"""`Stack`: the images of a series that make up one volume, in order, and what is wrong with their geometry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from cgckit.arrays import DoubleArray
from cgckit.dicom.slices import Slice

# Positions are written with few digits: distances this unlike, as a fraction or in mm, are still equal.
_SAME_STEP, _SAME_MM = 0.02, 0.05
# Voxel edges beyond these are a mistake of units [mm].
_EDGES = (0.02, 30.0)
# Neighbouring slices whose shift along their own plane is below this, per mm of distance, are upright (half a degree).
_UPRIGHT = 0.0087
# How a fault begins that is none of the scanner, or of what was scanned.
_BROKEN = ("damaged", "missing")
# Directions that agree to this are one: three degrees apart are two planes of a localiser, or of a rotating projection.
_SAME_DIRECTION = 0.9986


@dataclass(frozen=True, eq=False)
class Stack:
    """Images of one series, one orientation, size, echo and kind, ordered along their normal.

    Attributes:
        slices: from the foot, the back or the left upwards, or wherever the normal points to.
    """

    slices: tuple[Slice, ...]

    @property
    def first(self) -> Slice:
        """What stands for all of them where they are alike."""
        return self.slices[0]

    @cached_property
    def axes(self) -> DoubleArray | None:
        """Directions of columns' and rows' increase and the normal, the rows of [3, 3]; None if none is told."""
        if self.first.orientation is None or self.first.edges is None:
            return None
        if any(item.position is None for item in self.slices):
            return None
        across, down = (np.asarray(direction) for direction in self.first.orientation)
        lengths = np.linalg.norm(across), np.linalg.norm(down)
        if not np.allclose(lengths, 1, atol=0.01) or abs(across @ down) > 0.01:
            return None
        return np.stack([across / lengths[0], down / lengths[1], np.cross(across, down)])

    @cached_property
    def positions(self) -> DoubleArray:
        """First pixel of each slice in terms of `axes`, [N, 3] in mm."""
        assert self.axes is not None
        positions: DoubleArray = np.asarray([item.position for item in self.slices], np.float64) @ self.axes.T
        return positions

    @property
    def levels(self) -> DoubleArray:
        """Where each slice lies along the normal, [N] in mm."""
        return self.positions[:, 2]

    @cached_property
    def step(self) -> float:
        """The usual distance of neighbouring slices in mm; their thickness where there is one alone."""
        if len(self.slices) < 2 or self.axes is None:
            return self.first.thickness or 0.0
        return float(np.median(np.diff(self.levels)))

    @cached_property
    def slope(self) -> DoubleArray:
        """How far slices are shifted along columns' and rows' directions for each mm of distance, [2]."""
        if self.axes is None or len(self.slices) < 2 or not np.ptp(self.levels):
            return np.zeros(2)
        return np.asarray(np.polyfit(self.levels, self.positions[:, :2], 1)[0])

    @property
    def tilt(self) -> float:
        """By how many degrees the way of the table leaves the slices' normal, as with a tilted gantry."""
        return float(np.degrees(np.arctan(np.linalg.norm(self.slope))))

    @property
    def is_upright(self) -> bool:
        """Whether slices lie on top of each other."""
        return bool(np.linalg.norm(self.slope) < _UPRIGHT)

    @property
    def is_even(self) -> bool:
        """Whether the distances of neighbouring slices are equal."""
        steps = np.diff(self.levels)
        return bool(np.abs(steps - self.step).max(initial=0) <= max(_SAME_MM, _SAME_STEP * self.step))

    @property
    def height(self) -> float:
        """What the slices cover along their normal, in mm."""
        return float(np.ptp(self.levels)) + self.step if self.axes is not None else 0.0

    @property
    def edges(self) -> tuple[float, float, float]:
        """Voxel edges in mm: columns, rows, slices."""
        across, down = self.first.edges or (0.0, 0.0)
        return across, down, self.step

    @property
    def plane(self) -> str:
        """axial, sagittal or coronal, whichever the slices are closest to."""
        if self.axes is None:
            return "n/a"
        return ("sagittal", "coronal", "axial")[int(np.abs(self.axes[2]).argmax())]

    @cached_property
    def digest(self) -> str:
        """Tells the same files, unchanged, from others; says nothing of what is in them."""
        lines = sorted(f"{item.instance_uid} {item.frame} {item.stamp}" for item in self.slices)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def is_broken(self) -> bool:
        """Whether something of it is damaged or missing."""
        return self.fault.startswith(_BROKEN)

    @cached_property
    def fault(self) -> str:
        """Why no volume can be made of it; empty if one can. It has numbers of slices and millimetres alone."""
        if damaged := [item for item in self.slices if item.damage]:
            which = ", ".join(str(item.instance) for item in damaged[:5])
            return f"{_BROKEN[0]}: slice {which} of {len(self.slices)} {damaged[0].damage}"
        if self.axes is None:
            return "its header does not tell where its slices lie"
        if not self.first.grey:
            return "a picture in colour"
        if len(self.slices) < 2:
            return "a single slice"
        steps = np.diff(self.levels)
        if steps.min() < _SAME_MM:
            times = int(np.ceil(len(self.slices) / np.unique(np.round(self.levels / (2 * _SAME_MM))).size))
            return f"about {times} images at each place: a series in time or of directions"
        if missing := self._missing():
            return missing
        if not (min(self.edges) > _EDGES[0] and max(self.edges) < _EDGES[1]):
            return "voxels of " + " x ".join(f"{edge:.3g}" for edge in self.edges) + " mm, which no scan of a head has"
        straight = self.positions[:, :2] - np.outer(self.levels, self.slope)
        if np.ptp(straight, axis=0).max() > 0.5 * max(self.first.edges or (1.0, 1.0)):
            return "its slices are shifted against each other"
        if not self.is_upright and self.first.kind != "ct":
            return f"its slices are sheared by {self.tilt:.0f} degrees, which only CT is"
        return ""

    def _missing(self) -> str:
        """What is missing, where a hole between slices goes with a hole in their numbers."""
        instances = [item.instance for item in self.slices]
        usual = {abs(b - a) for a, b in pairwise(instances)}
        stride = min(usual) if usual else 1
        holes = []
        for k, (a, b) in enumerate(pairwise(self.slices)):
            distance = float(self.levels[k + 1] - self.levels[k])
            lost = round(distance / self.step) - 1
            whole = abs(distance / self.step - lost - 1) < 0.1
            skipped = abs(b.instance - a.instance) > max(stride, 1)
            isolated = distance > 1.5 * self.step and whole and not _repeats(self.levels, k)
            if lost > 0 and ((whole and skipped) or isolated):
                holes.append((a.instance, b.instance, lost))
        if not holes:
            return ""
        lost = sum(hole[2] for hole in holes)
        where = "; ".join(f"between slices {min(a, b)} and {max(a, b)}" for a, b, _ in holes[:4])
        return f"{_BROKEN[1]}: {lost} of {len(self.slices) + lost} slices, {where}"


def _repeats(levels: DoubleArray, k: int) -> bool:
    """Whether the step after slice `k` is that of a neighbour too: a part that was scanned with wider steps."""
    steps = np.diff(levels)
    near = [steps[j] for j in (k - 1, k + 1) if 0 <= j < len(steps)]
    return any(abs(step - steps[k]) <= max(_SAME_MM, _SAME_STEP * steps[k]) for step in near)


def stacks_of(slices: Sequence[Slice]) -> list[Stack]:
    """The stacks of one series, those with the lowest echo, b-value and orientation first."""
    groups: dict[tuple[object, ...], list[Slice]] = {}
    for item in slices:
        groups.setdefault(_kind_of(item), []).append(item)
    found = []
    for _, members in sorted(groups.items(), key=lambda group: str(group[0])):
        found += [_ordered(part) for part in _told_apart(members)]
    return found


def planes_of(stacks: Sequence[Stack]) -> int:
    """How many different directions the slices of stacks face."""
    normals: list[DoubleArray] = []
    for stack in stacks:
        if stack.axes is not None and not any(abs(stack.axes[2] @ normal) > _SAME_DIRECTION for normal in normals):
            normals.append(stack.axes[2])
    return len(normals)


def _kind_of(item: Slice) -> tuple[object, ...]:
    """What is equal for the slices of one volume."""
    direction = None
    if item.orientation is not None:
        direction = tuple(round(value, 2) + 0.0 for half in item.orientation for value in half)
    echo = None if item.echo_time is None else round(item.echo_time, 1)
    edges = None if item.edges is None else tuple(round(edge, 3) for edge in item.edges)
    return (echo, item.b_value, item.moment, item.image_type, direction, item.shape, edges, item.grey, item.plain)


def _told_apart(slices: list[Slice]) -> Iterator[list[Slice]]:
    """Slices of one kind, by acquisition where that parts them into volumes with one slice at each place."""
    by_acquisition: dict[int, list[Slice]] = {}
    for item in slices:
        by_acquisition.setdefault(item.acquisition, []).append(item)
    if len(by_acquisition) > 1 and _overlap(slices) and not any(map(_overlap, by_acquisition.values())):
        yield from by_acquisition.values()
    else:
        yield slices


def _overlap(slices: Sequence[Slice]) -> bool:
    stack = _ordered(slices)
    return stack.axes is not None and len(slices) > 1 and bool(np.diff(stack.levels).min() < _SAME_MM)


def _ordered(slices: Sequence[Slice]) -> Stack:
    stack = Stack(tuple(sorted(slices, key=lambda item: item.instance)))
    if stack.axes is None:
        return stack
    return Stack(tuple(stack.slices[k] for k in np.argsort(stack.levels, kind="stable")))
