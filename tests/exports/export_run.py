"""A run as `refine` leaves it, made of arrays."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from cgckit.derivatives import Derivatives
from cgckit.sealed import write_json

SHAPE = (60, 70, 50)
AFFINE = np.array([[-2.0, 0, 0, 59], [0, 2, 0, -69], [0, 0, 2.5, -61.25], [0, 0, 0, 1]])
"""The world's origin is the middle of the image; the first axis runs to the left."""


def places() -> np.ndarray:
    """World coordinates of all voxels, [H, W, L, 3] in mm."""
    return np.stack(np.indices(SHAPE), axis=-1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]


def make_run(
    root: Path,
    maps: dict[str, tuple[np.ndarray, np.ndarray | None]],
    modalities: tuple[str, ...] = ("flair", "t1"),
) -> Path:
    """Write a complete run below `root`; gives its folder.

    `maps`: the refined and the prior's probability of each subject, [H, W, L].
    """
    out = Derivatives.create(root / "run")
    brain = np.linalg.norm(places() / (50, 60, 45), axis=-1) < 1
    for label, (refined, prior) in maps.items():
        folder = root / "scans" / label
        folder.mkdir(parents=True)
        for number, modality in enumerate(modalities):
            image = nib.Nifti1Image((brain * (100.0 + number) + 50 * (refined >= 0.5)).astype(np.float32), AFFINE)
            image.header["descrip"] = b"Xanthippe"
            nib.save(image, folder / f"{label}_{modality}.nii.gz")
        frame = folder / f"{label}_{modalities[0]}.nii.gz"
        out.write_mask(label, refined >= 0.5, frame)
        out.write_probability(label, refined, frame)
        out.write_brain(label, brain, frame)
        if prior is not None:
            out.write_prior_probability(label, "gmm", prior, frame)
    out.write_table("participants.tsv", [{"participant_id": f"sub-{label}", "source": label} for label in maps])
    write_json(out.root / "run.json", {"status": "complete", "options": {"modalities": list(modalities)}})
    return out.root


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """A ball in world coordinates, bool [H, W, L]."""
    return np.linalg.norm(places() - centre, axis=-1) < radius
