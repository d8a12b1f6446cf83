"""What folders are called after: somebody, a time, a modality, or a version of the images in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from cgckit.images.layouts.labels import is_session, may_be_session, session_name, split_session
from cgckit.images.layouts.names import Name, read_name
from cgckit.images.modalities import SUFFIX, modality_of, vocabulary

_VERSION_FOLDERS = {
    "preprocessed": "pre preprocessed preprocessed_data preproc processed pp",
    "original": "orig original raw raw_data rawdata",
    "": "anat nifti niftis nii mri mr",
}
_VERSION = {name: tag for tag, names in _VERSION_FOLDERS.items() for name in names.split()}
MASK_FOLDERS = vocabulary(
    "mask masks label labels labelstr labelsts seg segs segmentation segmentations gt groundtruth "
    "ground_truth annotations references manual_masks"
)
# Modalities that may lie in one folder that is called by the first of them.
_FAMILY = {"t1": {"t1", "t1ce"}, "t2": {"t2", "flair", "t2star", "pd"}}


class Place(NamedTuple):
    """What the folders of a file say of it.

    Attributes:
        whose: folders down to the person's, those that say something else left out.
        person: the name of the person.
        session: the time; None if none is named.
        spelled: how person and session are spelled together, where one folder names both.
        tags: which version of the images the folders hold.
        series: the folder that says which image it is; None if none does.
        is_root: whether no folder below the root names anybody.
    """

    whose: tuple[str, ...]
    person: str
    session: str | None
    spelled: str | None
    tags: frozenset[str]
    series: str | None
    is_root: bool


def known_names(chain: Sequence[str]) -> tuple[str, ...]:
    """What a file's name may begin with: names of folders, alone or two joined, but none that says what is inside."""
    plain = [name for name in chain if name.strip("/") and not _speaks(name) and name.lower() not in _VERSION]
    joined = [f"{first}{mark}{second}" for first, second in pairwise(chain) for mark in "_-"]
    return tuple(plain + joined)


@dataclass(frozen=True)
class Roles:
    """What folders are called after.

    Attributes:
        times: names of folders that are time points though they may be called like a modality, as T1.
        modalities: chains of folders that are called by the modality of what lies in them.
        repeated: names that may be time points and lie in several folders, or beside one that does.
        holding: modalities of the images that lie in a folder itself.
    """

    times: frozenset[str]
    modalities: frozenset[tuple[str, ...]]
    repeated: frozenset[str]
    holding: Mapping[tuple[str, ...], set[str]]

    @classmethod
    def of(cls, depth: int, chains: dict[Path, tuple[str, ...]], names: dict[Path, Name]) -> Roles:
        inside: dict[tuple[str, ...], set[str]] = defaultdict(set)
        parents: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        holding: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for path, chain in chains.items():
            holding[chain].add(str(names[path].modality))
            for end in range(depth, len(chain) + 1):
                folder = chain[:end]
                if _speaks(folder[-1]):
                    inside[folder] |= {str(names[path].modality)} if names[path].modality else set()
                if may_be_session(folder[-1]) and end > depth + 1:
                    parents[folder[-1].lower()].add(folder[:-1])
        agree = {folder: kinds <= _family(folder[-1]) for folder, kinds in inside.items()}
        times = {folder[-1].lower() for folder, same in agree.items() if not same and may_be_session(folder[-1])}
        # If T1 is a time point anywhere, T2 is none of the modality.
        times |= {folder[-1].lower() for folder in agree if times and may_be_session(folder[-1])}
        lasting = {name: above for name, above in parents.items() if not modality_of(name)}
        timely = {folder for above in lasting.values() if len(above) > 1 for folder in above}
        return cls(
            frozenset(times),
            frozenset(folder for folder, same in agree.items() if same and folder[-1].lower() not in times),
            frozenset(name for name, above in lasting.items() if above & timely),
            holding,
        )

    def place(self, chain: tuple[str, ...], depth: int, path: Path, name: Name) -> Place:
        """What the folders of a file say of it; the root is the one at `depth`."""
        kept, tags, series, below = [], set(), None, 0
        for end, folder in enumerate(chain, 1):
            if chain[:end] in self.modalities and self._is_series(chain[:end], path, name.modality):
                series = folder
            elif folder.lower() in _VERSION and end > 1:
                tags |= {_VERSION[folder.lower()]} - {""}
            elif folder.lower() not in MASK_FOLDERS:
                kept.append(folder)
                below += end > depth
        whose, session = self._session(tuple(kept), below, name)
        person, spelled = whose[-1] if whose else "subject", None
        if session is None:
            person, session = split_session(person)
            spelled = whose[-1] if session else None
        return Place(whose, person, session, spelled, frozenset(tags), series, not below and session is None)

    def _is_series(self, folder: tuple[str, ...], path: Path, modality: str | None) -> bool:
        """Whether a folder that is called by a modality is a series of somebody's, rather than somebody."""
        said = read_name(folder[-1] + ".nii")
        if modality is None or not (said.subject or said.rest) or folder[-1] == SUFFIX.sub("", path.name):
            return True
        if folder[:-1] in self.holding and said.modality not in self.holding[folder[:-1]]:
            return True
        beside = {read_name(other[-1] + ".nii").modality for other in self.modalities if other[:-1] == folder[:-1]}
        return len(beside) > 1

    def _session(self, kept: tuple[str, ...], below: int, name: Name) -> tuple[tuple[str, ...], str | None]:
        """The chain without a time point at its end, or between the root and the person, and that."""
        if len(kept) < 2:
            return kept, None
        last, owner = kept[-1], name.owner.lower()
        told = owner.endswith(last.lower()) and owner.startswith(kept[-2].lower()) and owner != last.lower()
        likely = may_be_session(last) and (last.lower() in self.times or last.lower() in self.repeated or told)
        if is_session(last) or likely:
            return kept[:-1], session_name(last)
        for place in range(len(kept) - 2, len(kept) - 1 - below, -1):
            if is_session(kept[place]):
                return (*kept[:place], *kept[place + 1 :]), session_name(kept[place])
        return kept, None


def _speaks(folder: str) -> bool:
    """Whether a word of a folder's name says which image lies in it."""
    return read_name(folder + ".nii").modality is not None


def _family(folder: str) -> set[str]:
    modality = str(read_name(folder + ".nii").modality)
    return _FAMILY.get(modality, {modality})
