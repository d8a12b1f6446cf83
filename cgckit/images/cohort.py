"""`Subject` and `Cohort`: which files belong to whom."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import cast, overload

import numpy as np

from cgckit.errors import BadInputError, UsageError
from cgckit.images.case import Case, require_case, subject_label
from cgckit.images.grid import Grid
from cgckit.images.modalities import canonical_modality, in_canonical_order, is_nifti
from cgckit.images.nifti import check_file
from cgckit.images.readers import Found, is_dicom, read_files, read_folder, read_table


@dataclass(frozen=True)
class _Content:
    """SHA-256 of a file, and what tells cheaply whether it may be another by now."""

    digest: str
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> _Content:
        try:
            with path.open("rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))  # before the bytes: a change in between shows later
                digest = hashlib.sha256()
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error
        return cls(digest.hexdigest(), stamp)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


@dataclass(frozen=True, eq=False)
class Subject:
    """The files of one subject.

    Attributes:
        label: what outputs are called, alphanumeric as in BIDS.
        source: the name in the input: a folder, a file's stem or a table's cell.
        files: image file of each modality, in the cohort's order; none for a subject that was made in memory.
        brain_mask: the given brain mask, or None.
        case: the subject itself, if it was made in memory.
    """

    label: str
    source: str
    files: Mapping[str, Path]
    brain_mask: Path | None = None
    case: Case | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it has images of."""
        return tuple(self.files) if self.case is None else self.case.modalities

    @property
    def frame(self) -> Path | Grid:
        """What its outputs are written on: the grid and header of its first file, or a grid alone."""
        return next(iter(self.files.values())) if self.case is None else self.case.native

    @property
    def all_files(self) -> dict[str, Path]:
        """Every file that is read, the brain mask as "brain_mask" included; none for a subject in memory."""
        return {**self.files, **({"brain_mask": self.brain_mask} if self.brain_mask else {})}

    def fingerprint(self) -> str:
        """Return a SHA-256 of the bytes of all images and of their roles; read once, then remembered."""
        if self.case is not None:
            return self._case_fingerprint
        lines = [f"{role}:{content.digest}\n" for role, content in sorted(self._contents.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Check after the block, whether it raises or not, that the files are those that the fingerprint is of.

        Raises:
            BadInputError: a file was replaced, changed or removed since.
        """
        try:
            yield
        except Exception:
            self._check_unchanged()
            raise
        self._check_unchanged()

    @cached_property
    def _case_fingerprint(self) -> str:
        return _case_fingerprint(cast(Case, self.case))

    @cached_property
    def _contents(self) -> dict[str, _Content]:
        """What is in each file, by its role."""
        return {role: _Content.of(path) for role, path in self.all_files.items()}

    def _check_unchanged(self) -> None:
        if "_contents" not in vars(self):  # nobody asked for the fingerprint yet
            return
        for role, path in self.all_files.items():
            known = self._contents[role]
            try:
                doubtful = _stamp(path.stat()) != known.stamp
                now = _Content.of(path) if doubtful else known
            except (OSError, BadInputError):
                now = None
            if now is None or now.digest != known.digest:
                raise BadInputError(
                    f"{path}: was {'removed' if now is None else 'replaced'} while the run was working on it; give the "
                    "command again when the scans are at rest"
                )
            self._contents[role] = now


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
            if os.path.isdir(path):
                found += read_folder(path)
                continue
            check_file(path)
            if path.suffix.lower() == ".tsv":
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
        return cls._of([_subject(item) for item in found], modalities, allow_missing)

    @classmethod
    def from_cases(
        cls, cases: Case | Iterable[Case], modalities: Sequence[str] | None = None, allow_missing: bool = False
    ) -> Cohort:
        """Make a cohort of cases in memory, as `Case.from_arrays` makes them.

        Args:
            cases: the subjects, or one; all have the same modalities, or those asked for among theirs.
            modalities: use only these, in this order; by default all, in the order of `find`.
            allow_missing: accept subjects that lack some modalities.

        Raises:
            BadInputError: no case, what is none, a case that lacks a modality, two cases of one name.

        Example:
            >>> import numpy as np
            >>> flair = np.random.default_rng(0).normal(100, 10, (24, 24, 24))
            >>> case = Case.from_arrays({"flair": flair}, affine=np.eye(4), brain=flair > 0, subject="a 1")
            >>> Cohort.from_cases([case])[0].label
            'a1'
        """
        found = []
        for case in cases if isinstance(cases, Iterable) else [cases]:
            require_case(case)
            found.append(Subject(case.subject, case.source or case.subject, {}, case=case))
        if not found:
            raise BadInputError("no input: give one case or more")
        return cls._of(found, modalities, allow_missing)

    def select(self, modalities: Sequence[str], allow_missing: bool = False) -> Cohort:
        """The same subjects with these modalities alone, in this order; errors as `find`."""
        return self._of(self.subjects, modalities, allow_missing)

    @classmethod
    def _of(cls, subjects: Sequence[Subject], modalities: Sequence[str] | None, allow_missing: bool) -> Cohort:
        present = in_canonical_order(modality for subject in subjects for modality in subject.modalities)
        chosen = present if modalities is None else _choose(modalities, present)
        ordered = sorted((_restrict(subject, chosen) for subject in subjects), key=lambda item: item.label.lower())
        _refuse_duplicates(ordered)
        _refuse_missing(ordered, chosen, allow_missing)
        return cls(tuple(ordered), chosen)


def _choose(wanted: Sequence[str], present: Sequence[str]) -> tuple[str, ...]:
    names = tuple(canonical_modality(name) for name in wanted)
    if not names or len(set(names)) < len(names):
        raise UsageError(f"modalities {', '.join(wanted)!r}: give each one once")
    for name in names:
        if name not in present:
            raise BadInputError(f"no subject has modality {name}; found: {', '.join(present)}")
    return names


def _subject(found: Found) -> Subject:
    for path in (*found.files.values(), found.brain_mask):
        if path is not None:
            _check_spelling(path)
    return Subject(subject_label(found.source), found.source, found.files, found.brain_mask)


def _check_spelling(path: Path) -> None:
    """Raise BadInputError for a path that no table and no JSON could name."""
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError:
        raise BadInputError(f"{os.path.abspath(path)!a}: a name that is not UTF-8; rename the file or folder") from None


def _restrict(subject: Subject, modalities: Sequence[str]) -> Subject:
    """The subject with these modalities alone, in their order."""
    files = {modality: subject.files[modality] for modality in modalities if modality in subject.files}
    return dataclasses.replace(subject, files=files)


def _case_fingerprint(case: Case) -> str:
    digest = hashlib.sha256(json.dumps([case.modalities, case.grid.shape, case.native.shape]).encode())
    for values in (case.image.cpu().numpy(), case.brain.cpu().numpy(), case.grid.affine, case.native.affine):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _refuse_duplicates(subjects: Sequence[Subject]) -> None:
    for first, second in pairwise(subjects):
        if first.label.lower() != second.label.lower():
            continue
        places = ", ".join(str(path) for subject in (first, second) for path in list(subject.files.values())[:1])
        where = f" ({places})" if places else ""
        raise BadInputError(
            f"duplicate subject: {first.source!r} and {second.source!r} are both called "
            f"sub-{second.label}{where}; give one of them another name"
        )


def _refuse_missing(subjects: Sequence[Subject], modalities: Sequence[str], allow_missing: bool) -> None:
    for subject in subjects:
        missing = [modality for modality in modalities if modality not in subject.modalities]
        if missing and (not allow_missing or not subject.modalities):
            raise BadInputError(
                f"subject {subject.source} has no {', '.join(missing)}; "
                "add the file, leave the modality out with --modalities, or pass --allow-missing"
            )
