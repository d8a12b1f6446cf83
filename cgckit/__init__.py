"""cgckit: lesion segmentation without labels, by refining any weak prior with cross-granularity contrast.

The public names are loaded when they are first used, so that importing the package costs nothing.

Example:
    >>> import cgckit
    >>> run = cgckit.refine("scans/", prior="mumford-shah", out="refined/")  # doctest: +SKIP
    >>> run.subjects[0].refined_ml  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cgckit.version import __version__ as __version__

if TYPE_CHECKING:
    from cgckit.cgc.model import Model, load_model
    from cgckit.cgc.settings import InferenceSettings, Settings, TrainingSettings
    from cgckit.contrast import (
        PatchContrastiveLoss,
        SupervisedContrastiveLoss,
        patch_contrastive_loss,
        supervised_contrastive,
    )
    from cgckit.errors import BadInputError, CgckitError, DegeneratePriorError, PluginError, UsageError
    from cgckit.evaluation import Metric, Pair, evaluate
    from cgckit.images.brain import BrainExtractor
    from cgckit.images.case import Case
    from cgckit.images.cohort import Cohort, Subject
    from cgckit.images.registration import Registration
    from cgckit.pipeline.compute_priors import compute_priors
    from cgckit.pipeline.predict import predict
    from cgckit.pipeline.prepare import prepare
    from cgckit.pipeline.refine import refine
    from cgckit.pipeline.result import Run, SubjectResult
    from cgckit.priors.base import PRIOR_CONTRACT, Prediction, Prior
    from cgckit.priors.resolve import register_prior

_HOMES = {
    "BadInputError": "cgckit.errors",
    "BrainExtractor": "cgckit.images.brain",
    "Case": "cgckit.images.case",
    "CgckitError": "cgckit.errors",
    "Cohort": "cgckit.images.cohort",
    "DegeneratePriorError": "cgckit.errors",
    "InferenceSettings": "cgckit.cgc.settings",
    "Metric": "cgckit.evaluation",
    "Model": "cgckit.cgc.model",
    "PRIOR_CONTRACT": "cgckit.priors.base",
    "Pair": "cgckit.evaluation",
    "PatchContrastiveLoss": "cgckit.contrast",
    "PluginError": "cgckit.errors",
    "Prediction": "cgckit.priors.base",
    "Prior": "cgckit.priors.base",
    "Registration": "cgckit.images.registration",
    "Run": "cgckit.pipeline.result",
    "Settings": "cgckit.cgc.settings",
    "Subject": "cgckit.images.cohort",
    "SubjectResult": "cgckit.pipeline.result",
    "SupervisedContrastiveLoss": "cgckit.contrast",
    "TrainingSettings": "cgckit.cgc.settings",
    "UsageError": "cgckit.errors",
    "compute_priors": "cgckit.pipeline.compute_priors",
    "evaluate": "cgckit.evaluation",
    "load_model": "cgckit.cgc.model",
    "patch_contrastive_loss": "cgckit.contrast",
    "predict": "cgckit.pipeline.predict",
    "prepare": "cgckit.pipeline.prepare",
    "refine": "cgckit.pipeline.refine",
    "register_prior": "cgckit.priors.resolve",
    "supervised_contrastive": "cgckit.contrast",
}

__all__ = [
    "PRIOR_CONTRACT",
    "BadInputError",
    "BrainExtractor",
    "Case",
    "CgckitError",
    "Cohort",
    "DegeneratePriorError",
    "InferenceSettings",
    "Metric",
    "Model",
    "Pair",
    "PatchContrastiveLoss",
    "PluginError",
    "Prediction",
    "Prior",
    "Registration",
    "Run",
    "Settings",
    "Subject",
    "SubjectResult",
    "SupervisedContrastiveLoss",
    "TrainingSettings",
    "UsageError",
    "compute_priors",
    "evaluate",
    "load_model",
    "patch_contrastive_loss",
    "predict",
    "prepare",
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
