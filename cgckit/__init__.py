"""cgckit: lesion segmentation without labels, by refining any weak prior with cross-granularity contrast.

The public names are loaded when they are first used, so that importing the package costs nothing.

Example:
    >>> import cgckit
    >>> result = cgckit.refine("scans/", prior="mumford-shah", out="refined/")  # doctest: +SKIP
    >>> result.subjects[0].refined_ml  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cgckit.cgc.presets import Settings
    from cgckit.contrast import (
        PatchContrastiveLoss,
        SupervisedContrastiveLoss,
        patch_contrastive_loss,
        supervised_contrastive,
    )
    from cgckit.errors import (
        BadInputError,
        CgckitError,
        DegeneratePriorError,
        PluginError,
        UsageError,
    )
    from cgckit.evaluation import evaluate
    from cgckit.images.case import Case
    from cgckit.images.cohort import Cohort, Subject
    from cgckit.pipeline.predict import predict
    from cgckit.pipeline.refine import RefineResult, refine
    from cgckit.plugins.registry import register_prior
    from cgckit.priors.base import Prior

__version__ = "0.1.0"

_HOMES = {
    "BadInputError": "cgckit.errors",
    "Case": "cgckit.images.case",
    "CgckitError": "cgckit.errors",
    "Cohort": "cgckit.images.cohort",
    "DegeneratePriorError": "cgckit.errors",
    "PatchContrastiveLoss": "cgckit.contrast",
    "PluginError": "cgckit.errors",
    "Prior": "cgckit.priors.base",
    "RefineResult": "cgckit.pipeline.refine",
    "Settings": "cgckit.cgc.presets",
    "Subject": "cgckit.images.cohort",
    "SupervisedContrastiveLoss": "cgckit.contrast",
    "UsageError": "cgckit.errors",
    "evaluate": "cgckit.evaluation",
    "patch_contrastive_loss": "cgckit.contrast",
    "predict": "cgckit.pipeline.predict",
    "refine": "cgckit.pipeline.refine",
    "register_prior": "cgckit.plugins.registry",
    "supervised_contrastive": "cgckit.contrast",
}

__all__ = [
    "BadInputError",
    "Case",
    "CgckitError",
    "Cohort",
    "DegeneratePriorError",
    "PatchContrastiveLoss",
    "PluginError",
    "Prior",
    "RefineResult",
    "Settings",
    "Subject",
    "SupervisedContrastiveLoss",
    "UsageError",
    "evaluate",
    "patch_contrastive_loss",
    "predict",
    "refine",
    "register_prior",
    "supervised_contrastive",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
