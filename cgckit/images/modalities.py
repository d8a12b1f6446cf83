"""Modalities: their names, the words that files call them by, their order."""

from __future__ import annotations

import re
from collections.abc import Iterable


def vocabulary(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_ALIASES = {
    "flair": "flair t2f t2flair t2wflair flairt2 darkfluid t2darkfluid",
    "t1": "t1 t1w t1n t1pre t1native mprage t1mprage t1mpr",
    "t1ce": "t1ce t1c t1gd t1gad t1post t1km t1contrast t1wce t1wgd t1wpost t1wc gado t1gado t1gdc",
    "t2": "t2 t2w",
    "pd": "pd pdw dp",
    "t2star": "t2star t2starw t2s",
    "swi": "swi swan",
    "dwi": "dwi",
    "adc": "adc",
    "ct": "ct ncct",
}
_MODALITY = {alias: modality for modality, aliases in _ALIASES.items() for alias in aliases.split()}
_ORDER = {modality: rank for rank, modality in enumerate(_ALIASES)}
# As words have them in front of a modality: 3DFLAIR, AxT2, and SPM's rT1.
_BEFORE = re.compile(r"(?:[23]d|ax|sag|cor|tra|r|w)(?=flair|t1|t2|mprage)")

SUFFIX = re.compile(r"\.(nii|nii\.gz|hdr|img|mgh|mgz|nrrd|nhdr|mha|mhd)$", re.IGNORECASE)
"""How the names of images end."""


def is_image_file(name: str) -> bool:
    """Whether a file of this name holds an image, as far as its ending says, and is not hidden.

    The voxels of a pair are in `.img`, its header in `.hdr`: the header is the image.
    """
    return SUFFIX.search(name) is not None and not name.startswith(".") and not name.lower().endswith(".img")


def modality_of(word: str) -> str | None:
    """The modality that a word names, `T1Gd` for instance `t1ce`; None if it names none."""
    plain = re.sub(r"[\W_]", "", word.lower())
    return _MODALITY.get(plain) or _MODALITY.get(_BEFORE.sub("", plain, count=1) if _BEFORE.match(plain) else "")


def canonical_modality(name: str) -> str:
    """Return the standard name of a modality: `T1c` gives `t1ce`; an unknown name is put in lower case."""
    return modality_of(name) or name.strip().lower()


def in_canonical_order(modalities: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct modalities: flair, t1, t1ce, t2, then others; unknown names last, by alphabet."""
    return tuple(sorted(set(modalities), key=lambda name: (_ORDER.get(name, len(_ORDER)), name)))
