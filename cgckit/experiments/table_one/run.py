"""`table1`: the paper's Table 1 on a cohort; each row is a `System`, measured by an `Experiment`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from cgckit.atomic import atomic_write
from cgckit.derivatives import Derivatives
from cgckit.errors import CgckitError, UsageError
from cgckit.evaluation.compare import warn_of_absent
from cgckit.experiments.experiment import Experiment
from cgckit.experiments.results import Outcome
from cgckit.experiments.table_one.picture import draw_systems
from cgckit.experiments.table_one.rows import SystemRow, heading, make_rows, to_markdown
from cgckit.experiments.table_one.systems import System, choose_systems, share_options
from cgckit.experiments.table_one.work import Work, Works
from cgckit.images.brain import BrainExtractor
from cgckit.jobs import Workers
from cgckit.jobs.console import log_file, progress_bars
from cgckit.lock import locked
from cgckit.options import read_words
from cgckit.pipeline.inputs import output_folder
from cgckit.priors.base import Prior
from cgckit.priors.resolve import resolve_prior

_FOLDS = 5


@dataclass(frozen=True)
class TableOne:
    """A measured table.

    Attributes:
        rows: in the order in which they were asked for.
        heading: what they were measured on, and how.
        failed: names of the rows that could not be measured; those that are merely not installed only if they were
            asked for by name.
    """

    rows: tuple[SystemRow, ...]
    heading: str
    failed: tuple[str, ...]


def table1(
    inputs: str | Path | Sequence[str | Path],
    references: str | Path,
    out: str | Path,
    *,
    rows: Sequence[str] | None = None,
    labels: Sequence[int] = (),
    prior_options: Sequence[str] | Mapping[str, object] = (),
    preset: str = "auto",
    settings: Mapping[str, object] | None = None,
    brain: str | BrainExtractor = "auto",
    modalities: Sequence[str] | None = None,
    device: str = "auto",
    folds: int | None = None,
    jobs: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> TableOne:
    """Measure the rows of the paper's Table 1 on a cohort: every prior alone, and what the method makes of it.

    Writes `table1.tsv`, `table1.md`, `table1.png` and `results.jsonl`; what is in the latter is not measured again. A
    row that fails says why, and the others go on.

    Args:
        inputs: scans of the cohort.
        references: mask of each subject; they reach the rows `supervised` and `nnunet:EPOCHS` and no other.
        out: folder to write to.
        rows: names of `System`; `paper`: the paper's; `all`, the default: every installed prior alone and refined too.
        labels: values of the references that are lesion; by default all above 0.
        prior_options: `key=value` is for all priors that have it, `NAME.key=value` for one, in its place.
        preset: as in `cgckit.refine`, and so are `settings`, `brain`, `modalities` and `device`.
        settings: as there.
        brain: as there.
        modalities: as there.
        device: as there.
        folds: cross-validate by person; by default what needs no labels is trained on all subjects and scored on the
            same, as by `refine`, and what uses labels is in five folds.
        jobs: how many priors are worked on at once, by a process each.
        overwrite: replace another experiment's results.
        progress: show bars.

    Raises:
        UsageError: as `Experiment.find`, and for a row that there is not.
        BadInputError: as `Experiment.find`, and for a reference on another grid than the images.
    """
    workers, systems, named = Workers.of(jobs), choose_systems(rows), {name.strip() for name in rows or ()}
    given = read_words(prior_options, "prior option")
    failed = {system.name: system.absent for system in systems if system.absent}
    priors = _make_priors(systems, given, named, failed)
    base = Experiment.find(
        inputs,
        references,
        None,
        out,
        labels=labels,
        preset=preset,
        settings=settings,
        brain=brain,
        modalities=modalities,
        device=device,
        folds=folds or _FOLDS,
        hold_out=folds is not None,
        keep_masks=True,
        overwrite=overwrite,
    )
    for prior in priors.values():
        output_folder(out, inputs, base.cohort, prior)
    with locked(base.out), log_file(base.out / "cgckit.log"), progress_bars(progress) as bars:
        base.results.reload()
        works = _plan(base, systems, priors, failed)
        _measure(base, [left for work in works if (left := work.left()).units], workers, failed, bars)
        found = {row: known for work in works for row in work.units if (known := work.known(row)) is not None}
        measured = make_rows(systems, found, failed, base.cohort.modalities)
        wanted = [row for row in measured if not row.system.absent or row.system.name in named]
        missed = tuple(row.system.name for row in wanted if row.remark)
        told = ", ".join(f"{key}={value}" for key, value in given.items())
        table = TableOne(measured, heading(base.description, measured, told), missed)
        Derivatives(base.out).write_table("table1.tsv", [row.cells() for row in table.rows])
        with atomic_write(base.out / "table1.md") as temporary:
            temporary.write_text(to_markdown(table.rows, table.heading), encoding="utf-8")
        draw_systems(base, table.rows, works, base.out / "table1.png")
    return table


def _make_priors(
    systems: Sequence[System], options: Mapping[str, object], named: set[str], failed: dict[str, str]
) -> dict[str, Prior]:
    """The prior of each row, by its words.

    One that cannot be made is noted in `failed`, unless that is the user's mistake: a row that was asked for by name,
    or an option.
    """
    shares = share_options(list(dict.fromkeys(system.prior for system in systems if system.prior)), options)
    priors: dict[str, Prior] = {}
    for system in systems:
        if not system.prior or system.prior in priors or system.name in failed:
            continue
        try:
            priors[system.prior] = resolve_prior(system.prior, shares[system.prior])
        except CgckitError as error:
            if isinstance(error, UsageError) and (system.name in named or shares[system.prior]):
                raise
            failed[system.name] = str(error)
    return priors


def _plan(
    base: Experiment, systems: Sequence[System], priors: Mapping[str, Prior], failed: dict[str, str]
) -> list[Work]:
    """What the rows are made of, prior by prior. Those that cannot be done are noted in `failed`."""
    works = []
    for words in dict.fromkeys(system.prior for system in systems):
        rows = [system for system in systems if system.prior == words and system.name not in failed]
        if not rows:
            continue
        try:
            experiment = base.with_prior(priors[words]) if words else base
            works.append(Work(experiment, {row.name: experiment.units([row.arm_of(base.settings)]) for row in rows}))
        except CgckitError as error:
            if base.hold_out and isinstance(error, UsageError):  # the folds are wrong, for every row
                raise
            failed |= {row.name: str(error) for row in rows}
    return works


def _measure(base: Experiment, works: Sequence[Work], workers: Workers, failed: dict[str, str], bars: Progress) -> None:
    """Measure what is left, and add it to the results; what fails is noted in `failed`."""
    if not works:
        return
    # What is wrong with a subject's files is no row's failure.
    lesions = [base.references.read(base.engine.case(subject))[0].any() for subject in base.cohort]
    warn_of_absent(base.references.labels, any(lesions))
    task = bars.add_task("rows", total=sum(len(units) for work in works for units in work.units.values()), note="")

    def add(outcome: Outcome) -> None:
        base.results.add(outcome)
        bars.advance(task)

    if min(workers.jobs, len(works)) == 1:
        for work in works:
            for outcome in work.outcomes(failed, bars, lambda unit: bars.update(task, note=str(unit))):
                add(outcome)
        return
    several = Workers.of(min(workers.jobs, len(works)))
    with several.processes(Works(tuple(works)), range(len(works))) as done:
        for _, answer in done:
            found = answer.get()
            for plain in found["outcomes"]:
                add(Outcome.from_json(plain))
            failed |= found["failed"]
