"""Brain masks: given, or found by a `BrainExtractor`."""

from cgckit.images.brain.automatic import AutoBrain
from cgckit.images.brain.extractor import BRAINS, BrainExtractor, extract_brain, resolve_brain
from cgckit.images.brain.search import CoarseSearch, read_brain_mask

__all__ = ["BRAINS", "AutoBrain", "BrainExtractor", "CoarseSearch", "extract_brain", "read_brain_mask", "resolve_brain"]
