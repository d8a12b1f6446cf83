"""Work on subjects by a dask cluster that runs already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from cgckit.errors import CgckitError, UsageError
from cgckit.images.cohort import Subject
from cgckit.jobs.parcel import Outcome, Parcel, work

_ANSWER_WITHIN = "20s"


@contextmanager
def on_cluster(
    address: str, parcel: Parcel, subjects: Sequence[Subject]
) -> Iterator[Iterator[tuple[Subject, Outcome]]]:
    """The outcome of a parcel's step for each subject, whoever is ready first, by the workers of a dask cluster.

    Who is lost with a worker is worked on again by another. Work that is left when the block ends is cancelled.

    Raises:
        UsageError: dask is not installed, or no scheduler answers at the address.
        CgckitError: workers ended, one after the other, while they worked on one subject.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise UsageError("a scheduler needs dask, which is not installed: pip install 'cgckit[dask]'") from error
    try:
        client = Client(address, timeout=_ANSWER_WITHIN, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{address}: no dask scheduler answers there ({type(error).__name__})") from error
    with client:
        left = iter(subjects)
        tasks: dict[Any, Subject] = {}
        running = as_completed(loop=client.loop)

        def send() -> None:
            # Two for each thread. Each task has the parcel with it: what is kept on workers is lost with them.
            for subject in islice(left, max(0, 2 * max(1, sum(client.nthreads().values())) - len(tasks))):
                task = client.submit(work, parcel, subject, pure=False)
                tasks[task] = subject
                running.add(task)

        def outcomes() -> Iterator[tuple[Subject, Outcome]]:
            send()
            for task in running:
                subject = tasks.pop(task)
                send()
                yield subject, _result(task)

        try:
            yield outcomes()
        finally:
            client.cancel(list(tasks))


def _result(task: Any) -> Outcome:
    from distributed import KilledWorker

    try:
        outcome: Outcome = task.result()
    except KilledWorker as error:
        raise CgckitError(
            "workers of the cluster ended by themselves, one after the other, while they worked on one subject: they "
            "may lack memory, or a plug-in ends them; the same command goes on from here"
        ) from error
    return outcome
