"""`Workers`: the processes that work on the subjects of a run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from joblib.externals.loky import ProcessPoolExecutor, as_completed

from cgckit.errors import CgckitError, UsageError
from cgckit.images.cohort import Subject
from cgckit.jobs.cluster import on_cluster
from cgckit.jobs.memory import jobs_that_fit
from cgckit.jobs.parcel import Outcome, Parcel, work
from cgckit.jobs.step import Doer, Step

T = TypeVar("T")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Workers:
    """How many subjects are worked on at once.

    Attributes:
        jobs: the number of processes; with 1, this process does everything itself.
        threads: that each of them works with.
        scheduler: address of the scheduler of a dask cluster whose workers do it instead.
    """

    jobs: int
    threads: int
    scheduler: str | None = None

    @classmethod
    def of(cls, jobs: int, scheduler: str | None = None) -> Workers:
        """As many processes as `jobs` says, each with the threads of this one unless they would need more cores.

        Raises:
            UsageError: no whole number from 1 on; or several jobs and a scheduler, whose cluster has its own number.
        """
        if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
            raise UsageError(f"jobs: a whole number from 1 on is expected, got {jobs!r}")
        here = torch.get_num_threads()
        if scheduler is not None:
            if jobs != 1:
                raise UsageError("give jobs or a scheduler, not both: the cluster has its own number of workers")
            return cls(1, here, scheduler)
        return cls(jobs, here if jobs == 1 else max(1, min(here, _cores() // jobs)))

    @property
    def are_others(self) -> bool:
        """Whether subjects are worked on in other processes than this one."""
        return self.jobs > 1 or self.scheduler is not None

    def record(self) -> dict[str, Any]:
        """What the record of a run says of them."""
        if self.scheduler is not None:
            return {"scheduler": self.scheduler, "threads": self.threads}
        return {"jobs": self.jobs, "threads": self.threads}

    def for_subjects(self, subjects: Sequence[Subject]) -> Workers:
        """No more processes than subjects, nor than fit the memory; the latter is said in the log."""
        if self.jobs == 1:
            return self
        return Workers.of(jobs_that_fit(max(1, min(self.jobs, len(subjects))), subjects))

    @contextmanager
    def at_work(
        self, step: Step[Any], subjects: Sequence[Subject], locks: Path
    ) -> Iterator[Iterator[tuple[Subject, Outcome]]]:
        """The outcome of a step for each subject, whoever is ready first; when the block ends, so does the work.

        Args:
            step: what to do.
            subjects: for whom.
            locks: a folder for locks, which a cluster needs: whom it holds for lost may be at work still.

        Raises:
            UsageError: the step cannot be sent to other processes, or the scheduler does not answer.
            CgckitError: a process ended before its work was done; in a cluster, several in turn for one subject.
        """
        if self.scheduler is not None:
            with on_cluster(self.scheduler, Parcel.of(step, self.threads, locks=locks), subjects) as outcomes:
                yield outcomes
            return
        with self.processes(step, subjects) as outcomes:
            yield outcomes

    @contextmanager
    def processes(self, doer: Doer[T], items: Sequence[T]) -> Iterator[Iterator[tuple[T, Outcome]]]:
        """`at_work` for items of any kind, in processes of this machine."""
        parcel = Parcel.of(doer, self.threads, parent=os.getpid())
        with _without_interrupts():  # which the processes inherit: the user's Ctrl-C is this one's to answer
            executor = ProcessPoolExecutor(self.jobs, env=dict.fromkeys(_THREADS, str(self.threads)))
            tasks = {executor.submit(work, parcel, item): item for item in items}
        try:
            yield ((tasks[task], _result(task)) for task in as_completed(tasks))
        finally:
            executor.shutdown(kill_workers=True)


def _result(task: Any) -> Outcome:
    try:
        outcome: Outcome = task.result()
    except BrokenProcessPool as error:
        raise CgckitError(
            "a process that worked on the subjects ended by itself: the system may have lacked memory for so many "
            "(fewer --jobs need less), or a plug-in ended it; the same command goes on from here"
        ) from error
    return outcome


@contextmanager
def _without_interrupts() -> Iterator[None]:
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
