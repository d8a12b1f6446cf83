"""`Work`: the rows of one prior, and what of them is left to be measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.progress import Progress

from cgckit.errors import CgckitError
from cgckit.experiments.experiment import Experiment
from cgckit.experiments.folds import Unit
from cgckit.experiments.results import Outcome
from cgckit.experiments.table_one import nnunet
from cgckit.jobs.console import progress_bars
from cgckit.priors.resolve import prior_identity


@dataclass(frozen=True)
class Work:
    """The rows of one prior: no two processes work on them, as a map of the cache has one writer.

    Attributes:
        experiment: with that prior.
        units: what each row is made of, by its name.
    """

    experiment: Experiment
    units: Mapping[str, list[Unit]]

    def known(self, row: str) -> list[Outcome] | None:
        """The outcomes of a row, if it is complete."""
        found = [outcome for unit in self.units[row] if (outcome := self.experiment.known(unit)) is not None]
        return found if len(found) == len(self.units[row]) else None

    def left(self) -> Work:
        """What is not in the results yet."""
        known = self.experiment.known
        units = {row: [unit for unit in units if known(unit) is None] for row, units in self.units.items()}
        return replace(self, units={row: left for row, left in units.items() if left})

    def outcomes(self, failed: dict[str, str], bars: Progress, tell: Callable[[Unit], None]) -> Iterator[Outcome]:
        """Do it all. A row that fails is noted in `failed`, and the others go on."""
        prior = self.experiment.prior
        identity = {} if prior is None else prior_identity(prior)
        for row, units in self.units.items():
            try:
                for unit in units:
                    tell(unit)
                    if unit.arm.target == "nnunet":
                        yield nnunet.compute(self.experiment, unit)
                    else:
                        yield replace(self.experiment.compute(unit, bars), prior=identity)
            except CgckitError as error:
                failed[row] = str(error)


@dataclass(frozen=True)
class Works:
    """Several of them, of which other processes do one each (`cgckit.jobs.step.Doer`)."""

    works: tuple[Work, ...]

    def do(self, index: int, /) -> dict[str, Any]:
        """The outcomes of one, as plain values, and which of its rows failed and why."""
        failed: dict[str, str] = {}
        with progress_bars(False) as bars:
            outcomes = [outcome.to_json() for outcome in self.works[index].outcomes(failed, bars, lambda _: None)]
        return {"outcomes": outcomes, "failed": failed}
