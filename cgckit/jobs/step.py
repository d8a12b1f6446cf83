"""`Step`: what is done for each subject of a run, in this process or in another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from cgckit.images.cohort import Subject

T = TypeVar("T")
Item = TypeVar("Item", contravariant=True)


class Doer(Protocol[Item]):
    """What other processes can be given to do: a `Step` for subjects, or the like for something else."""

    def do(self, item: Item, /) -> dict[str, Any]:
        """Do it for one item; gives what came of it."""
        ...


def _nothing() -> None:
    """What there is to do between reading and writing where it was done before."""


class Step(ABC, Generic[T]):
    """What is done for a subject, whatever is done for the others; it can be pickled, to be done elsewhere.

    Attributes:
        stage: what the step is called in the record, on the bars and in the folder.
    """

    stage: ClassVar[str]

    @abstractmethod
    def files(self, subject: Subject) -> list[Path]:
        """The images that `write` writes."""

    @abstractmethod
    def read(self, subject: Subject) -> T:
        """All that can show that the subject cannot be used; writes nothing that is a result.

        Raises:
            UnusableSubjectError: it cannot be used.
        """

    @abstractmethod
    def write(self, subject: Subject, given: T) -> dict[str, Any]:
        """Write the subject's images, given what `read` gave; gives what came of it, as plain JSON values."""

    def do(self, subject: Subject, begin: Callable[[], None] = _nothing) -> dict[str, Any]:
        """Read, then write; `begin` is called in between, when it is known that there is something to write.

        Raises:
            BadInputError: a file of the subject was replaced in the meantime.
        """
        with subject.unchanged():
            given = self.read(subject)
            begin()
            return self.write(subject, given)

    def prepare(self, subjects: Sequence[Subject]) -> None:
        """What all subjects have in common; called once before the step is done in other processes."""
