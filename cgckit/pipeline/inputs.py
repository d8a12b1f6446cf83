"""What a run works on: the cohort whose headers are sound, and the device."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeGuard, cast

import torch

from cgckit.errors import BadInputError, UsageError
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.layouts import Input
from cgckit.images.modalities import modality_of
from cgckit.images.preparation import Preparation
from cgckit.jobs import LeftOut, Ratings, over_subjects
from cgckit.pipeline.prior_maps import of_a_subject, prior_files
from cgckit.priors.base import PRIORS, Prior
from cgckit.priors.external import ExternalPrior
from cgckit.priors.fusion import FusionPrior, learns

logger = logging.getLogger(__name__)

Inputs = Cohort | Case | Sequence[Case] | Input | Sequence[Input]
"""A cohort, what `Cohort.find` takes (files, folders, tables, mappings of files), or cases in memory."""


def find_cohort(
    inputs: Inputs,
    modalities: Sequence[str] | None,
    allow_missing: bool,
    preparation: Preparation,
    *,
    left_out: LeftOut | None = None,
    prior: Prior | None = None,
    ratings: Ratings | None = None,
    name_channels: bool = True,
    headers_only: bool = False,
) -> Cohort:
    """Find a cohort, make one of cases, or take one as it is, with `modalities` alone if given; headers are checked.

    With `name_channels`, numbered channels that have no names are called by the `modalities`.

    Unless `left_out` is strict, subjects that cannot be used are noted there and are none of the cohort: whose files
    cannot be read, and whom the `prior` has no file for; and if that prior learns from the cohort, whose images cannot
    be worked with either, so that it sees none of them; with `headers_only` the images are not looked at.
    Whom `ratings` exclude are none of it either.
    """
    if isinstance(inputs, Cohort):
        cohort = inputs if modalities is None else inputs.select(modalities, allow_missing)
    elif _are_paths(inputs):
        cohort = Cohort.find(inputs, modalities, allow_missing, name_channels=name_channels)
    else:
        cohort = Cohort.from_cases(cast(Sequence[Case], inputs), modalities, allow_missing)
    if prior is not None:
        check_needs(prior, cohort.modalities)

    if ratings is not None:
        excluded = ratings.apply((subject.source, subject.label) for subject in cohort)
        cohort = Cohort(tuple(subject for subject in cohort if subject.source not in excluded), cohort.modalities)

    def check(subject: Subject) -> None:
        with of_a_subject():
            subject.fingerprint()
            if subject.case is None:
                preparation.check_headers(subject)
            if left_out is None or left_out.strict:
                return  # what follows is found later, and ends the run then
            if prior is not None:
                prior_files(prior, [subject])
                if learns(prior) and not headers_only:
                    preparation.case(subject, cohort.modalities)

    preparation.known.check([name for subject in cohort for name in (subject.source, subject.label)])
    sound = over_subjects(cohort, check, left_out=left_out)
    return Cohort(tuple(subject for subject in cohort if subject.label in sound), cohort.modalities)


def check_needs(prior: Prior, modalities: Sequence[str]) -> None:
    """Refuse a cohort that has nothing which a prior can find lesions on, or say so where this is not known.

    Raises:
        BadInputError: no modality is one that the prior needs.
    """
    if isinstance(prior, FusionPrior):
        for member in prior.members:
            check_needs(member, modalities)
        return
    if not prior.needs or set(prior.needs) & set(modalities):
        return
    name, needed, given = PRIORS.name(prior), ", ".join(prior.needs), ", ".join(modalities)
    if any(modality_of(modality) is None for modality in modalities):
        logger.warning("the prior %s looks for lesions on one of %s, and may not find them on %s", name, needed, given)
        return
    raise BadInputError(
        f"the prior {name} finds lesions on one of {needed}, and there is only {given}: add such an image, or take "
        "another --prior, as mask:PATTERN"
    )


def output_folder(
    out: str | Path,
    inputs: Inputs,
    cohort: Cohort,
    prior: Prior | None = None,
    left_out: LeftOut | None = None,
) -> Path:
    """The folder `out`, if nothing that is read lies in it.

    Args:
        out: as the user gave it.
        inputs: as the user gave them.
        cohort: what was found in them.
        prior: whose mask files must not lie there either.
        left_out: whose files are inputs too, be they usable or not.

    Raises:
        UsageError: an empty name, or a folder that is or holds an input, whichever way links lead there.
    """
    if not str(out).strip():
        raise UsageError("the output folder (--out) has an empty name; give one, as refined/")
    given = _paths(inputs)
    subjects = [*cohort, *(left_out.subjects if left_out else ())]
    read = [*given, *(path for subject in subjects for path in [*subject.all_files.values(), *_masks(prior, subject)])]
    places = {_absolute(out), Path(out).resolve()}
    for path in read:
        for place in (_absolute(path), path.resolve()):
            if not places.isdisjoint([place, *place.parents]):
                raise UsageError(f"{path}: lies in the output folder {out}; choose another --out, with no input in it")
    return Path(out)


def _absolute(path: str | Path) -> Path:
    """A path without `..`, links left as they are."""
    return Path(os.path.abspath(path))


def _paths(inputs: Inputs) -> list[Path]:
    """The inputs that are paths; of mappings, their files are found in the cohort."""
    if isinstance(inputs, Cohort) or not _are_paths(inputs):
        return []
    many = [inputs] if isinstance(inputs, str | Path | Mapping) else inputs
    return [Path(path) for path in many if not isinstance(path, Mapping)]


def _masks(prior: Prior | None, subject: Subject) -> list[Path]:
    """The mask files of a prior for a subject, those that are there."""
    if isinstance(prior, FusionPrior):
        return [path for member in prior.members for path in _masks(member, subject)]
    if isinstance(prior, ExternalPrior):
        with suppress(BadInputError):  # that there is none is told where it is needed
            return [prior.find_file(subject.label, subject.source)]
    return []


def _are_paths(inputs: object) -> TypeGuard[Input | Sequence[Input]]:
    many = inputs if isinstance(inputs, Sequence) and not isinstance(inputs, str) else [inputs]
    return all(isinstance(item, str | Path | Mapping) for item in many)


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
