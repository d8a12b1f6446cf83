"""`BrainExtractor`: what finds the brain in the images of a subject; a kind of plug-in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from cgckit.arrays import BoolArray
from cgckit.errors import PluginError
from cgckit.images.volume import Volume
from cgckit.plugins import Group, Plugin, blame


class BrainExtractor(Plugin, ABC):
    """Finds the brain where no mask is given. Subclasses are dataclasses, registered on the group `cgckit.brains`.

    `cgckit.testing.check_brain` tests what is asked of one.
    """

    @abstractmethod
    def extract(self, volumes: Mapping[str, Volume]) -> BoolArray:
        """Return the brain, [H, W, L] bool on the grid of the images.

        It must be deterministic and leave the images as they are.

        Args:
            volumes: the images of one subject by modality, on one grid.

        Raises:
            BadInputError: there is no brain in them.
        """


BRAINS: Group[BrainExtractor] = Group(BrainExtractor, "cgckit.brains", "brain extractor")
"""The installed brain extractors."""


def resolve_brain(brain: str | BrainExtractor, options: Sequence[str] | Mapping[str, object] = ()) -> BrainExtractor:
    """Make the brain extractor that the user asks for by a registered name or `FILE.py:Class`, or take it as it is.

    Raises:
        UsageError: an unknown extractor or option, a bad value, or what is no extractor.
        PluginError: it cannot be imported, or is none.
    """
    return BRAINS.resolve(brain, options) if isinstance(brain, str) else BRAINS.take(brain, options)


def extract_brain(extractor: BrainExtractor, volumes: Mapping[str, Volume]) -> BoolArray:
    """What an extractor finds, [H, W, L] bool, checked; it gets copies of the images, which it may spoil.

    Raises:
        BadInputError: it found no brain, and said so.
        PluginError: it failed, or gave something else than a mask on the images' grid.
    """
    name, shape = BRAINS.name(extractor), next(iter(volumes.values())).array.shape
    with blame(f"brain extractor {name} failed"):
        found = np.asarray(extractor.extract({key: volume.copy() for key, volume in volumes.items()}))
    if found.shape != shape or found.dtype != np.bool_:
        raise PluginError(f"brain extractor {name} gave {found.dtype} {found.shape}, not bool {shape}")
    if not found.any():
        raise PluginError(f"brain extractor {name} gave an empty mask; it should say that there is no brain")
    return found
