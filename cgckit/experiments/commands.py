"""`crossval` and `ablate`: what the two commands do with an experiment, and what they leave beside its results."""

from __future__ import annotations

from collections.abc import Sequence

from cgckit.derivatives import Derivatives
from cgckit.errors import UsageError
from cgckit.evaluation.compare import warn_of_absent
from cgckit.experiments.arms import THE_PRIOR, Arm, ablation, choose_arms
from cgckit.experiments.experiment import Experiment
from cgckit.experiments.plots import draw_ablation
from cgckit.experiments.published import published
from cgckit.experiments.results import Outcome
from cgckit.experiments.table import ArmRow, tabulate
from cgckit.priors.resolve import prior_name

REFINED = "refined"


def crossval(experiment: Experiment, seeds: Sequence[int] = (0,), *, progress: bool = False) -> list[ArmRow]:
    """Train the experiment's settings without labels on each fold's training subjects, and score the held-out ones.

    A held-out subject is refined as `cgckit refine` would with that model, which takes its own prior too. The rows are
    `prior` and `refined`; `table.tsv` is written beside the results.

    Raises:
        UsageError: the experiment does not hold subjects out.
        DegeneratePriorError: no training subject has a usable prior.
    """
    if not experiment.hold_out:
        raise UsageError("cross-validation needs an experiment that holds subjects out")
    return _finish(experiment, experiment.run([THE_PRIOR, Arm(REFINED)], seeds, progress=progress))


def ablate(
    experiment: Experiment, arms: Sequence[str] | None = None, seeds: Sequence[int] = (0,), *, progress: bool = False
) -> list[ArmRow]:
    """Run the arms of the paper's ablations, all of them or those named; see `ablation`.

    The rows are all that the results hold; `table.tsv` and `ablation.png` are written beside them.

    Raises:
        UsageError: an unknown arm.
        DegeneratePriorError: no training subject has a usable prior.
    """
    chosen = choose_arms(ablation(experiment.settings), arms)
    rows = _finish(experiment, experiment.run(chosen, seeds, progress=progress))
    draw_ablation(rows, experiment.out / "ablation.png")
    return rows


def _finish(experiment: Experiment, outcomes: Sequence[Outcome]) -> list[ArmRow]:
    labels = experiment.references.labels
    volumes = (item.scores.get("reference_ml", 0.0) for outcome in outcomes for item in outcome.scores)
    warn_of_absent(labels, any(volume > 0 for volume in volumes))
    name = "" if experiment.prior is None else prior_name(experiment.prior)
    rows = tabulate(outcomes, published(name, experiment.cohort.modalities))
    Derivatives(experiment.out).write_table("table.tsv", [row.cells() for row in rows])
    return rows
