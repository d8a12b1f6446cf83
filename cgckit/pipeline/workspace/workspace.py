"""`Workspace`: an output folder in the hands of a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.progress import Progress

from cgckit.atomic import atomic_write
from cgckit.cgc.model import CARD, WEIGHTS
from cgckit.derivatives import REPORT, Derivatives, participant_tables, sidecar
from cgckit.errors import BadInputError, UsageError
from cgckit.images.cohort import Cohort, Subject
from cgckit.jobs import LeftOut, Part, Step, Workers, over_subjects
from cgckit.jobs.console import log_file
from cgckit.jobs.parcel import Outcome
from cgckit.ledger import Ledger
from cgckit.lock import alone, check_unlocked, locked
from cgckit.sealed import DamagedError, read_json, write_json

logger = logging.getLogger(__name__)

T = TypeVar("T")

WHOLE = Part()
LOG, RECORD, RESULTS = "cgckit.log", "run.json", "results.jsonl"
"""The log; what tells the folder of a run, and that of an experiment."""
CONFIG = "config.toml"
"""The options of the command line that the run was asked for with."""


class Workspace:
    """An output folder that belongs to the run with a certain key; nothing is touched before `session`.

    `work/priors` and `work/prepared` cache prior maps, and what preparation found out, across runs; `work/run` holds
    what an interrupted run needs to go on.

    Args:
        out: the folder.
        key: digest of what the run's work depends on: prior maps and training.
        maps_key: digest of what its refined maps depend on besides. A run that is made again with another one keeps its
            work and makes its maps anew.
        config: text of the file `config.toml`; None if the run was not asked for on a command line.

    Attributes:
        ledger: which files in the folder are cgckit's, and whether they are whole.
        worked: the stages in which something was done, rather than found done.
    """

    def __init__(self, out: Path, key: str, maps_key: str = "", config: str | None = None) -> None:
        self.out = Derivatives(Path(out))
        self.ledger = Ledger(self.out.root)
        self.key, self.maps_key, self.config = key, maps_key, config
        self.scratch = self.out.root / "work" / "run"
        self.priors = self.out.root / "work" / "priors"
        self.prepared = self.out.root / "work" / "prepared"
        self.model = self.out.root / "model"
        self.checkpoint = self.scratch / "checkpoint.safetensors"
        self.worked: set[str] = set()
        self._facts: dict[str, Any] = {}
        self._complete = False

    def _claim(self, overwrite: bool, shared: bool) -> None:
        """Make the folder this run's; what others may be writing is not touched where it is `shared`.

        Another run that failed before it had trained anything is replaced, so that a command works once its input is
        mended.
        """
        if overwrite or self._owner() != self.key:
            self._clear(caches=overwrite)
            self.ledger.start(self.key, keep=[self.out.root / LOG])
        elif self.ledger.run != self.key:
            self.ledger.adopt(self.key)
        if not shared:
            self.ledger.sweep()
        self.ledger.intend(self._own())

    def check(self, subjects: Sequence[Subject], *, overwrite: bool = False) -> None:
        """Find out whether the run may have its folder; nothing is written.

        Raises:
            UsageError: as `session`.
        """
        self._refuse(subjects, overwrite)
        check_unlocked(self.out.root)

    def is_done(self, step: Step[Any], subject: Subject, maps_key: str = "") -> bool:
        """Whether an earlier call of the run took a step for a subject, and its images are whole; see `over`."""
        return self._known(step, subject, maps_key) is not None

    def _refuse(self, subjects: Sequence[Subject], overwrite: bool) -> None:
        """Refuse a folder that holds somebody else's files, an experiment, or another run that is to be kept."""
        self.ledger = Ledger(self.out.root)
        if (self.out.root / RESULTS).exists():
            raise UsageError(f"{self.out.root}: holds an experiment, not a run; choose another --out")
        self.ledger.refuse_others(self._own())
        self.ledger.refuse_others(path for subject in subjects for path in self.out.files(subject.label))
        for folder in (self.scratch, self.priors, self.prepared):
            if folder.is_symlink() or folder.parent.is_symlink() or (folder.exists() and not self.ledger.exists):
                self.ledger.refuse_others([folder])
        if self.ledger.exists and self._owner() != self.key and not overwrite and not self._gave_up():
            raise UsageError(
                f"{self.out.root}: holds a run with other inputs, options or versions; "
                "choose another --out, or pass --overwrite"
            )

    def _owner(self) -> str | None:
        """Key of the run that the folder holds."""
        owner: str | None = _read_json(self.out.root / RECORD, quiet=True).get("key", self.ledger.run)
        return owner

    def _own(self) -> list[Path]:
        """What every run writes, besides the files of its subjects."""
        names = ["dataset_description.json", "participants.tsv", "participants.json", ".bidsignore", "summary.tsv"]
        names += ["longitudinal.tsv", "prepared.tsv", RECORD, LOG, CONFIG]
        return [*(self.out.root / name for name in names), self.model / CARD, self.model / WEIGHTS]

    def read(self, path: Path) -> dict[str, Any] | None:
        """The content of a JSON file that this run wrote, or None: not there, damaged, or of another run."""
        content = _read_json(path)
        return content if content.get("key") == self.key else None

    def write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a JSON file that `read` recognises as this run's."""
        write_json(path, {"key": self.key, **content})

    def write_tables(self, tables: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
        """Write tables at the top of the folder, each by its name."""
        self.ledger.record([self.out.write_table(name, rows) for name, rows in tables.items()])

    @contextmanager
    def session(
        self,
        cohort: Cohort,
        facts: dict[str, Any],
        workers: Workers,
        part: Part = WHOLE,
        *,
        overwrite: bool = False,
    ) -> Iterator[None]:
        """Make the folder this run's, log to `cgckit.log` and keep `run.json` up to date while the block runs.

        `run.json` holds `facts`, which the block may add to, and a status: "running", "complete", or "failed" with
        the error; only the whole of a run completes it. That of a complete run stays as it is: doing nothing took no
        time, and the run did. What earlier calls of the run found out ("training", "seconds", "threads", "jobs") is in
        `facts` when the block begins.

        Args:
            cohort: the subjects.
            facts: what the run is made of.
            workers: who works on the subjects; it is recorded, and may be others in the next call.
            part: what is done of the run; several processes may be at work on the shares of a stage.
            overwrite: start over: remove what this run or another left there, cached priors included.

        Raises:
            BadInputError: the folder cannot be written.
            UsageError: another run is at work there, or the folder holds one, and `overwrite` is false; or it holds an
                experiment, or files that cgckit did not write.
        """
        subjects = part.share(cohort)
        try:
            self._refuse(subjects, overwrite)  # before anything is touched
        except UsageError:
            if not (part.is_shared and self._door.exists()):  # where another process may be about to begin the run
                raise
        Derivatives.create(self.out.root)
        with locked(self.out.root, shared=part.is_shared):
            with alone(self._door):
                self._refuse(subjects, overwrite)  # another run may have been here since
                self._claim(overwrite, part.is_shared)
            with log_file(self.out.root / LOG), self._recorded(cohort, facts, workers, part):
                yield

    def alone(self) -> AbstractContextManager[None]:
        """Keep the other processes of this run from changing what they share while a block runs."""
        return alone(self._door)

    @property
    def _door(self) -> Path:
        """What is locked by whoever changes what the processes of one run share."""
        return self.out.root / "work" / "door"

    @contextmanager
    def _recorded(self, cohort: Cohort, facts: dict[str, Any], workers: Workers, part: Part) -> Iterator[None]:
        """The tables that every run has, and `run.json`."""
        record = self.out.root / RECORD
        earlier = self.read(record) or {}
        facts["maps_key"] = self.maps_key
        for name in ("training", "seconds"):
            if name in facts:
                facts[name] = {**earlier.get(name, {}), **facts[name]}
        self._facts = facts
        facts["threads"] = self._threads(earlier, workers)
        facts["jobs"] = _appended(earlier.get("jobs", []), workers.record())
        self._complete = earlier.get("status") == "complete" and earlier.get("maps_key") == self.maps_key
        try:
            if not self._complete:
                self._begin()
            with alone(self._door):
                self.ledger.intend(self.out.root / name for name in participant_tables(cohort))
                self.ledger.record(self.out.write_description(cohort))
            yield
        except Exception as error:
            if part.is_shared:  # and others go on
                raise
            with suppress(BadInputError):  # a disk that is full: the first error is the one to tell
                self.write(record, {"status": "failed", "error": str(error), **facts})
            raise
        if not self._complete and not part.is_shared:
            self.write(record, {"status": "complete" if part.stage is None else "running", **facts})

    def _threads(self, earlier: Mapping[str, Any], workers: Workers) -> list[int]:
        """The numbers of threads that the run was worked on with, in order; another one rounds otherwise."""
        now, before = torch.get_num_threads(), list(earlier.get("threads", []))
        before_each = [entry["threads"] for entry in earlier.get("jobs", [])]
        if earlier.get("status") != "complete":
            for what, begun, goes_on in (("", before, now), (" a subject", before_each, workers.threads)):
                if begun and goes_on != begun[-1]:
                    logger.warning(
                        "the run was begun with %d threads%s and goes on with %d: its masks may differ in the last "
                        "digits from those of a run with one number; OMP_NUM_THREADS=%d%s sets it back",
                        begun[-1],
                        what,
                        goes_on,
                        begun[-1],
                        " with as many jobs" if what else "",
                    )
                    break
        return _appended(before, now)

    def _begin(self) -> None:
        """Say that maps are about to be others, or to be made again."""
        self._complete = False
        pages = self.out.root / REPORT
        with alone(self._door):
            self.write(self.out.root / RECORD, {"status": "running", **self._facts})
            self._write_config()
            removed = self.ledger.remove_below(pages)
        if removed:
            logger.info("%s shows earlier maps and is removed; `cgckit report` writes it anew", pages)

    def _write_config(self) -> None:
        path = self.out.root / CONFIG
        if self.config is None:
            self.ledger.remove(path)
            return
        with atomic_write(path) as temporary:  # names of files may be no UTF-8
            temporary.write_text(self.config, encoding="utf-8", errors="surrogateescape")
        self.ledger.record([path])

    def over(
        self,
        step: Step[Any],
        subjects: Sequence[Subject],
        workers: Workers,
        bars: Progress,
        left_out: LeftOut,
        maps_key: str = "",
    ) -> dict[str, dict[str, Any]]:
        """The outcome of a step for each subject, by label; from an earlier call if that got so far.

        With a `maps_key`, from an earlier call with the same one. The images that the step writes must still be there,
        with their sidecars, as they were written. Where all subjects that are left cannot be used, the run stays as
        it is.

        Raises:
            BadInputError: a file of a subject was replaced while the run was working on it.
            UnusableSubjectError: see `over_subjects`.
        """
        with self._at_work(step, subjects, workers, maps_key) as outcome:
            return over_subjects(subjects, outcome, bars, step.stage, left_out)

    @contextmanager
    def _at_work(
        self, step: Step[Any], subjects: Sequence[Subject], workers: Workers, maps_key: str
    ) -> Iterator[Callable[[Subject], dict[str, Any]]]:
        """Gives what is to be asked for the outcome of each subject, in their order."""
        if not workers.are_others:
            yield lambda subject: self._once(step, subject, maps_key)
            return
        known = {subject.label: self._known(step, subject, maps_key) for subject in subjects}
        left = [subject for subject in subjects if known[subject.label] is None]
        with ExitStack() as processes:
            ready: dict[str, Outcome] = {}
            results: Iterator[tuple[Subject, Outcome]] | None = None

            def outcome(subject: Subject) -> dict[str, Any]:
                nonlocal results
                if (found := known[subject.label]) is not None:
                    return found
                if self._complete:  # and so it stays, if this one cannot be used
                    return self._do(step, subject, maps_key)
                if results is None:
                    waiting = left[left.index(subject) :]
                    step.prepare(waiting)
                    self._begin_step(step, waiting)
                    results = processes.enter_context(workers.at_work(step, waiting, self.scratch / "locks"))
                while subject.label not in ready:
                    done, what = next(results)
                    ready[done.label] = what
                    if what.value is not None:
                        self._end_step(step, done, what.value, maps_key)
                return ready.pop(subject.label).get()

            yield outcome

    def _once(self, step: Step[Any], subject: Subject, maps_key: str) -> dict[str, Any]:
        known = self._known(step, subject, maps_key)
        return self._do(step, subject, maps_key) if known is None else known

    def _known(self, step: Step[Any], subject: Subject, maps_key: str) -> dict[str, Any] | None:
        """The outcome of an earlier call, if there is one and its images are whole."""
        content = self.read(self._marker(step, subject))
        if content is None or content.get("maps_key", "") != maps_key:
            return None
        lost = next((file for file in _images_and_sidecars(step, subject) if not self.ledger.is_whole(file)), None)
        if lost is not None:
            logger.warning("%s is not as it was written; the maps of %s are made again", lost, subject.label)
            return None
        outcome: dict[str, Any] = content["outcome"]
        return outcome

    def _do(self, step: Step[Any], subject: Subject, maps_key: str) -> dict[str, Any]:
        """Do a step in this process; where it finds that the subject cannot be used, the run stays as it is."""

        def begin() -> None:
            if self._complete:
                self._begin()
            self._begin_step(step, [subject])

        outcome = step.do(subject, begin)
        self._end_step(step, subject, outcome, maps_key)
        return outcome

    def _begin_step(self, step: Step[Any], subjects: Sequence[Subject]) -> None:
        for subject in subjects:  # what the markers say is of files that are about to be others
            self._marker(step, subject).unlink(missing_ok=True)
        self.ledger.intend(file for subject in subjects for file in _images_and_sidecars(step, subject))

    def _end_step(self, step: Step[Any], subject: Subject, outcome: dict[str, Any], maps_key: str) -> None:
        self.ledger.record(_images_and_sidecars(step, subject))
        self.write(self._marker(step, subject), {"outcome": outcome, "maps_key": maps_key})
        self.worked.add(step.stage)

    def _marker(self, step: Step[Any], subject: Subject) -> Path:
        return self.scratch / step.stage / f"{subject.label}.json"

    def _gave_up(self) -> bool:
        """Whether the run in the folder ended by an error before there was anything worth keeping."""
        failed = _read_json(self.out.root / RECORD, quiet=True).get("status") == "failed"
        return failed and not self.checkpoint.exists() and not self.model.exists()

    def _clear(self, caches: bool) -> None:
        """Remove what runs left; caches have keys of their own, and stay unless `caches` are to go too."""
        self.ledger.clear(keep=[self.out.root / LOG])
        for folder in (self.scratch, self.priors, self.prepared) if caches else (self.scratch,):
            remove_work(folder)


def _appended(earlier: Sequence[T], now: T) -> list[T]:
    """What was, and what is if it is something else."""
    return [*earlier, *([now] if [now] != list(earlier[-1:]) else [])]


def _images_and_sidecars(step: Step[Any], subject: Subject) -> list[Path]:
    return [file for image in step.files(subject) for file in (image, sidecar(image))]


def remove_work(folder: Path, endings: tuple[str, ...] = (".json", ".safetensors", ".lock")) -> int:
    """Remove what runs wrote below a folder of theirs, and folders that this leaves empty; no link is followed.

    Returns:
        The size of what was removed [bytes].
    """
    removed = 0
    if folder.is_symlink():
        return removed
    for parent, _, names in os.walk(folder, topdown=False):
        for path in [Path(parent, name) for name in names if name.endswith(endings)]:
            with suppress(FileNotFoundError):  # another process of the run was quicker
                removed += path.lstat().st_size
                path.unlink()
        with suppress(OSError):  # somebody else's file is in it
            Path(parent).rmdir()
    return removed


def _read_json(path: Path, quiet: bool = False) -> dict[str, Any]:
    """The object in a JSON file; an empty one if there is none that is whole, which is said unless `quiet`."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return {}
    except DamagedError as error:
        if not quiet:
            logger.warning("%s is damaged (%s) and is written again", path, error)
        return {}
