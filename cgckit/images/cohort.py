"""`Subject` and `Cohort`: which files belong to whom."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import overload

from cgckit.errors import BadInputError, UsageError
from cgckit.images.modalities import (
    canonical_modality,
    in_canonical_order,
    is_brain_mask,
    is_mask,
    is_nifti,
    split_name,
)

log = logging.getLogger(__name__)

_BIDS_PREFIX = re.compile(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?(?=_)")
_NOT_RAW = {"derivatives", "sourcedata", "code", "stimuli"}


@dataclass(frozen=True, eq=False)
class Subject:
    """The files of one subject.

    Attributes:
        label: what outputs are called, alphanumeric as in BIDS.
        source: the name in the input: a folder, a file's stem or a table's cell.
        files: image file of each modality, in the cohort's order.
        brain_mask: the given brain mask, or None.
    """

    label: str
    source: str
    files: Mapping[str, Path]
    brain_mask: Path | None = None

    def fingerprint(self) -> str:
        """Return a SHA-256 of the bytes of all files and of their roles; read once, then remembered."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        roles = {**self.files, "brain_mask": self.brain_mask}
        for role, path in sorted(roles.items()):
            if path is None:
                continue
            try:
                with path.open("rb") as file:
                    content = hashlib.sha256()
                    while block := file.read(1 << 20):
                        content.update(block)
            except OSError as error:
                raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error
            digest.update(f"{role}:{content.hexdigest()}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Cohort(Sequence[Subject]):
    """The subjects of a run, ordered by label, and the modalities that they are worked on with."""

    subjects: tuple[Subject, ...]
    modalities: tuple[str, ...]

    @overload
    def __getitem__(self, index: int) -> Subject: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Subject]: ...
    def __getitem__(self, index: int | slice) -> Subject | Sequence[Subject]:
        return self.subjects[index]

    def __len__(self) -> int:
        return len(self.subjects)

    @classmethod
    def find(
        cls,
        inputs: Sequence[str | Path],
        modalities: Sequence[str] | None = None,
        allow_missing: bool = False,
    ) -> Cohort:
        """Find subjects and modalities; no image is read.

        Args:
            inputs: any of
                - NIfTI files: the modality is read from the name, files with the same rest of the name are
                  one subject (files without a rest, as `flair.nii.gz`, belong to their folder). If no name
                  holds a modality, each file is a subject with one channel, `image`.
                - a folder with a folder for each subject, a folder that is itself a subject, or a BIDS data
                  set. Names may be those of any BraTS year. Where a modality repeats in a folder, its files
                  are grouped by the rest of their names. Segmentations are left aside; a brain mask is used.
                - a table `*.tsv` with a column `subject`, a column for each modality and, optionally,
                  `brain_mask`; paths are relative to the table, empty cells and `n/a` are missing files.
            modalities: use only these, in this order; by default all: flair, t1, t1ce, t2, then others.
            allow_missing: accept subjects that lack some modalities.

        Raises:
            BadInputError: nothing found, a missing file, two files for one modality, a subject that lacks a
                modality (unless `allow_missing`), two subjects of one label.
            UsageError: a modality asked for twice.
        """
        found: list[_Found] = []
        files: list[Path] = []
        for path in map(Path, inputs):
            if not path.exists():
                raise BadInputError(f"{path}: no such file or folder")
            if path.is_dir():
                found += _read_folder(path)
            elif path.suffix.lower() == ".tsv":
                found += _read_table(path)
            elif is_nifti(path.name):
                files.append(path)
            else:
                raise BadInputError(f"{path}: not a NIfTI image (.nii, .nii.gz), a table (.tsv) or a folder")
        found += _read_files(files)
        if not found:
            raise BadInputError("no input: give NIfTI files, a folder of subjects or a table (.tsv)")
        present = in_canonical_order(modality for subject in found for modality in subject.files)
        chosen = present if modalities is None else _choose(modalities, present)
        subjects = sorted((_subject(item, chosen) for item in found), key=lambda subject: subject.label.lower())
        _refuse_duplicates(subjects)
        _refuse_missing(subjects, chosen, allow_missing)
        return cls(tuple(subjects), chosen)


@dataclass
class _Found:
    """A subject as it was met in the input, before modalities are chosen."""

    source: str
    files: dict[str, Path] = field(default_factory=dict)
    brain_mask: Path | None = None

    def add(self, modality: str, path: Path) -> None:
        if modality in self.files:
            raise BadInputError(
                f"{path}: a second {modality} image of {self.source}, beside {self.files[modality].name}; "
                "list the right files in a table (.tsv)"
            )
        self.files[modality] = path


def _read_files(paths: Sequence[Path]) -> list[_Found]:
    """Group image files that were given one by one."""
    images = [path for path in paths if not is_mask(path.name)]
    if paths and not images:
        raise BadInputError(f"{paths[0]}: a segmentation or mask by its name, not an image; give the images themselves")
    parts = {path: split_name(path.name) for path in images}
    unnamed = [path for path, (_, modality) in parts.items() if modality is None]
    if unnamed and len(unnamed) < len(parts):
        raise BadInputError(
            f"{unnamed[0]}: no modality in the file's name, while others have one; "
            "rename it (for instance *_flair.nii.gz) or list the files in a table (.tsv)"
        )
    folders: dict[str, set[Path]] = {}
    for path, (rest, _) in parts.items():
        folders.setdefault(_bids_name(path) or rest, set()).add(path.parent.resolve())
    subjects: dict[tuple[str, Path | None], _Found] = {}
    for path in images:
        rest, modality = parts[path]
        name = _bids_name(path) or rest
        folder = path.parent.resolve()
        # Files called alike in several folders, as flair.nii.gz, are told apart by their folders.
        key = (name, None) if name and len(folders[name]) == 1 else (folder.name, folder)
        if _bids_name(path):
            key = (name, None)
        subjects.setdefault(key, _Found(key[0])).add(modality or "image", path)
    for path in paths:
        if is_brain_mask(path.name):
            _adopt_brain_mask(path, subjects.values())
    return list(subjects.values())


def _adopt_brain_mask(mask: Path, subjects: Iterable[_Found]) -> None:
    """Give a brain mask to the subject whose images lie in its folder and share the start of its name."""
    beside = [item for item in subjects if any(path.parent == mask.parent for path in item.files.values())]
    named = [item for item in beside if mask.name.startswith(item.source)]
    for item in named or beside[:1]:
        item.brain_mask = mask


def _read_folder(folder: Path) -> list[_Found]:
    """Find the subjects in a folder: its own images if it has some, else those of its sub-folders."""
    found = list(_walk(folder))
    if not found:
        raise BadInputError(
            f"{folder}: no image found; expected a folder for each subject with files such as "
            "*_flair.nii.gz or t1.nii.gz"
        )
    return found


def _walk(folder: Path) -> Iterator[_Found]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise BadInputError(f"{folder}: cannot be listed ({error.strerror})") from error
    files = [path for path in entries if is_nifti(path.name) and path.is_file()]
    images = [path for path in files if not is_mask(path.name) and split_name(path.name)[1] is not None]
    if images:
        subjects = _group(folder, images)
        for mask in (path for path in files if is_brain_mask(path.name)):
            _adopt_brain_mask(mask, subjects)
        yield from subjects
        return
    for path in files:
        log.info("%s: no modality in its name, or a mask: not used as an image", path)
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in _NOT_RAW:
            yield from _walk(entry)


def _group(folder: Path, images: Sequence[Path]) -> list[_Found]:
    """Group the images of one folder: one subject, unless a modality or a BIDS subject repeats."""
    counts = Counter(split_name(path.name)[1] for path in images)
    names = {_bids_name(path) or split_name(path.name)[0] for path in images}
    several = max(counts.values()) > 1 and len(names) > 1
    subjects: dict[str, _Found] = {}
    for path in images:
        rest, modality = split_name(path.name)
        name = _bids_name(path) or (several and rest) or _folder_name(folder)
        subjects.setdefault(name, _Found(name)).add(str(modality), path)
    return list(subjects.values())


def _folder_name(folder: Path) -> str:
    """Return the subject that a folder is named after, looking through `anat` and `ses-*` of BIDS."""
    folder = folder.resolve()
    if folder.name == "anat":
        folder = folder.parent
    if folder.name.startswith("ses-") and folder.parent.name.startswith("sub-"):
        return f"{folder.parent.name}_{folder.name}"
    return folder.name


def _bids_name(path: Path) -> str | None:
    """Return the subject, and session if there is one, of a file named as in BIDS."""
    match = _BIDS_PREFIX.match(path.name)
    return match.group() if match else None


def _read_table(table: Path) -> list[_Found]:
    """Read subjects from a TSV table."""
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{table}: cannot be read as a UTF-8 table of tab-separated values") from error
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    if "subject" not in header:
        raise BadInputError(f"{table}: no column 'subject' in the first line; columns are separated by tabs")
    found = []
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise BadInputError(f"{table}, line {number}: {len(cells)} cells under {len(header)} columns")
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        source = row.pop("subject")
        if not source:
            raise BadInputError(f"{table}, line {number}: the subject has no name")
        subject = _Found(source)
        for column, cell in row.items():
            # Columns that hold no images, as age or site, are nobody's modality.
            if not is_nifti(Path(cell).name):
                if cell not in ("", "n/a") and split_name(column)[1] is not None:
                    raise BadInputError(f"{table}, line {number}: {column} is {cell!r}, not .nii or .nii.gz")
                continue
            path = table.parent / cell
            if not path.is_file():
                raise BadInputError(f"{path}: no such file ({table.name}, line {number}, column {column})")
            if column == "brain_mask":
                subject.brain_mask = path
            elif not is_mask(column):
                subject.add(canonical_modality(column), path)
        if not subject.files:
            raise BadInputError(f"{table}, line {number}: no image for {source}")
        found.append(subject)
    if not found:
        raise BadInputError(f"{table}: no subject below the first line")
    return found


def _choose(wanted: Sequence[str], present: Sequence[str]) -> tuple[str, ...]:
    names = tuple(canonical_modality(name) for name in wanted)
    if not names or len(set(names)) < len(names):
        raise UsageError(f"modalities {', '.join(wanted)!r}: give each one once")
    for name in names:
        if name not in present:
            raise BadInputError(f"no subject has modality {name}; found: {', '.join(present)}")
    return names


def _subject(found: _Found, modalities: Sequence[str]) -> Subject:
    label = re.sub(r"[^A-Za-z0-9]", "", found.source.removeprefix("sub-"))
    if not label:
        raise BadInputError(f"subject {found.source!r}: its name has no letter or digit; rename it")
    files = {modality: found.files[modality] for modality in modalities if modality in found.files}
    return Subject(label, found.source, files, found.brain_mask)


def _refuse_duplicates(subjects: Sequence[Subject]) -> None:
    for first, second in pairwise(subjects):
        if first.label.lower() != second.label.lower():
            continue
        places = ", ".join(str(path) for subject in (first, second) for path in list(subject.files.values())[:1])
        raise BadInputError(
            f"duplicate subject: {first.source!r} and {second.source!r} are both called sub-{second.label} "
            f"({places}); give one of them another name"
        )


def _refuse_missing(subjects: Sequence[Subject], modalities: Sequence[str], allow_missing: bool) -> None:
    for subject in subjects:
        missing = [modality for modality in modalities if modality not in subject.files]
        if missing and (not allow_missing or not subject.files):
            raise BadInputError(
                f"subject {subject.source} has no {', '.join(missing)}; "
                "add the file, leave the modality out with --modalities, or pass --allow-missing"
            )
