"""`AutoBrain`: the brain as the images at hand allow it, with what is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from cgckit.arrays import BoolArray
from cgckit.images.brain.extractor import BrainExtractor, resolve_brain
from cgckit.images.brain.learned import DeepBet
from cgckit.images.brain.programs import HdBet, SynthStrip
from cgckit.images.brain.search import find_foreground
from cgckit.images.brain.skull import Skull, is_head_in_hounsfield_units
from cgckit.images.volume import Volume

_BEST_FIRST = (("synthstrip", SynthStrip), ("hd-bet", HdBet), ("deepbet", DeepBet))


@dataclass
class AutoBrain(BrainExtractor):
    """What an empty background leaves where there is one; else the inside of the skull in CT, or a brain found in MRI.

    For that it takes `head`, or the first that is installed of `synthstrip`, `hd-bet` and `deepbet`, or else `coarse`.

    Attributes:
        head: name of the extractor for MRI of whole heads; empty for the first that is installed.
    """

    summary: ClassVar[str] = "an empty background, the skull in CT, or in MRI the best extractor that is installed"

    head: str = ""

    def __post_init__(self) -> None:
        """Say what is installed, so that it is part of what a run depends on."""
        super().__post_init__()
        self.head = self.head or next((name for name, kind in _BEST_FIRST if kind.is_installed()), "coarse")

    def extract(self, volumes: Mapping[str, Volume]) -> BoolArray:
        """Return the brain, [H, W, L] bool; errors as those of the extractors."""
        brain = find_foreground(volumes)
        return self.for_head(volumes).extract(volumes) if brain is None else brain

    def for_head(self, volumes: Mapping[str, Volume]) -> BrainExtractor:
        """What finds the brain in images that show the whole head."""
        return Skull() if _is_ct(volumes) else resolve_brain(self.head)

    def notes(self, volumes: Mapping[str, Volume]) -> list[str]:
        """What to say of it: learned and coarse extractors err, and are worth a look."""
        if _is_ct(volumes):
            return []
        coarsely = "; pip install 'cgckit[brain]' for a better one" if self.head == "coarse" else ""
        return [f"brain found by {self.head}{coarsely}"]


def _is_ct(volumes: Mapping[str, Volume]) -> bool:
    return any(map(is_head_in_hounsfield_units, volumes.values()))
