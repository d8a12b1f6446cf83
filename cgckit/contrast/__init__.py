"""The patchwise contrastive loss: one definition, three implementations."""

from cgckit.contrast.functional import count_positives, patch_contrastive_loss
from cgckit.contrast.implementation import resolve_implementation
from cgckit.contrast.losses import PatchContrastiveLoss
from cgckit.contrast.ops import build_information, fused_available
from cgckit.contrast.patches import PatchGrid
from cgckit.contrast.supervised import SupervisedContrastiveLoss, supervised_contrastive

__all__ = [
    "PatchContrastiveLoss",
    "PatchGrid",
    "SupervisedContrastiveLoss",
    "build_information",
    "count_positives",
    "fused_available",
    "patch_contrastive_loss",
    "resolve_implementation",
    "supervised_contrastive",
]
