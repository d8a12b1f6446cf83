"""What a run was made of: versions, machine, and the key that says whether two runs are the same run."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import torch

from cgckit.contrast import fused_available
from cgckit.images.cohort import Cohort
from cgckit.images.preparation import Preparation
from cgckit.images.working_grid import IMAGE_SPACING
from cgckit.pipeline.prior_maps import prior_files
from cgckit.priors.base import Prior
from cgckit.priors.resolve import prior_identity
from cgckit.starting import shipped_hash
from cgckit.version import __version__

_PACKAGES = ("monai", "numpy", "scipy", "scikit-learn", "nibabel", "nilearn", "safetensors")


def dependencies(
    cohort: Cohort, preparation: Preparation, prior: Prior | None = None, **options: object
) -> dict[str, Any]:
    """All that the result of a run or an experiment depends on, as plain JSON values: what `run_key` takes.

    Args:
        cohort: the subjects, whose images are hashed.
        preparation: how scans become cases.
        prior: the source of pseudo-labels, if there is one.
        options: further ones, recorded beside these.
    """
    return {
        "options": {
            **options,
            "modalities": list(cohort.modalities),
            "image_spacing_mm": IMAGE_SPACING,
            "preparation": preparation.identity(),
            **({} if prior is None else {"prior": prior_identity(prior)}),
        },
        "inputs": {subject.label: subject.fingerprint() for subject in cohort},
        **({} if prior is None else {"prior_files": prior_files(prior, cohort)}),
        "starting": shipped_hash(),
        "versions": versions(),
    }


def run_key(parts: Mapping[str, Any]) -> str:
    """A digest of everything that a result depends on; a run with the same key continues an interrupted one."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def versions() -> dict[str, str]:
    """Versions of cgckit, Python and the libraries that shape the result."""
    # torch's own word says which build it is (+cpu, +cu130); the metadata of its package may not.
    found = {"cgckit": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def machine(device: torch.device) -> dict[str, Any]:
    """Where a run took place."""
    return {
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "fused_loss": fused_available(),
        "command": sys.argv,
    }
