"""`import_dicom`: a tree of DICOM files in, a cohort of NIfTI files and a table of what was taken and why out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cgckit.atomic import atomic_write
from cgckit.derivatives import Derivatives, sidecar, write_volume
from cgckit.dicom.choice import Candidate, candidates_of, choose
from cgckit.dicom.conversion import ConversionError, convert
from cgckit.dicom.people import People
from cgckit.dicom.told import Told
from cgckit.dicom.tree import Tree, list_files, read_tree
from cgckit.dicom.weighting import WEIGHTINGS
from cgckit.errors import BadInputError, UsageError
from cgckit.ledger import LEDGER, Ledger
from cgckit.lock import locked
from cgckit.sealed import DamagedError, read_json, write_json
from cgckit.version import __version__

logger = logging.getLogger(__name__)

TABLE = "series.tsv"
"""What was found, what of it was taken, and why."""
# So many damaged files are named one by one.
_MOST_NAMED = 20
# Raised by a change of what is made of the same files.
_VERSION = 1


class Progress(Protocol):
    """What is told how far the import is."""

    def __call__(self, what: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Begin something of `total` steps; gives what is called after each."""


@dataclass(frozen=True)
class Imported:
    """What became of a tree of DICOM files.

    Attributes:
        out: the folder of the cohort.
        candidates: every volume that was found, taken or not.
        tree: the files.
        files: path of each taken one, relative to `out`.
        lost: by person, study and weighting, what could not be made though it was there.
    """

    out: Path
    candidates: tuple[Candidate, ...]
    tree: Tree
    files: dict[str, Candidate]
    lost: tuple[str, ...]


def plan_of(
    folder: Path, mapping: Path | None = None, series: Path | None = None, step: Callable[[], None] = lambda: None
) -> Plan:
    """Read the headers of a tree and say who and what is in it; no pixel is read.

    Raises:
        BadInputError: none of its files is a DICOM image; the mapping or the table of series cannot be read.
    """
    told = None if series is None else Told.read(series)
    tree = read_tree(folder, step)
    people = People.of(tree.slices, mapping)
    candidates = candidates_of(tree.slices, people)
    if told is not None:
        told.apply(candidates)
    return Plan(tree, people, candidates)


@dataclass(frozen=True)
class Plan:
    """Who and what is in a tree of DICOM files."""

    tree: Tree
    people: People
    candidates: list[Candidate]

    def file_of(self, candidate: Candidate) -> str:
        """Path of a candidate's image in the cohort."""
        names = [f"sub-{candidate.subject}"]
        if self.people.has_sessions:
            names.append(f"ses-{candidate.session}")
        return "/".join([*names, "anat", "_".join([*names, f"{candidate.suffix}.nii.gz"])])

    @property
    def key(self) -> str:
        """Digest of the files, and of what is made of them."""
        lines = sorted(f"{self.file_of(item)} {item.stack.digest}" for item in self.candidates)
        return hashlib.sha256("\n".join([f"{__version__} {_VERSION}", *lines]).encode()).hexdigest()[:20]


def import_dicom(
    folder: str | Path,
    out: str | Path,
    *,
    mapping: str | Path | None = None,
    series: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Turn a tree of DICOM files, of whatever series and patients, into a cohort of NIfTI files.

    ::

        out/sub-001/anat/sub-001_FLAIR.nii.gz, sub-001_ce-gadolinium_T1w.nii.gz, ...; each with a sidecar
        out/sub-002/ses-1/anat/...: sessions, where somebody was examined more than once
        out/series.tsv: every series, what it shows, whether it was taken and why

    An import that was interrupted goes on when it is called again. Nothing of a header's text, identifiers and dates
    is written.

    Args:
        folder: the tree; its files may have any names.
        out: folder of the cohort.
        mapping: file to write who is who to, outside of `out`; if it is there, its labels stay, and patients may have
            come since.
        series: a corrected `series.tsv` of this import, whose `shows` and `taken` decide instead of the rules.
        overwrite: remove what an import of other files left in `out`.
        progress: told how far it is.

    Raises:
        BadInputError: no DICOM image; a file that cannot be read or written; nothing that could be taken.
        UsageError: `out` holds an import of other files, or somebody else's, or is where the input is.
    """
    folder, out = Path(folder), Path(out)
    mapping = None if mapping is None else Path(mapping)
    _check_places(folder, out, mapping)
    show = progress or (lambda what, total: nullcontext(lambda: None))
    count = len(list_files(folder))
    if count == 0:
        raise BadInputError(f"{folder}: there is no file in it")
    with show("Reading headers", count) as step:
        plan = plan_of(folder, mapping, None if series is None else Path(series), step)
    damaged = {item.path: item.damage for item in plan.tree.slices if item.damage and item.kind != "other"}
    _tell_files({**plan.tree.unreadable, **damaged})
    for doubt in plan.people.doubts:
        logger.warning("%s", doubt)
    derivatives = Derivatives.create(out)
    with locked(out):
        work = _Work(derivatives, plan, overwrite, keep=mapping is not None or series is not None)
        if mapping is not None:
            plan.people.write_mapping(mapping)
        wanted = [item for item in plan.candidates if item.finding.name in WEIGHTINGS]
        with show("Converting", len(wanted)) as step:
            choose(plan.candidates, lambda candidate: work.convert(candidate, step))
        return work.finish()


class _Work:
    """The folder of a cohort, and what of it is made already."""

    def __init__(self, out: Derivatives, plan: Plan, overwrite: bool, keep: bool) -> None:
        self.out, self.plan, self.ledger = out, plan, Ledger(out.root)
        self.record = out.root / "work" / "import.json"
        self.files: dict[str, Candidate] = {}
        targets = [out.root / name for name in ("dataset_description.json", "participants.tsv", TABLE, ".bidsignore")]
        targets += [out.root / plan.file_of(item) for item in plan.candidates if item.finding.name in WEIGHTINGS]
        self.ledger.refuse_others(targets)
        if self.ledger.exists and self.ledger.run != plan.key and not (overwrite or keep):
            raise UsageError(
                f"{out.root}: holds an import of other files, or by another version; choose another --out, pass "
                "--overwrite, or keep a --mapping so that patients can be added"
            )
        if not self.ledger.exists:
            self.ledger.start(plan.key)
        elif self.ledger.run != plan.key:
            digests = {item.stack.digest for item in plan.candidates}
            wanted = {plan.file_of(item) for item in plan.candidates}
            self._keep(name for name, entry in self._done().items() if name in wanted and entry.get("of") in digests)
            self.ledger.adopt(plan.key)
        self.ledger.sweep()

    def convert(self, candidate: Candidate, step: Callable[[], None]) -> str:
        """Make the file of a candidate, unless it is there; gives why it cannot be made."""
        name = self.plan.file_of(candidate)
        path = self.out.root / name
        both = [path, sidecar(path)]
        done = self._done().get(name, {})
        try:
            if done.get("of") == candidate.stack.digest and all(map(self.ledger.is_whole, both)):
                candidate.notes = tuple(done["notes"])
            else:
                converted = convert(candidate.stack)
                self.ledger.intend(both)
                write_volume(path, converted.array, converted.grid)
                self.out.write_json(str(sidecar(path).relative_to(self.out.root)), _about(candidate))
                self.ledger.record(both)
                candidate.notes = converted.notes
                entry = {"of": candidate.stack.digest, "notes": list(converted.notes)}
                write_json(self.record, {"files": {**self._done(), name: entry}})
        except ConversionError as error:
            logger.warning("%s: %s", candidate.name, error)
            return str(error)
        finally:
            step()
        self.files[name] = candidate
        return ""

    def finish(self) -> Imported:
        """Write the tables; BadInputError if nothing was taken."""
        plan, out = self.plan, self.out
        self._keep(self.files)
        files = {id(candidate): name for name, candidate in self.files.items()}
        rows = [item.row(files.get(id(item), "")) for item in plan.candidates]
        subjects = sorted({candidate.subject for candidate in self.files.values()})
        self.ledger.intend([out.root / TABLE])
        written = [out.write_table(TABLE, rows)]
        lost = tuple(_lost(plan.candidates))
        for what in lost:
            logger.warning("%s", what)
        if not self.files:
            self.ledger.record(written)
            raise BadInputError(f"none of {len(rows)} series could be taken; {out.root / TABLE} says why of each")
        description = {
            "Name": "Scans converted from DICOM by cgckit",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "GeneratedBy": [{"Name": "cgckit", "Version": __version__}],
        }
        ignored = [LEDGER, TABLE, "work", *(f"**/*_{word}.*" for word in ("swi", "dwi", "adc", "ct"))]
        self.ledger.intend(
            [out.root / name for name in ("dataset_description.json", "participants.tsv", ".bidsignore")]
        )
        written.append(out.write_json("dataset_description.json", description))
        written.append(out.write_table("participants.tsv", [{"participant_id": f"sub-{label}"} for label in subjects]))
        with atomic_write(out.root / ".bidsignore") as temporary:
            temporary.write_text("\n".join(ignored) + "\n", encoding="utf-8")
        self.ledger.record([*written, out.root / ".bidsignore"])
        return Imported(out.root, tuple(plan.candidates), plan.tree, self.files, lost)

    def _done(self) -> dict[str, dict[str, Any]]:
        try:
            files: dict[str, dict[str, Any]] = read_json(self.record)["files"]
            return files
        except (FileNotFoundError, DamagedError, KeyError):
            return {}

    def _keep(self, names: Iterable[str]) -> None:
        """Remove what earlier imports made but for some files."""
        done = self._done()
        kept = {name: done[name] for name in names if name in done}
        for name in done.keys() - kept.keys():
            for path in (self.out.root / name, sidecar(self.out.root / name)):
                self.ledger.remove(path)
        if kept.keys() != done.keys():
            write_json(self.record, {"files": kept})


def _tell_files(damaged: Mapping[Path, str]) -> None:
    """Name the files that cannot be used, on the screen alone: a path may have the patient's name."""
    for path, why in list(damaged.items())[:_MOST_NAMED]:
        logger.warning("%s: %s", path, why)
    if len(damaged) > _MOST_NAMED:
        logger.warning("and %d files more that are damaged", len(damaged) - _MOST_NAMED)


def _about(candidate: Candidate) -> dict[str, object]:
    """The sidecar: numbers and words of ours, in BIDS' names and units."""
    item = candidate.stack.first
    times = {"RepetitionTime": item.repetition_time, "EchoTime": item.echo_time, "InversionTime": item.inversion_time}
    about: dict[str, object] = {"Modality": "CT" if item.kind == "ct" else "MR"}
    about |= {name: round(value / 1000, 6) for name, value in times.items() if value}  # s
    about |= {"FlipAngle": item.flip_angle} if item.flip_angle else {}
    about |= {"SliceThickness": item.thickness} if item.thickness else {}
    about["ConversionSoftware"] = f"cgckit {__version__}, dcm2niix"
    return about


def _lost(candidates: Sequence[Candidate]) -> Iterable[str]:
    """What is there of a person, and is damaged or could not be converted: said with the reason."""
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for item in candidates:
        if item.finding.name in WEIGHTINGS and not item.told:
            groups.setdefault((item.subject, item.session, item.finding.name), []).append(item)
    for (_, _, name), group in groups.items():
        broken = [item for item in group if item.failed]
        if broken and not any(item.taken for item in group):
            yield f"{broken[0].name}: no {name} could be taken: {broken[0].why}"


def _check_places(folder: Path, out: Path, mapping: Path | None) -> None:
    """Raise UsageError where output and input, or what is secret and what is not, would lie together."""
    inside, outside = folder.resolve(), out.resolve()
    if outside == inside or outside in inside.parents or inside in outside.parents:
        raise UsageError(f"{out}: lies with the DICOM files in {folder}; choose an --out apart from them")
    if mapping is not None and (outside == mapping.resolve() or outside in mapping.resolve().parents):
        raise UsageError(f"{mapping}: who is who must not lie with the scans; choose a --mapping outside of {out}")
