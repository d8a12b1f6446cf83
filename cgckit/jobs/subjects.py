"""Going through the subjects of a run: one that cannot be used does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rich.progress import Progress

from cgckit.derivatives import participant
from cgckit.errors import UnusableSubjectError
from cgckit.images.cohort import Subject

logger = logging.getLogger(__name__)

T = TypeVar("T")
LEFT_OUT = "left out: "
"""How the remark on a subject begins that could not be used."""


@dataclass(frozen=True)
class LeftOut:
    """Who could not be used in a run.

    Attributes:
        strict: whether the first such subject ends the run instead.
        errors: what is wrong, by the subject's name in the input.
        subjects: the subjects themselves.
    """

    strict: bool = True
    errors: dict[str, UnusableSubjectError] = field(default_factory=dict)
    subjects: list[Subject] = field(default_factory=list)

    def reasons(self) -> dict[str, str]:
        """What is wrong, as text."""
        return {source: str(error) for source, error in self.errors.items()}

    def rows(self) -> list[dict[str, object]]:
        """Their rows of `summary.tsv`."""
        labels = {subject.source: subject.label for subject in self.subjects}
        return [
            {**participant(labels[source], source), "remarks": f"{LEFT_OUT}{error}"}
            for source, error in self.errors.items()
        ]


def over_subjects(
    subjects: Sequence[Subject],
    do: Callable[[Subject], T],
    bars: Progress | None = None,
    title: str = "",
    left_out: LeftOut | None = None,
) -> dict[str, T]:
    """What `do` gives for each subject, by label, one after the other, with a bar that shows how far it is.

    A subject that cannot be used ends it; with `left_out`, unless that is strict, it is noted there and named in the
    log, and the others go on.

    Raises:
        UnusableSubjectError: `do` did, and none is left out; or nobody is usable: then what is wrong with the first.
    """
    task = None if bars is None else bars.add_task(title, total=len(subjects), note="")
    found: dict[str, T] = {}
    failed: list[UnusableSubjectError] = []
    for subject in subjects:
        if bars is not None and task is not None:
            bars.update(task, note=subject.label)
        try:
            found[subject.label] = do(subject)
        except UnusableSubjectError as error:
            if left_out is None or left_out.strict:
                raise
            failed.append(error)
            left_out.errors[subject.source] = error
            left_out.subjects.append(subject)
            if len(failed) < len(subjects):
                logger.error("%s is left out: %s", subject.source, error)
        if bars is not None and task is not None:
            bars.advance(task)
    if failed and not found:
        raise failed[0]
    return found


def usable(subjects: Sequence[Subject], found: Mapping[str, object]) -> list[Subject]:
    """The subjects that something was found for."""
    return [subject for subject in subjects if subject.label in found]
