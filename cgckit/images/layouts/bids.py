"""BIDS: subjects, sessions and images by the entities of their names."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cgckit.errors import BadInputError
from cgckit.images.layouts.filters import Filters
from cgckit.images.layouts.found import Found, Notes
from cgckit.images.layouts.names import BRAIN_MASK, IMAGE, OTHER, read_name
from cgckit.images.layouts.tree import Tree
from cgckit.images.layouts.versions import Image, choose
from cgckit.images.modalities import SUFFIX, vocabulary

_PREFIX = re.compile(r"(sub-[A-Za-z0-9]+)(?:_ses-([A-Za-z0-9]+))?_")
_ENTITY = re.compile(r"([a-z]+)-([A-Za-z0-9+]+)")
_DATATYPES = vocabulary("dwi swi fmap func perf eeg ieeg meg pet mrs beh micr nirs motion")


def is_bids(path: Path) -> bool:
    """Whether a file's name begins with a subject of BIDS."""
    return _PREFIX.match(path.name) is not None


def find_in_bids(paths: Sequence[Path], filters: Filters, notes: Notes) -> list[Found]:
    """The subjects and sessions of files that are named as in BIDS, each with its images and brain mask.

    What lies in folders of other data types than `anat` is left out, but for a diffusion folder that holds an ADC map:
    that of a stroke, whose images are single volumes.

    Raises:
        BadInputError: two images that nothing tells apart.
    """
    groups: dict[tuple[str, str | None], list[Image]] = defaultdict(list)
    stroke = {path.parent for path in paths if re.search(r"_adc\.nii", path.name, re.IGNORECASE)}
    for path in paths:
        image = _image(path)
        datatype = path.parent.name
        if datatype in _DATATYPES and path.parent not in stroke and not filters.ask_for(datatype):
            notes.tell(f"{datatype}/ is not read", _who(path)[0])
        else:
            groups[_who(path)].append(image)
    found = []
    for (person, session), members in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        images = [image for image in members if image.name.kind == IMAGE and image.name.modality]
        images = filters.apply(images)
        if not images:
            continue
        subject = Found(person, session)
        choose(subject, images, notes)
        masks = [image for image in members if image.name.kind == BRAIN_MASK]
        for mask in own_masks(masks)[:1]:
            subject.adopt(mask.path)
        found.append(subject)
    return found


def own_masks(masks: Sequence[Image]) -> list[Image]:
    """Brain masks in the space of the subject's own images, those with the fewest entities first."""
    own = [mask for mask in masks if mask.entities.get("space", "orig") in ("orig", "T1w", "FLAIR", "T2w")]
    return sorted(own, key=lambda mask: (len(mask.entities), mask.path.name))


def brain_masks(root: Path) -> Iterator[tuple[tuple[str, str | None], Image]]:
    """The brain masks in the derivatives of a BIDS data set, by subject and session; none that cgckit made itself."""
    folder = root / "derivatives"
    for derivative in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not derivative.is_dir() or "cgckit" in _generators(derivative):
            continue
        for path in Tree.of(derivative).paths:
            if is_bids(path) and (image := _image(path)).name.kind == BRAIN_MASK:
                yield _who(path), image


def _generators(derivative: Path) -> set[str]:
    try:
        description = json.loads((derivative / "dataset_description.json").read_text(encoding="utf-8"))
        return {str(entry["Name"]) for entry in description["GeneratedBy"]}
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _who(path: Path) -> tuple[str, str | None]:
    match = _PREFIX.match(path.name)
    if match is None:
        raise BadInputError(f"{path}: not named as in BIDS")
    folder = next((name for name in path.parts[-4:-1] if name.startswith("ses-")), "")
    return match[1], match[2] or folder.removeprefix("ses-") or None


def _image(path: Path) -> Image:
    match = _PREFIX.match(path.name)
    prefix = match.group()[:-1] if match else ""
    name = read_name(path.name, (prefix,))
    *keys, last = SUFFIX.sub("", path.name)[len(prefix) :].strip("_").split("_")
    found = [_ENTITY.fullmatch(word) for word in keys]
    entities = {match[1]: match[2] for match in found if match}
    if None not in found:  # the suffix alone says which image it is, no word of an entity does
        suffix = read_name(last + ".nii")
        contrast = suffix.modality == "t1" and entities.get("ce", "none") != "none"
        kind = suffix.kind if suffix.kind != IMAGE else (IMAGE if suffix.modality else OTHER)
        if name.kind == BRAIN_MASK:
            kind = BRAIN_MASK
        modality = "t1ce" if contrast else suffix.modality
        name = dataclasses.replace(name, kind=kind, modality=modality, doubt="", target=_target(entities), rest="")
    return Image(path, name, entities)


def _target(entities: Mapping[str, str]) -> str | None:
    space = entities.get("space", "orig")
    return None if space == "orig" else (read_name(space + ".nii").modality or "template")
