"""Folders and files that are named as people name them: who is a subject, and which files are whose."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cgckit.errors import BadInputError
from cgckit.images.layouts.found import Found, Notes
from cgckit.images.layouts.labels import is_session, session_name, split_session
from cgckit.images.layouts.names import BRAIN_MASK, IMAGE, MASK, read_name
from cgckit.images.layouts.roles import MASK_FOLDERS, Roles, known_names
from cgckit.images.layouts.versions import Image, choose
from cgckit.images.modalities import SUFFIX, in_canonical_order

_ASK = "give each subject a folder of its own, or list them in a table (.tsv)"


@dataclass
class _Unit:
    """The files of one folder, or of several that are one subject's."""

    person: str
    session: str | None
    above: tuple[str, ...]
    is_root: bool
    spelled: str | None = None
    images: list[Image] = field(default_factory=list)
    brain_masks: list[Image] = field(default_factory=list)

    def found(self, person: str | None = None, session: str | None = None) -> Found:
        """A subject without files yet: the unit itself, or somebody or some time in it."""
        if person is not None:
            above = self.above if self.is_root else (*self.above, self.person)
            name, session = split_session(person)
            return Found(name, session, above=above, spelled=person)
        return Found(self.person, session or self.session, above=self.above, spelled=None if session else self.spelled)


def find_in_folders(root: Path, paths: Sequence[Path], notes: Notes) -> tuple[list[Found], list[Image]]:
    """The subjects of images below a folder, and the brain masks that are nobody's among them.

    A folder is a subject, unless its name says what lies in it: a modality, a time point, or a version of the images.
    In a folder whose files begin with several names, each of these is a subject.

    Raises:
        BadInputError: images that cannot be told apart, or whose modality their names leave open.
    """
    units = _units(root, paths, notes)
    _drop_nested(units, notes)
    found: list[Found] = []
    orphans: list[Image] = []
    for unit in units.values():
        new = _subjects(unit, notes)
        for mask in _one_a_subject(unit, new):
            orphans.append(mask)
        found += new
    return found, orphans


# ---- which folder is whose


def _units(root: Path, paths: Sequence[Path], notes: Notes) -> dict[tuple[object, ...], _Unit]:
    upper = root.resolve().parts[-3:]  # what the root and the folders above it are called
    chains = {path: (*upper, *path.parent.relative_to(root).parts) for path in paths}
    names = {path: read_name(path.name, known_names(chain)) for path, chain in chains.items()}
    roles = Roles.of(len(upper), chains, names)
    units: dict[tuple[object, ...], _Unit] = {}
    for path, chain in chains.items():
        name = names[path]
        if any(folder.lower() in MASK_FOLDERS for folder in chain[len(upper) :]) and name.kind == IMAGE:
            name = dataclasses.replace(name, kind=MASK)
        place = roles.place(chain, len(upper), path, name)
        if name.modality is None and place.series is not None and name.kind == IMAGE:
            said = read_name(place.series + ".nii", known_names(chain))
            # The folder says which image it is, and whose, or the file does that.
            joined = f"{SUFFIX.sub('', path.name)}_{said.modality}.nii"
            name = said if said.subject or said.rest else read_name(joined, known_names(chain))
        image = Image(path, dataclasses.replace(name, tags=name.tags | place.tags), {})
        new = _Unit(place.person, place.session, place.whose[:-1], place.is_root, place.spelled)
        unit = units.setdefault((place.whose, place.session), new)
        if name.kind == BRAIN_MASK:
            unit.brain_masks.append(image)
        elif name.kind == IMAGE and (name.modality is not None or name.doubt):
            unit.images.append(image)
        elif name.kind == IMAGE:
            notes.tell("no word of its name says which image it is, not used", str(path))
    return units


def _drop_nested(units: dict[tuple[object, ...], _Unit], notes: Notes) -> None:
    """Leave out what lies below a folder with images of its own: older versions, results of other programs."""
    owners = {image.path.parent: key for key, unit in units.items() for image in unit.images}
    for key, unit in list(units.items()):
        for image in list(unit.images):
            above = next((folder for folder in image.path.parents if owners.get(folder, key) != key), None)
            if above is not None and above != image.path.parent:
                unit.images.remove(image)
                notes.warn("folders below a folder with images are not searched", str(image.path.parent))


# ---- who is in a folder


def _subjects(unit: _Unit, notes: Notes) -> list[Found]:
    """The subjects in a unit, each with its images."""
    images = _certain(unit, notes)
    if not images:
        return []
    _refuse_twins(images)
    if all(image.name.subject == "" for image in images):
        return _one(unit, images, notes)
    groups: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        groups[image.name.subject].append(image)
    repeats = len({image.modality for image in images}) < len({(i.modality, i.name.subject) for i in images})
    if len(groups) == 1:
        (name,) = groups
        if unit.is_root and not images[0].name.owner:
            return _filled([(unit.found(person=name), images)], notes)
        numbered = name.isdigit() and len({image.modality for image in images}) > 1
        if all(image.name.owner for image in images) and (is_session(name) or numbered):
            return _filled([(unit.found(session=session_name(name)), images)], notes)
        return _one(unit, images, notes)
    owned = any(image.name.owner for image in images)
    if repeats and (all(map(is_session, groups)) or (owned and all(name.isdigit() for name in groups))):
        return _filled([(unit.found(session=session_name(name)), group) for name, group in groups.items()], notes)
    if repeats and "" not in groups and not owned:
        return _filled([(unit.found(person=name), group) for name, group in groups.items()], notes)
    if not repeats and ("" in groups or owned or all(name.isdigit() for name in groups)):
        return _one(unit, images, notes)
    first, second = (group[0].path for group in list(groups.values())[:2])
    raise BadInputError(f"{first}: whether it is of the same subject as {second.name} cannot be told; {_ASK}")


def _one(unit: _Unit, images: list[Image], notes: Notes) -> list[Found]:
    """The unit as one subject; or, if words after the modality say so, as several, or as several sessions."""
    rests: dict[str, dict[str, list[Image]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        rests[image.name.rest][image.modality].append(image)
    by_modality = [{image.name.rest for image in images if image.modality == m} for m in {i.modality for i in images}]
    shared = all(kinds == by_modality[0] for kinds in by_modality) and len(by_modality[0]) > 1
    groups = [(rest, [image for group in kinds.values() for image in group]) for rest, kinds in rests.items()]
    if shared and all(is_session(rest) for rest in rests):
        return _filled([(unit.found(session=session_name(rest)), group) for rest, group in groups], notes)
    several = unit.is_root or len(by_modality) > 1
    if shared and several and "" not in rests and not any(image.name.owner for image in images):
        return _filled([(unit.found(person=rest), group) for rest, group in groups], notes)
    return _filled([(unit.found(), images)], notes)


def _filled(parts: Sequence[tuple[Found, list[Image]]], notes: Notes) -> list[Found]:
    for found, images in parts:
        choose(found, images, notes)
    return [found for found, _ in parts]


def _certain(unit: _Unit, notes: Notes) -> list[Image]:
    """The images of a unit whose modality is certain; BadInputError if another would be missed."""
    certain = [image for image in unit.images if not image.name.doubt]
    for image in unit.images:
        beside = [other for other in certain if other.name.subject in ("", image.name.subject) or other.name.owner]
        if image.name.doubt and not any(other.modality == "flair" for other in beside):
            raise BadInputError(
                f"{image.path}: {image.name.doubt}; rename it, for instance to *_flair.nii.gz, *_t2.nii.gz or "
                "*_mask.nii.gz, or list the images in a table (.tsv)"
            )
        if image.name.doubt:
            notes.warn(f"{image.name.doubt}: not used beside a FLAIR image", str(image.path))
    return certain


def _refuse_twins(images: Sequence[Image]) -> None:
    """Refuse names that are equal but for T1 and T2 before FLAIR: two weightings, or two points in time?"""
    seen: dict[str, Image] = {}
    for image in images:
        stem = image.path.name.lower()
        if "flair" not in stem:
            continue
        alike = re.sub(r"(?<![^\W_])t[12](?![^\W_])", "t", stem)
        other = seen.setdefault(alike, image)
        if other.modality != image.modality:
            raise BadInputError(
                f"{other.path} and {image.path.name}: T1 and T2 may be weightings or points in time; name the latter "
                "ses-1 and ses-2, or list the images in a table (.tsv)"
            )


# ---- brain masks


def _one_a_subject(unit: _Unit, subjects: Sequence[Found]) -> list[Image]:
    """Give each subject its brain mask; the masks that are nobody's."""
    orphans = []
    offers: dict[int, list[Image]] = defaultdict(list)
    for mask in unit.brain_masks:
        owners: Sequence[int] = range(len(subjects))
        if len(subjects) > 1:
            named = [i for i in owners if mask.path.name.startswith(subjects[i].source)]
            named = named or [i for i in owners if (session := subjects[i].session) and session in mask.path.name]
            one = {subject.person for subject in subjects} == {unit.person}
            # p10_brain_mask is not that of p1; one without a session's name is that of all.
            owners = owners if one and not named else sorted(named, key=lambda i: len(subjects[i].source))[-1:]
        if not owners:
            orphans.append(mask)
        for owner in owners:
            offers[owner].append(mask)
    for owner, masks in offers.items():
        subject = subjects[owner]
        folders = {path.parent for path in subject.files.values()}
        beside = [mask for mask in masks if mask.path.parent in folders] or masks
        for modality in in_canonical_order(subject.files):  # one of each image: that of the first
            if len(beside) > 1 and (own := [mask for mask in beside if mask.name.modality == modality]):
                beside = own
        for mask in beside:
            subject.adopt(mask.path)
    return orphans
