"""`Refined`: one subject of a run with everything that belongs to it, the scans included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgckit.derivatives import Derivatives, image_of
from cgckit.errors import BadInputError
from cgckit.images.cohort import Cohort
from cgckit.sealed import DamagedError, read_json


@dataclass(frozen=True)
class Refined:
    """A subject of a run.

    Attributes:
        label: what its outputs are called.
        mask: file of the refined mask.
        probability: file of the refined probability.
        prior: file of the prior's probability; None where there is none, as after `predict`.
        brain: file of the brain mask.
        scans: file of each modality, in the run's order.
    """

    label: str
    mask: Path
    probability: Path
    prior: Path | None
    brain: Path
    scans: Mapping[str, Path]

    @property
    def frame(self) -> Path:
        """The scan on whose grid the maps are."""
        return image_of(self.mask)


def read_run(folder: Path, scans: Path | None = None) -> list[Refined]:
    """The subjects of a complete run.

    Args:
        folder: output folder of `refine` or `predict`.
        scans: what the run was made of, as `refine` takes it; by default, the images that lie beside the one that each
            subject's mask names.

    Raises:
        BadInputError: the folder holds no complete run, or none with masks; a scan is not where it was.
    """
    record = _record(folder)
    out = Derivatives(folder)
    modalities = list(record.get("options", {}).get("modalities", []))
    given = None if scans is None else Cohort.find(scans, modalities or None, allow_missing=True)
    found = []
    for label in out.subjects():
        mask = out.refined_mask(label)
        if not mask.is_file():
            continue
        frame = image_of(mask)
        if not frame.is_file():
            raise BadInputError(f"{frame}: the scan of sub-{label} is not there; say where it is with --scans")
        files = _files_beside(frame, modalities) if given is None else _files_of(given, label, scans)
        priors = out.prior_probabilities(label)
        prior = priors[0] if priors else None
        found.append(Refined(label, mask, out.refined_probability(label), prior, out.brain_mask(label), files))
    if not found:
        raise BadInputError(f"{folder}: holds no refined masks; give the output folder of cgckit refine or predict")
    return found


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = read_json(folder / "run.json")
    except FileNotFoundError:
        raise BadInputError(f"{folder}: holds no run of cgckit; give the output folder of refine or predict") from None
    except DamagedError as error:
        raise BadInputError(
            f"{folder / 'run.json'}: is damaged ({error}); the run's command writes it again"
        ) from error
    if record.get("status") != "complete":
        raise BadInputError(f"{folder}: holds no complete run of cgckit; let the run finish first")
    return record


def _files_beside(frame: Path, modalities: Sequence[str]) -> dict[str, Path]:
    """The images of the subject that one image belongs to, found in its folder."""
    real = frame.resolve()
    try:
        beside: Sequence[Any] = Cohort.find(frame.parent, allow_missing=True)
    except BadInputError:  # others in the folder are not in order
        beside = []
    for subject in beside:
        if real in [path.resolve() for path in subject.files.values()]:
            return _in_order(subject.files, modalities)
    return {modalities[0] if modalities else "image": frame}


def _files_of(given: Cohort, label: str, scans: Path | None) -> dict[str, Path]:
    for subject in given:
        if subject.label == label:
            return dict(subject.files)
    raise BadInputError(f"{scans}: has no scans of sub-{label}; give --scans what the run was made of")


def _in_order(files: Mapping[str, Path], modalities: Sequence[str]) -> dict[str, Path]:
    return {name: files[name] for name in modalities if name in files} if modalities else dict(files)
