"""Reading the modality of an image, or that it is a mask, from a file's name."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ALIASES = {
    "flair": ("flair", "t2f", "t2flair", "t2wflair", "flairt2"),
    "t1": ("t1", "t1w", "t1n", "t1pre", "t1native", "mprage", "t1mprage"),
    "t1ce": ("t1ce", "t1c", "t1gd", "t1gad", "t1post", "t1km", "t1contrast", "t1wce", "t1wgd", "t1wpost"),
    "t2": ("t2", "t2w"),
    "pd": ("pd", "pdw"),
    "t2star": ("t2star", "t2starw"),
    "swi": ("swi",),
    "dwi": ("dwi",),
    "adc": ("adc",),
    "ct": ("ct", "ncct"),
}
_MODALITY = {alias: modality for modality, aliases in _ALIASES.items() for alias in aliases}
_ORDER = {modality: rank for rank, modality in enumerate(_ALIASES)}

_SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
# The subjects of the CQ500 collection, all of them CT.
_CQ500 = re.compile(r"CQ500[-_ ]?CT[-_ ]?\d+", re.IGNORECASE)
_MASK = re.compile(
    r"(.*(mask|seg|segm|segmentation|truth)s?|(label|lesion|annotation|consensus|tumou?r|roi)s?|gt|ot|wmh)\d*"
)


def is_nifti(name: str) -> bool:
    """Whether a file of this name is a NIfTI image: it ends in .nii or .nii.gz and is not hidden."""
    return _SUFFIX.search(name) is not None and not name.startswith(".")


def split_name(name: str) -> tuple[str, str | None]:
    """Split a file's name into what is left without the modality, and the modality.

    The rightmost word, or two words, that name a modality count: `p1_t2_flair.nii.gz` gives
    `("p1", "flair")`, `flair.nii.gz` gives `("", "flair")`, `scan.nii.gz` gives `("scan", None)`. In BIDS
    names a contrast agent (`ce-gadolinium`) turns T1w into `t1ce`. `CQ500CT12` names a subject, and CT.
    """
    stem = _SUFFIX.sub("", name)
    if match := _CQ500.match(stem):
        rest, modality = split_name(stem[match.end() :])
        return match.group() + ("_" + rest if rest else ""), modality or "ct"
    words = list(re.finditer(r"[A-Za-z0-9]+", stem))
    for last in range(len(words) - 1, -1, -1):
        for first in (last - 1, last):  # two words before one: T1_ce is not T1
            if first < 0 or words[first].group().lower() not in _MODALITY:
                continue
            alias = "".join(word.group() for word in words[first : last + 1]).lower()
            if alias not in _MODALITY:
                continue
            modality = _MODALITY[alias]
            if modality == "t1" and re.search(r"(^|_)ce-(?!none)[A-Za-z0-9]+_", stem):
                modality = "t1ce"
            rest = stem[: words[first].start()] + stem[words[last].end() :]
            return rest.strip("_-. "), modality
    return stem, None


def is_mask(name: str) -> bool:
    """Whether a word of the file's name says that it holds a segmentation or mask, so no image."""
    words = re.split(r"[^a-z0-9]+", _SUFFIX.sub("", name).lower())
    return any(_MASK.fullmatch(word) for word in words)


def is_brain_mask(name: str) -> bool:
    """Whether the file's name says that it is a brain mask: `brain_mask`, `brainmask`, `desc-brain_mask`."""
    return re.search(r"brain[^a-z0-9]?mask", name, re.IGNORECASE) is not None


def canonical_modality(name: str) -> str:
    """Return the standard name of a modality: `T1c` gives `t1ce`; an unknown name is put in lower case."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return _MODALITY.get(plain, name.strip().lower())


def in_canonical_order(modalities: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct modalities: flair, t1, t1ce, t2, then others; unknown names last, by alphabet."""
    return tuple(sorted(set(modalities), key=lambda name: (_ORDER.get(name, len(_ORDER)), name)))
