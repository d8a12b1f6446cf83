"""How many subjects fit the machine's memory at once."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path

from cgckit.images.cohort import Subject

logger = logging.getLogger(__name__)

_PROCESS = 500e6
"""What a process holds before it has read an image: Python, torch, MONAI [bytes]; 480 MB were measured."""
_VOXEL = 120
"""What it holds of an image at the most, in all its forms [bytes a voxel of a channel].

Peaks of 43 (inference, preset `light`) and 86 (prior `mumford-shah`) were measured.
"""


def jobs_that_fit(jobs: int, subjects: Sequence[Subject]) -> int:
    """As many of `jobs` processes as the free memory suffices for, each with one of the largest subjects; 1 at least.

    Fewer than asked for is said in the log.
    """
    free = free_memory()
    need = max((expected(subject) for subject in subjects), default=0.0)
    if free is None or not need or jobs * need <= free:
        return jobs
    fit = max(1, int(free // need))
    logger.warning(
        "%d jobs would need about %.1f GB of memory, of which %.1f are free: %d at work",
        jobs,
        jobs * need / 1e9,
        free / 1e9,
        fit,
    )
    return fit


def expected(subject: Subject) -> float:
    """The memory that a process needs to work on a subject [bytes], by the size of its images."""
    return _PROCESS + _VOXEL * math.prod(subject.grid.shape) * len(subject.modalities)


def free_memory() -> float | None:
    """The memory that new processes may take [bytes], of the machine and of this process's control group; None if it is
    not told."""
    found = [_of_machine(), _of_group()]
    return min((value for value in found if value is not None), default=None)


def _of_machine() -> float | None:
    match = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    return float(match[1]) * 1024 if match else None


def _of_group() -> float | None:
    """What the limits of the group leave, as a scheduler or a container sets them; version 2 of control groups."""
    left = []
    match = re.search(r"^0::(/.*)$", _read("/proc/self/cgroup"), re.MULTILINE)
    group = Path("/sys/fs/cgroup", match[1].strip("/") if match else "")
    for folder in (group, *group.parents):
        if not folder.is_relative_to("/sys/fs/cgroup"):
            break
        most, now = _read(folder / "memory.max").strip(), _read(folder / "memory.current").strip()
        if most.isdecimal() and now.isdecimal():
            left.append(float(most) - float(now))
    return min(left, default=None)


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
