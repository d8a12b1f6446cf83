"""`Registration`: what finds how a head moved between two sequences; a kind of plug-in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from cgckit.arrays import DoubleArray
from cgckit.errors import PluginError
from cgckit.images.volume import Volume
from cgckit.plugins import Group, Plugin, blame

# What is left of a rotation after it was written with seven digits.
_RIGID = 1e-4


class Registration(Plugin, ABC):
    """Aligns one image with another. Subclasses are dataclasses, registered on the group `cgckit.registrations`."""

    @property
    def missing(self) -> str | None:
        """What has to be installed before it can be used, as a command; None if nothing has."""
        return None

    @abstractmethod
    def align(self, fixed: Volume, moving: Volume) -> DoubleArray:
        """Return the rigid transform [4, 4] from world coordinates of `moving` to those of `fixed` (RAS+, mm).

        It must be deterministic and leave the images as they are. They show the same head, whole or stripped, on
        grids of their own, as their headers place them or up to 10 mm and 10 degrees beside it, with contrasts of
        their own.

        Raises:
            BadInputError: the images cannot be aligned.
        """


REGISTRATIONS: Group[Registration] = Group(Registration, "cgckit.registrations", "registration")
"""The installed registrations."""


def resolve_registration(
    registration: str | Registration, options: Sequence[str] | Mapping[str, object] = ()
) -> Registration:
    """Make the registration that is asked for by name or `FILE.py:Class`, or take it as it is; errors as `Group`'s."""
    if isinstance(registration, str):
        return REGISTRATIONS.resolve(registration, options)
    return REGISTRATIONS.take(registration, options)


def register(registration: Registration, fixed: Volume, moving: Volume) -> DoubleArray:
    """What a registration finds, [4, 4], checked; it gets copies of the images, which it may spoil.

    Raises:
        BadInputError: it cannot align them, and said so.
        PluginError: it failed, or gave something else than a rigid transform.
    """
    name = REGISTRATIONS.name(registration)
    with blame(f"registration {name} failed"):
        found = np.asarray(registration.align(fixed.copy(), moving.copy()), dtype=np.float64)
    if (fault := fault_of(found)) is not None:
        raise PluginError(f"registration {name} gave {fault}")
    return found


def fault_of(matrix: DoubleArray) -> str | None:
    """What a matrix is instead of a rigid transform [4, 4]; None if it is one."""
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        return "no finite [4, 4] matrix"
    turn = matrix[:3, :3]
    rigid = np.allclose(turn @ turn.T, np.eye(3), atol=_RIGID) and np.linalg.det(turn) > 0
    return None if rigid and np.allclose(matrix[3], [0, 0, 0, 1], atol=_RIGID) else "a transform that is not rigid"
