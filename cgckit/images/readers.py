"""Readers of what a user points at: image files, folders of subjects, tables."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cgckit.errors import BadInputError
from cgckit.images.modalities import canonical_modality, is_brain_mask, is_mask, is_nifti, split_name
from cgckit.images.nifti import check_file

log = logging.getLogger(__name__)

_BIDS_PREFIX = re.compile(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?(?=_)")
_NOT_RAW = {"derivatives", "sourcedata", "code", "stimuli"}


@dataclass
class Found:
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


def read_files(paths: Sequence[Path]) -> list[Found]:
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
    subjects: dict[tuple[str, Path | None], Found] = {}
    for path in images:
        rest, modality = parts[path]
        name = _bids_name(path) or rest
        folder = path.parent.resolve()
        # Files called alike in several folders, as flair.nii.gz, are told apart by their folders.
        key = (name, None) if name and len(folders[name]) == 1 else (folder.name, folder)
        if _bids_name(path):
            key = (name, None)
        subjects.setdefault(key, Found(key[0])).add(modality or "image", path)
    for path in paths:
        if is_brain_mask(path.name):
            _adopt_brain_mask(path, subjects.values())
    return list(subjects.values())


def _adopt_brain_mask(mask: Path, subjects: Iterable[Found]) -> None:
    """Give a brain mask to the subject whose images lie in its folder, by its name if there are several."""
    beside = [item for item in subjects if any(path.parent == mask.parent for path in item.files.values())]
    if len(beside) > 1:
        beside = [item for item in beside if mask.name.startswith(item.source)]
    if not beside:
        log.warning("%s: a brain mask of no subject, not used", mask)
        return
    owner = max(beside, key=lambda item: len(item.source))  # p10_brain_mask is not that of p1
    if owner.brain_mask is not None:
        raise BadInputError(f"{mask}: a second brain mask of {owner.source}, beside {owner.brain_mask.name}")
    owner.brain_mask = mask


def read_folder(folder: Path) -> list[Found]:
    """Find the subjects in a folder: its own images if it has some, else those of its sub-folders."""
    found = list(_walk(folder, set()))
    if not found:
        dicom = next((path for path in folder.rglob("*") if is_dicom(path)), None)
        if dicom is not None:
            raise BadInputError(f"{folder}: no NIfTI image, but DICOM ({dicom.name}); convert it, as with dcm2niix")
        raise BadInputError(
            f"{folder}: no image found; expected a folder for each subject with files such as "
            "*_flair.nii.gz or t1.nii.gz"
        )
    return found


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its ending, or by the letters that stand after its preamble."""
    if not os.path.isfile(path):
        return False
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _walk(folder: Path, seen: set[Path]) -> Iterator[Found]:
    """The subjects in a folder and those below it; a folder that links lead to twice is walked once."""
    try:
        here = folder.resolve()
        if here in seen:
            return
        seen.add(here)
        modes = {path: _mode(path) for path in sorted(folder.iterdir())}
    except (OSError, RuntimeError) as error:  # before Python 3.13, a link in a circle is the latter
        raise BadInputError(f"{folder}: cannot be listed ({getattr(error, 'strerror', error)})") from error
    files = [path for path, mode in modes.items() if is_nifti(path.name) and stat.S_ISREG(mode)]
    images = [path for path in files if not is_mask(path.name) and split_name(path.name)[1] is not None]
    if images:
        subjects = _group(folder, images)
        for mask in (path for path in files if is_brain_mask(path.name)):
            _adopt_brain_mask(mask, subjects)
        yield from subjects
        return
    for path in files:
        log.info("%s: no modality in its name, or a mask: not used as an image", path)
    for entry, mode in modes.items():
        if stat.S_ISDIR(mode) and not entry.name.startswith(".") and entry.name not in _NOT_RAW:
            yield from _walk(entry, seen)


def _mode(path: Path) -> int:
    """What a path is, as `stat` says; 0 for a link that leads nowhere."""
    try:
        return path.stat().st_mode
    except PermissionError:
        raise
    except OSError:
        if is_nifti(path.name):
            log.warning("%s: a link to a file that is not there, not used", path)
        return 0


def _group(folder: Path, images: Sequence[Path]) -> list[Found]:
    """Group the images of one folder: one subject, unless a modality or a BIDS subject repeats."""
    counts = Counter(split_name(path.name)[1] for path in images)
    names = {_bids_name(path) or split_name(path.name)[0] for path in images}
    several = max(counts.values()) > 1 and len(names) > 1
    subjects: dict[str, Found] = {}
    for path in images:
        rest, modality = split_name(path.name)
        name = _bids_name(path) or (several and rest) or _folder_name(folder)
        subjects.setdefault(name, Found(name)).add(str(modality), path)
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


def read_table(table: Path) -> list[Found]:
    """Read subjects from a TSV table."""
    check_file(table)
    try:
        # Line breaks alone end a row: other separators may be part of a name.
        lines = re.split(r"\r\n|\n|\r", table.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{table}: cannot be read as a UTF-8 table of tab-separated values") from error
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    if "subject" not in header:
        raise BadInputError(f"{table}: no column 'subject' in the first line; columns are separated by tabs")
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise BadInputError(f"{table}: two columns are called {twice[0]!r}; rename one of them")
    found = []
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise BadInputError(f"{table}, line {number}: {len(cells)} cells under {len(header)} columns")
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        source = row.pop("subject")
        if not source:
            raise BadInputError(f"{table}, line {number}: the subject has no name")
        subject = Found(source)
        for column, cell in row.items():
            # Columns that hold no images, as age or site, are nobody's modality.
            if not is_nifti(Path(cell).name):
                if cell not in ("", "n/a") and split_name(column)[1] is not None:
                    raise BadInputError(f"{table}, line {number}: {column} is {cell!r}, not .nii or .nii.gz")
                continue
            path = table.parent / cell
            if not column:
                raise BadInputError(f"{table}, line {number}: {cell} is in a column without a name")
            try:
                check_file(path)
            except BadInputError as error:
                raise BadInputError(f"{error} ({table.name}, line {number}, column {column})") from None
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
