"""Which of several versions of an image is taken: the original, the skull-stripped one, one that was moved, ..."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cgckit.errors import BadInputError
from cgckit.images.layouts.found import Found, Notes
from cgckit.images.layouts.names import Name
from cgckit.images.modalities import in_canonical_order

# Which is better of two versions that differ in this alone, if every modality has it; else what every modality has.
_TRAITS = ("preprocessed", "stripped", "corrected", "denoised", "defaced")
# BIDS entities that a plain image does not have.
_PLAIN = ("space", "res", "den", "acq", "rec", "part", "echo", "inv", "flip", "mod", "dir", "hemi", "chunk", "desc")


@dataclass(frozen=True)
class Image:
    """An image file, what its name says, and its BIDS entities if it has some, by their short names."""

    path: Path
    name: Name
    entities: Mapping[str, str]

    @property
    def modality(self) -> str:
        """What it is an image of."""
        return str(self.name.modality)

    @property
    def number(self) -> int:
        """The number of its run or series; -1 without one."""
        run = self.entities.get("run", self.name.rest)
        return int(run) if run.isdigit() else -1


def choose(found: Found, images: Sequence[Image], notes: Notes) -> None:
    """Give a subject one image of each modality.

    Rules, the first that tells two images apart counts: not in a template's space; moved to the image that others were
    moved to; no raw version beside a processed one; moved (`_reg`) rather than not; preprocessed, skull-stripped and
    bias-corrected, each if there is such a version of every modality; as few BIDS entities as possible; the highest run
    or series number.

    Raises:
        BadInputError: two images that no rule tells apart.
    """
    groups = {
        modality: [image for image in images if image.modality == modality]
        for modality in in_canonical_order(image.modality for image in images)
    }
    worse = _order(groups)
    for modality, group in groups.items():
        best, *others = sorted(group, key=lambda image: (worse(image), -image.number, image.path.name))
        found.add(modality, best.path)
        if not others:
            continue
        rivals = [image for image in others if worse(image) == worse(best)]
        if any(image.number == best.number for image in rivals):
            rival = next(image for image in rivals if image.number == best.number)
            raise BadInputError(
                f"{best.path}: one of two {modality} images of {found.source}, beside {rival.path.name}, and nothing "
                "says which to take; list the right ones in a table (.tsv)"
            )
        what = f"{_shown(best.path, found)} is taken, not {', '.join(_shown(image.path, found) for image in others)}"
        if rivals or any(_unlike(image, best) for image in others):
            notes.warn(f"several {modality} images: {what}", found.source)
            found.remarks.append(f"several {modality} images: {best.path.name} is taken")
        else:
            notes.tell(f"several versions of the {modality} image: {what}", found.source)


def _order(groups: Mapping[str, Sequence[Image]]) -> Callable[[Image], tuple[object, ...]]:
    """What sorts the images of a modality, the best first."""
    targets = {image.name.target for group in groups.values() for image in group if image.name.target}
    reference = next((modality for modality in groups if modality in targets), None)

    def everybody(trait: str, has: bool) -> bool:
        return all(any((trait in image.name.tags) == has for image in group) for group in groups.values())

    wanted = {trait: everybody(trait, True) or not everybody(trait, False) for trait in _TRAITS}

    def worse(image: Image) -> tuple[object, ...]:
        name = image.name
        moved_elsewhere = name.target not in (None, "template", reference)
        unmoved = reference is not None and image.modality != reference and name.target != reference
        return (
            name.target == "template" or "template" in name.tags,
            moved_elsewhere,
            unmoved,
            "original" in name.tags,
            "resampled" not in name.tags,
            tuple((trait in name.tags) != wanted[trait] for trait in _TRAITS),
            image.entities.get("part", "mag") != "mag",
            sum(key in image.entities for key in _PLAIN),
            tuple((key, image.entities.get(key, "")) for key in _PLAIN),
        )

    return worse


def _unlike(image: Image, best: Image) -> bool:
    """Whether an image is another acquisition, rather than another version of the best."""
    keys = ("acq", "run", "rec", "echo", "part")
    return any(image.entities.get(key) != best.entities.get(key) for key in keys)


def _shown(path: Path, found: Found) -> str:
    """A file's name with its folder, without the subject's name, so that equal choices read alike."""
    names = sorted({found.source, found.person, *([found.session] if found.session else [])}, key=len, reverse=True)
    folder = path.parent.name if path.parent.name not in (*names, "anat") else ""
    text = f"{folder}/{path.name}" if folder else path.name
    return re.sub("|".join(re.escape(name) for name in names), "*", text)
