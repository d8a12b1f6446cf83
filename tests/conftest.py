"""Fixtures that several folders use: small simulated heads, written as NIfTI files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

# Before torch is imported: threads gain nothing on volumes this small, and wait for each other on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHAPE = (40, 44, 36)


def simulate_head(seed: int, spacing: float = 2.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A brain-sized ellipsoid with tissue-like texture and one bright lesion; images by modality, and the lesion."""
    generator = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    brain = sum(axis**2 for axis in axes) < 0.85
    centre = generator.uniform(-0.35, 0.35, 3)
    distance = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
    lesion = (distance < generator.uniform(0.06, 0.1)) & brain
    tissue = 100 + 15 * (np.sin(7 * axes[0]) * np.cos(6 * axes[1]) > 0)
    noise = {name: generator.normal(0, 6, SHAPE) for name in ("flair", "t1")}
    flair = (tissue + 70 * lesion + noise["flair"]) * brain
    t1 = (tissue * 1.4 - 45 * lesion + noise["t1"]) * brain
    return {"flair": flair.clip(0), "t1": t1.clip(0)}, lesion


@pytest.fixture(scope="session")
def write_subjects() -> Callable[..., Path]:
    """Write simulated subjects into a folder each; their references go to a folder beside it."""

    def write(folder: Path, count: int = 3, modalities: tuple[str, ...] = ("flair", "t1")) -> Path:
        references = folder.with_name(f"{folder.name}-references")
        references.mkdir(parents=True, exist_ok=True)
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        for index in range(count):
            images, lesion = simulate_head(index)
            subject = f"case{index + 1}"
            (folder / subject).mkdir(parents=True)
            for modality in modalities:
                image = nib.Nifti1Image(images[modality].astype(np.float32), affine)
                nib.save(image, folder / subject / f"{subject}_{modality}.nii.gz")
            nib.save(nib.Nifti1Image(lesion.astype(np.uint8), affine), references / f"{subject}_seg.nii.gz")
        return folder

    return write


@pytest.fixture
def write_cohort(write_subjects: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write `count` simulated subjects below the test's own folder."""

    def write(count: int = 3, name: str = "scans", modalities: tuple[str, ...] = ("flair", "t1")) -> Path:
        return write_subjects(tmp_path / name, count, modalities)

    return write
