"""`Name`: what the name of an image file says of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from cgckit.images.modalities import SUFFIX, modality_of, vocabulary

IMAGE, MASK, BRAIN_MASK, OTHER = "image", "mask", "brain mask", "other"

# A digit may follow, as in mask1; two make it somebody's name, as seg01.
_SURE_MASK = re.compile(r"(?!ms\w*seg)(\w*mask|labels?|\w*segm?|\w*segmentation|\w*annotation|\w*truth)s?\d?")
_MASK_AT_THE_END = re.compile(r"(lesion|tumou?r|wmh|gt|ot|roi|consensus)s?\d?")
_BRAIN_MASK = re.compile(r"(?<![a-z])(hd)?(brain|bet|synthstrip)(extraction)?[^a-z0-9]?(bet[^a-z0-9]?)?mask(?![a-z])")
_DERIVED = vocabulary(
    "localizer localiser scout survey map maps phase pha mip minip pve mixeltype biasfield prob "
    "cbf cbv rcbf rcbv mtt ttp tmax pwi 4dpwi fa md"
)
_TAGS = {
    "stripped": "brain bet hdbet stripped skullstripped skullstrip ss strip noskull brainextracted synthstrip "
    "brainextractionbrain",
    "corrected": "n4 bfc bias biascorrected biascorr unbiased restore",
    "preprocessed": "pp preproc preprocessed processed proc",
    "original": "orig original raw native",
    "template": "mni mni152 mni305 template std standard atlas sri24 talairach icbm",
    "resampled": "registered coreg coregistered aligned warped resampled resliced isovox reg middle",
    "defaced": "defaced deface refaced",
    "denoised": "denoised denoise",
}
_TAG = {word: tag for tag, words in _TAGS.items() for word in words.split()}
_PROTOCOL = vocabulary(
    "sag sagittal tra transversal trans ax axial cor coronal 3d 2d tse fse se gre ir space cube vista "
    "blade propeller iso 1mm fs fatsat spair dark fluid darkfluid tirm tfe ffe bravo spgr fspgr brainview "
    "weighted w wi image img scan series mr mri wip we nd tfl mpr volume desc acq rec pre on"
)
_CONTRAST = vocabulary("ce gd gad gadolinium post postcontrast contrast enhanced km mdc")
_TO = ("to", "2", "in", "into", "on", "onto", "reg")
_FACTOR = re.compile(r"p\d")
_SPACE = re.compile(r"(?:^|_)space-([A-Za-z0-9]+)")
_BIDS_CONTRAST = re.compile(r"(^|_)ce-(?!none)[A-Za-z0-9]+_")
_DARK_FLUID = re.compile(r"dark[^a-z0-9]?fluid")
_CQ500 = re.compile(r"CQ500[-_ ]?CT[-_ ]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """A file's name, taken apart.

    Attributes:
        kind: "image", "mask", "brain mask" or "other", as a localiser or a map of something.
        owner: the known name that it begins with.
        subject: what stands between that and the words about the image: whose it is, if no folder says.
        modality: canonical, as "flair"; None if no word names one.
        tags: which version of the image it is: "stripped", "corrected", "original", ...
        target: the modality whose image it was registered to, or "template".
        rest: words after the modality that say nothing known, as the number of a series.
        doubt: why the modality cannot be told for sure; empty if it can.
    """

    kind: str
    subject: str = ""
    owner: str = ""
    modality: str | None = None
    tags: frozenset[str] = field(default_factory=frozenset)
    target: str | None = None
    rest: str = ""
    doubt: str = ""


class _Word(NamedTuple):
    """A word of a name: where it starts in it, and the modality that it names, alone or with the words before it."""

    text: str
    start: int
    modality: str | None = None

    @property
    def speaks(self) -> bool:
        """Whether it says something of the image, rather than whose image it is."""
        known = self.text in _TAG or self.text in _PROTOCOL or self.text in _CONTRAST or self.text in _DERIVED
        return self.modality is not None or known or _SURE_MASK.fullmatch(self.text) is not None


@lru_cache(maxsize=100_000)
def read_name(name: str, known: Sequence[str] = ()) -> Name:
    """Take a file's name apart.

    Words from the modality on, and those right before it, say what the image is; what stands before them is somebody's
    name, in which no word means anything: `WMH_001_FLAIR` and `tumor01_T1` are images, `01_FLAIR_mask` and `wmh` masks.

    Args:
        name: of the file.
        known: names that the file's may begin with, as those of the folders above it: they are left out first.

    Example:
        >>> read_name("S01_t2_space_dark-fluid_sag_p2_iso_5.nii.gz").modality
        'flair'
        >>> read_name("T1_to_FLAIR.nii.gz").modality, read_name("T1_to_FLAIR.nii.gz").target
        ('t1', 'flair')
    """
    stem = SUFFIX.sub("", name)
    if match := _CQ500.match(stem):  # the subjects of that collection, all of them CT
        inner = read_name(stem[match.end() :])
        return replace(inner, subject=match.group(), modality=inner.modality or "ct")
    series = _without_owner(stem, tuple(known))
    owner = stem[: len(stem) - len(series)].strip("_-. ")
    space = _SPACE.search(series)
    words, target = _without_target(_words(_SPACE.sub("", series)))
    if space is not None:
        target = modality_of(space.group(1)) or "template"
    named = [place for place, word in enumerate(words) if word.modality]
    first = named[-1] if named else 0
    while named and first > 0 and (words[first - 1].speaks or _is_factor(words, first - 1)):
        first -= 1
    said = words[first:]
    subject = series[: said[0].start if named else len(series)].strip("_-. ")
    modality, doubt = _weighting(said, series) if named else (None, _doubt(words))
    if named and first > 0 and _MASK_AT_THE_END.fullmatch(words[first - 1].text) and words[first - 1].text.isalpha():
        doubt = f"its name speaks of a {words[first - 1].text}, so that it may be a mask"
    after = said[named[-1] - first + 1 :] if named else []
    return Name(
        kind=_kind(series, said, after, modality),
        subject=subject,
        owner=owner,
        modality=modality,
        tags=frozenset(_TAG[word.text] for word in (said if named else said[-2:]) if word.text in _TAG),
        target=target,
        rest=" ".join(word.text for word in after if not word.speaks and not _FACTOR.fullmatch(word.text)),
        doubt=doubt,
    )


def is_mask(name: str) -> bool:
    """Whether the file's name says that it holds a segmentation or mask, so no image."""
    return read_name(name).kind in (MASK, BRAIN_MASK)


def is_brain_mask(name: str) -> bool:
    """Whether the file's name says that it is a brain mask: `brain_mask`, `FLAIR_bet_mask`, `desc-brain_mask`."""
    return read_name(name).kind == BRAIN_MASK


def _without_owner(stem: str, known: Sequence[str]) -> str:
    """What is left of a name behind the longest of the known names that it begins with."""
    for name in sorted(known, key=len, reverse=True):
        rest = stem[len(name) :]
        if name and rest and stem.lower().startswith(name.lower()) and not re.match(r"[^\W_]", rest):
            return rest
    return stem


def _words(series: str) -> list[_Word]:
    """The words, the modality noted at the last of those that name one together: T1_ce is not T1."""
    found = [(match.group().lower(), match.start()) for match in re.finditer(r"[^\W_]+", series)]
    words: list[_Word] = []
    place = 0
    while place < len(found):
        for count in (3, 2, 1):
            part = found[place : place + count]
            if len(part) == count and (modality := modality_of("".join(text for text, _ in part))):
                words.append(_Word("".join(text for text, _ in part), part[0][1], modality))
                break
        else:
            count = 1
            words.append(_Word(*found[place]))
        place += count
    return words


def _without_target(words: list[_Word]) -> tuple[list[_Word], str | None]:
    """The words without "to FLAIR" behind another modality, and that target."""
    for place, word in enumerate(words):
        joined = re.fullmatch(r"(.+?)(?:to|2|in)(.+)", word.text) if word.modality is None else None
        if joined and (modality := modality_of(joined[1])) and (target := _destination(joined[2])):
            return [*words[:place], _Word(joined[1], word.start, modality), *words[place + 1 :]], target
        behind = any(earlier.modality for earlier in words[:place])
        if behind and word.text in _TO and place + 1 < len(words) and (target := _destination(words[place + 1].text)):
            return [*words[:place], *words[place + 2 :]], target
    return words, None


def _is_factor(words: Sequence[_Word], place: int) -> bool:
    """Whether a word is the factor of an acceleration, behind a modality: else p2 is somebody's name."""
    return _FACTOR.fullmatch(words[place].text) is not None and any(word.modality for word in words[:place])


def _destination(word: str) -> str | None:
    """What an image may be registered to: a modality, or a template."""
    return modality_of(word) or ("template" if _TAG.get(word) == "template" else None)


def _weighting(said: Sequence[_Word], series: str) -> tuple[str | None, str]:
    """The modality that the words mean together, and why that is doubtful."""
    named = [word.modality for word in said if word.modality]
    modality = named[-1]
    if "flair" in named or _DARK_FLUID.search(series.lower()):
        weighted = next((name for name in named if name in ("t1", "t1ce")), None)
        modality = weighted or "flair"  # T1 FLAIR is weighted as T1; all other FLAIR is as T2
    contrast = any(word.text in _CONTRAST for word in said) or _BIDS_CONTRAST.search(series) is not None
    if modality == "t1" and contrast:
        modality = "t1ce"
    kinds = [{"t1": "T1", "t1ce": "T1", "t2": "T2", "pd": "PD", "ct": "CT"}.get(str(name)) for name in named]
    if "flair" not in named and len(both := sorted({kind for kind in kinds if kind})) > 1:
        return modality, f"its name speaks of {' and of '.join(both)}"
    return modality, "" if modality in ("flair", "t1", "t1ce") else _doubt(said)


def _doubt(words: Sequence[_Word]) -> str:
    texts = {word.text for word in words}
    return "TIRM may be FLAIR (dark fluid) or STIR" if "tirm" in texts and not {"dark", "darkfluid"} & texts else ""


def _kind(series: str, said: Sequence[_Word], after: Sequence[_Word], modality: str | None) -> str:
    end = after if modality else said[-1:]
    sure = any(_SURE_MASK.fullmatch(word.text) for word in said)
    numbered = {first.text for first, second in pairwise(end) if re.fullmatch(r"\d{2,}", second.text)}
    named_last = [word.text for word in reversed(said) if not word.text.isdigit()][:1] if not modality else []
    ending = [*(word.text for word in end), *named_last]
    if sure or any(_MASK_AT_THE_END.fullmatch(text) and text not in numbered for text in ending):
        return BRAIN_MASK if _BRAIN_MASK.search(series.lower()) else MASK
    return OTHER if any(word.text in _DERIVED for word in said) else IMAGE
