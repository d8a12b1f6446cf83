"""`Prepared`: what preparation found out about one subject, kept under a key of everything that it depends on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from cgckit.arrays import BoolArray, DoubleArray, Shape
from cgckit.images.grid import Grid
from cgckit.images.volume import Volume
from cgckit.sealed import DamagedError, read_tensors, write_tensors

logger = logging.getLogger(__name__)

_BRAIN, _MOVE = "brain", "move-"


@dataclass(frozen=True, eq=False)
class Prepared:
    """How the scans of one subject become one: where each lies, and where the brain is. No voxel is changed.

    Attributes:
        brain: [H, W, L] bool on the grid of the reference, which is the first scan.
        moves: [4, 4] for each scan that lay elsewhere: its world coordinates to those of the reference, in mm.
        notes: what was done, in words; none where the scans were prepared.
    """

    brain: BoolArray
    moves: Mapping[str, DoubleArray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def place(self, volumes: Mapping[str, Volume]) -> dict[str, Volume]:
        """The scans with their grids where they lie in the reference's world."""
        return {
            name: replace(volume, grid=Grid(volume.grid.shape, self.moves[name] @ volume.grid.affine))
            if name in self.moves
            else volume
            for name, volume in volumes.items()
        }

    def write(self, path: Path) -> None:
        """Write it, whole or not at all; BadInputError if that cannot be."""
        tensors = {_BRAIN: torch.from_numpy(np.packbits(self.brain))}
        tensors |= {_MOVE + name: torch.from_numpy(matrix.copy()) for name, matrix in self.moves.items()}
        write_tensors(path, tensors, {"notes": json.dumps(self.notes)})

    @classmethod
    def read(cls, path: Path, shape: Shape) -> Prepared | None:
        """What was written for a reference of this shape; None if it is not there, or not as it was written."""
        try:
            tensors, about = read_tensors(path)
        except FileNotFoundError:
            return None
        except DamagedError as error:
            logger.warning("%s is damaged (%s) and is made again", path, error)
            return None
        count = int(np.prod(shape))
        brain = np.unpackbits(tensors[_BRAIN].numpy(), count=count).astype(bool).reshape(shape)
        moves = {name.removeprefix(_MOVE): value.numpy() for name, value in tensors.items() if name != _BRAIN}
        return cls(brain, moves, tuple(json.loads(about["notes"])))
