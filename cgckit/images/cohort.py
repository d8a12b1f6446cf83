"""`Subject` and `Cohort`: which files belong to whom."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast, overload

import numpy as np

from cgckit.errors import BadInputError, UsageError
from cgckit.images.case import Case, require_case
from cgckit.images.files import check_file
from cgckit.images.formats import voxels_beside
from cgckit.images.grid import Grid
from cgckit.images.layouts import Filters, Input, find_subjects
from cgckit.images.layouts.found import Found
from cgckit.images.layouts.labels import split_label, split_session, unique_labels
from cgckit.images.modalities import canonical_modality, in_canonical_order
from cgckit.images.nifti import note_header
from cgckit.images.volume import Volume, grid_of, header_of


@dataclass(frozen=True)
class _Content:
    """SHA-256 of a file, and what tells cheaply whether it may be another by now; its header is read along with it."""

    digest: str
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> _Content:
        check_file(path)
        try:
            with path.open("rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))  # before the bytes: a change in between shows later
                digest = hashlib.sha256()
                while block := file.read(1 << 20):
                    digest.update(block)
                note_header(path, file)
        except OSError as error:
            raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error
        return cls(digest.hexdigest(), stamp)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


@dataclass(frozen=True, eq=False)
class Subject:
    """The files of one subject: a person, or one session of a person.

    Attributes:
        label: what outputs are called: `01`, or `01_ses-a`, in letters and digits as BIDS wants them.
        source: the name in the input: a folder, a file's stem or a table's cell.
        files: image file of each modality, in the cohort's order; none for a subject that was made in memory.
        brain_mask: the given brain mask, or None.
        case: the subject itself, if it was made in memory.
        volumes: which volume of its file a modality is, for those whose files hold several.
        remarks: what was chosen among several images of one modality, worth a look.
        person_source: the person's name in the input, which all sessions have; by default `source`.
    """

    label: str
    source: str
    files: Mapping[str, Path]
    brain_mask: Path | None = None
    case: Case | None = None
    volumes: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    person_source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "person_source", self.person_source or self.source)

    @property
    def person(self) -> str:
        """Label of the person, which all sessions have."""
        return split_label(self.label)[0]

    @property
    def session(self) -> str | None:
        """Label of the session; None if there is none."""
        return split_label(self.label)[1]

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it has images of."""
        return tuple(self.files) if self.case is None else self.case.modalities

    @property
    def frame(self) -> Path | Grid:
        """What its outputs are written on: the grid and header of its first file, or a grid alone."""
        return next(iter(self.files.values())) if self.case is None else self.case.native

    @property
    def grid(self) -> Grid:
        """The grid of its first file, which its outputs are on; BadInputError if the header cannot be read."""
        if self.case is not None:
            return self.case.native
        name, path = next(iter(self.files.items()))
        return grid_of(header_of(path), path, self.volumes.get(name))

    def load(self, modality: str) -> Volume:
        """Read an image; KeyError if the subject has no such file, BadInputError as `Volume.load`."""
        return Volume.load(self.files[modality], volume=self.volumes.get(modality))

    @property
    def all_files(self) -> dict[str, Path]:
        """Every file that is read, the brain mask as "brain_mask" included; none for a subject in memory.

        The file of the voxels, where it is another than that of the header, has a role of its own.
        """
        roles = {**self.files, **({"brain_mask": self.brain_mask} if self.brain_mask else {})}
        beside = {role: voxels_beside(path) for role, path in roles.items()}
        return roles | {f"{role} voxels": path for role, path in beside.items() if path is not None}

    def fingerprint(self) -> str:
        """Return a SHA-256 of the bytes of all images and of their roles; read once, then remembered."""
        if self.case is not None:
            return self._case_fingerprint
        lines = [f"{role}:{content.digest}\n" for role, content in sorted(self._contents.items())]
        lines += [f"{role}:volume {number}\n" for role, number in sorted(self.volumes.items()) if role in self.files]
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
        inputs: Input | Sequence[Input],
        modalities: Sequence[str] | None = None,
        allow_missing: bool = False,
        *,
        filters: Filters | Mapping[str, Mapping[str, object]] | None = None,
        participants: Sequence[str] = (),
        sessions: Sequence[str] = (),
        name_channels: bool = True,
    ) -> Cohort:
        """Find subjects and modalities; of images, at most headers are read. What was chosen is said in the log.

        Args:
            inputs: one or more of
                - image files: which image it is, is read from the name.
                - a folder: of BIDS, of nnU-Net or the Decathlon, with a folder for each subject, or of one subject.
                  Segmentations are left aside; a brain mask is used.
                - a table `*.tsv` with a column `subject`, a column for each modality and, optionally, `session` and
                  `brain_mask`; paths are relative to the table, empty cells and `n/a` are missing files. Or the
                  `participants.tsv` of a BIDS data set: whom it names.
                - mappings with the keys of such a table: `{"subject": "anna", "flair": "a.nii.gz"}`.
            modalities: use only these, in this order; by default all: flair, t1, t1ce, t2, then others.
            allow_missing: accept subjects that lack some modalities.
            filters: wanted entities of BIDS images, by modality: `{"flair": {"acquisition": "3d"}}`.
            participants: use only these, by label or name, with or without `sub-`.
            sessions: use only these sessions, with or without `ses-`.
            name_channels: call the channels of nnU-Net images that have no names by `modalities`, in that order.

        Raises:
            BadInputError: nothing found, what cannot be told for sure, a missing file, two files for one modality, a
                subject that lacks a modality (unless `allow_missing`), a subject that is there twice.
            UsageError: a modality asked for twice; nobody is called as one of `participants` or `sessions`.
        """
        given = [inputs] if isinstance(inputs, str | Path | Mapping) else list(inputs)
        wanted = filters if isinstance(filters, Filters) else Filters.of(filters or {})
        found = find_subjects(given, modalities if name_channels else None, wanted)
        found = [item for item in found if _is_among(item.person, "sub-", participants)]
        found = [item for item in found if not sessions or _is_among(item.session or "", "ses-", sessions)]
        if not found:
            asked = ", ".join([*participants, *(f"session {name}" for name in sessions)])
            raise UsageError(f"no image of {asked} was found; check --participant-label and --session-label")
        return cls._of(_subjects(found), modalities, allow_missing)

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
        given = list(cases) if isinstance(cases, Iterable) else [cases]
        for case in given:
            require_case(case)
        if not given:
            raise BadInputError("no input: give one case or more")
        sources = [case.source or f"sub-{case.subject}" for case in given]
        parts = [split_session(name) if name.startswith("sub-") else (name, None) for name in sources]
        names = unique_labels([Found(person, session) for person, session in parts])
        subjects = [
            Subject(
                name.label,
                case.source or case.subject,
                {},
                case=dataclasses.replace(case, subject=name.label),
                person_source=name.person,
            )
            for name, case in zip(names, given, strict=True)
        ]
        return cls._of(subjects, modalities, allow_missing)

    def select(self, modalities: Sequence[str], allow_missing: bool = False) -> Cohort:
        """The same subjects with these modalities alone, in this order; errors as `find`."""
        return self._of(self.subjects, modalities, allow_missing)

    @classmethod
    def _of(cls, subjects: Sequence[Subject], modalities: Sequence[str] | None, allow_missing: bool) -> Cohort:
        present = in_canonical_order(modality for subject in subjects for modality in subject.modalities)
        chosen = present if modalities is None else _choose(modalities, present)
        ordered = sorted((_restrict(subject, chosen) for subject in subjects), key=lambda item: item.label.lower())
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


def _is_among(name: str, prefix: str, wanted: Sequence[str]) -> bool:
    plain = name.removeprefix(prefix)
    return not wanted or plain in [one.removeprefix(prefix) for one in wanted]


def _subjects(found: Sequence[Found]) -> list[Subject]:
    owners: dict[str, Found] = {}
    for item in found:
        for path in (*item.files.values(), item.brain_mask):
            if path is not None:
                _check_spelling(path)
        for path in item.files.values():
            other = owners.setdefault(os.path.realpath(path), item)
            if other is not item:
                raise BadInputError(
                    f"{path}: given twice, so that there would be a duplicate subject, {item.source!r} and "
                    f"{other.source!r}; give it once"
                )
    return [
        Subject(
            name.label,
            name.source,
            item.files,
            item.brain_mask,
            volumes=item.volumes,
            remarks=tuple(item.remarks),
            person_source=name.person,
        )
        for name, item in zip(unique_labels(found), found, strict=True)
    ]


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


def _refuse_missing(subjects: Sequence[Subject], modalities: Sequence[str], allow_missing: bool) -> None:
    for subject in subjects:
        missing = [modality for modality in modalities if modality not in subject.modalities]
        if missing and (not allow_missing or not subject.modalities):
            raise BadInputError(
                f"subject {subject.source} has no {', '.join(missing)}; "
                "add the file, leave the modality out with --modalities, or pass --allow-missing"
            )
