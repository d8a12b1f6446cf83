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

from cgckit import __version__
from cgckit.contrast import fused_available
from cgckit.errors import UsageError

_PACKAGES = ("monai", "numpy", "scipy", "scikit-learn", "nibabel", "nilearn", "safetensors")


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


def choose_device(name: str) -> torch.device:
    """Resolve "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}: choose auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported: choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} is not available: {torch.cuda.device_count()} CUDA devices found")
    return device


def run_key(parts: Mapping[str, Any]) -> str:
    """A digest of everything that the result depends on; a run with the same key continues an interrupted one."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
