"""`Subject` and `Cohort`: which files belong to whom."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import overload

from cgckit.errors import BadInputError, UsageError
from cgckit.images.modalities import canonical_modality, in_canonical_order, is_nifti
from cgckit.images.readers import Found, is_dicom, read_files, read_folder, read_table


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
        inputs: str | Path | Sequence[str | Path],
        modalities: Sequence[str] | None = None,
        allow_missing: bool = False,
    ) -> Cohort:
        """Find subjects and modalities; no image is read.

        Args:
            inputs: one or more of
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
        found: list[Found] = []
        files: list[Path] = []
        for path in map(Path, [inputs] if isinstance(inputs, str | Path) else inputs):
            if not path.exists():
                raise BadInputError(f"{path}: no such file or folder")
            if path.is_dir():
                found += read_folder(path)
            elif path.suffix.lower() == ".tsv":
                found += read_table(path)
            elif is_nifti(path.name):
                files.append(path)
            elif is_dicom(path):
                raise BadInputError(f"{path}: a DICOM file; convert it to NIfTI, as with dcm2niix")
            else:
                raise BadInputError(f"{path}: not a NIfTI image (.nii, .nii.gz), a table (.tsv) or a folder")
        found += read_files(files)
        if not found:
            raise BadInputError("no input: give NIfTI files, a folder of subjects or a table (.tsv)")
        present = in_canonical_order(modality for subject in found for modality in subject.files)
        chosen = present if modalities is None else _choose(modalities, present)
        subjects = sorted((_subject(item, chosen) for item in found), key=lambda subject: subject.label.lower())
        _refuse_duplicates(subjects)
        _refuse_missing(subjects, chosen, allow_missing)
        return cls(tuple(subjects), chosen)


def _choose(wanted: Sequence[str], present: Sequence[str]) -> tuple[str, ...]:
    names = tuple(canonical_modality(name) for name in wanted)
    if not names or len(set(names)) < len(names):
        raise UsageError(f"modalities {', '.join(wanted)!r}: give each one once")
    for name in names:
        if name not in present:
            raise BadInputError(f"no subject has modality {name}; found: {', '.join(present)}")
    return names


def _subject(found: Found, modalities: Sequence[str]) -> Subject:
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
