"""An experiment's table, from its outcomes alone: means, spreads, paired tests and the paper's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from cgckit.evaluation.result import Summary, scored_metrics, summarise
from cgckit.evaluation.scoring import BUILT_IN, Scores
from cgckit.experiments.arms import GROUPS, NETWORK, PRIOR
from cgckit.experiments.published import Published
from cgckit.experiments.results import NETWORK_ALONE, OUTPUT, Outcome


@dataclass(frozen=True)
class Comparison:
    """Mean gain in Dice over another arm on the same subjects, and the p of a two-sided Wilcoxon signed-rank test.

    `p` is NaN where the test cannot be made: fewer than two subjects, or no difference in any.
    """

    gain: float
    p: float


@dataclass(frozen=True)
class ArmRow:
    """One row: an arm's scores over subjects, each subject's being its mean over the seeds.

    Attributes:
        arm: its name.
        uses_labels: whether labels reached its masks.
        seeds: how many.
        subjects: the scores by subject.
        output: mean and deviation over the subjects of the arm's result.
        network_alone: the same for the network's own map, where the result is mixed with other evidence.
        seed_sd: deviation, over the seeds, of the mean Dice; NaN for one seed.
        fine_share: share of the training crops in which the fine-grained path had a pair to contrast; NaN without it.
        versus: comparison with other arms (`prior`, `network`), by name.
        published: the paper's figures, if it has them.
    """

    arm: str
    uses_labels: bool
    seeds: int
    subjects: Mapping[str, Scores]
    output: Summary
    network_alone: Summary | None
    seed_sd: float
    fine_share: float
    versus: Mapping[str, Comparison]
    published: Published | None

    @property
    def added(self) -> list[str]:
        """Names of the metrics that are not built in."""
        return [name for name in self.output.mean if name not in BUILT_IN]

    def cells(self) -> dict[str, Any]:
        """The row as a line of a table; what does not exist is None. Metrics that are not built in come last."""
        mean, sd = self.output.mean, self.output.sd
        comparisons = {
            f"{what}_{name}": getattr(self.versus[name], what) if name in self.versus else None
            for name in (PRIOR, NETWORK)
            for what in ("gain", "p")
        }
        cells = {
            "arm": self.arm,
            "labels": "yes" if self.uses_labels else "no",
            "subjects": self.output.subjects,
            "seeds": self.seeds,
            "dice": mean.get("dice"),
            "dice_sd": sd.get("dice"),
            "dice_seed_sd": self.seed_sd,
            **comparisons,
            "dice_network_alone": self.network_alone.mean.get("dice") if self.network_alone else None,
            "sensitivity": mean.get("sensitivity"),
            "sensitivity_sd": sd.get("sensitivity"),
            "assd_mm": mean.get("assd"),
            "assd_sd_mm": sd.get("assd"),
            "assd_infinite": self.output.infinite.get("assd"),
            "fine_share": self.fine_share,
            "paper_dice": self.published.dice if self.published else None,
            "paper_assd_mm": self.published.assd if self.published else None,
        }
        for name in self.added:
            cells |= {f"mean_{name}": mean[name], f"sd_{name}": sd[name]}
            cells |= {f"infinite_{name}": self.output.infinite[name]}
        return {name: plain(value) for name, value in cells.items()}

    def text(self) -> dict[str, str]:
        """The row as cells to read, by the heads of their columns; empty where it has nothing."""
        cells = self.cells()
        added = {name: [cells[f"{what}_{name}"] for what in ("mean", "sd", "infinite")] for name in self.added}
        return {
            "arm": self.arm,
            "seeds": str(self.seeds),
            "Dice": spread(cells["dice"], cells["dice_sd"]),
            "SD of seeds": decimal(cells["dice_seed_sd"]),
            "over prior (p)": gain_with_p(cells["gain_prior"], cells["p_prior"]),
            "over network (p)": gain_with_p(cells["gain_network"], cells["p_network"]),
            "network alone": decimal(cells["dice_network_alone"]),
            "sens.": decimal(cells["sensitivity"]),
            "ASSD [mm]": spread(cells["assd_mm"], cells["assd_sd_mm"], cells["assd_infinite"], digits=2),
            "fine share": decimal(cells["fine_share"], 2),
            "paper: Dice": decimal(cells["paper_dice"], 4),
            "ASSD": decimal(cells["paper_assd_mm"]),
            **{f"mean {name}": spread(*values) for name, values in added.items()},
        }


def tabulate(outcomes: Sequence[Outcome], published: Mapping[str, Published]) -> list[ArmRow]:
    """A row for each arm, in the paper's order; others follow in the order in which they were done.

    Only seeds with which all subjects were scored count: a cross-validation that was interrupted has some folds only.

    Args:
        outcomes: of the experiment.
        published: the paper's figures (`cgckit.experiments.arms.published`), by arm.
    """
    outcomes = _complete(outcomes)
    known = [name for group in GROUPS.values() for name in group]
    names = dict.fromkeys(outcome.arm for outcome in outcomes)
    ordered = sorted(names, key=lambda name: known.index(name) if name in known else len(known))
    by_arm = {name: [outcome for outcome in outcomes if outcome.arm == name] for name in ordered}
    scores = {name: subject_scores(found, OUTPUT) for name, found in by_arm.items()}
    rows = []
    for name, found in by_arm.items():
        alone = subject_scores(found, NETWORK_ALONE)
        free = not found[0].uses_labels and name != PRIOR
        others = [other for other in (PRIOR, NETWORK) if free and other in by_arm and other != name]
        rows.append(
            ArmRow(
                arm=name,
                uses_labels=found[0].uses_labels,
                seeds=len({outcome.seed for outcome in found}),
                subjects=scores[name],
                output=summarise(OUTPUT, list(scores[name].values())),
                network_alone=summarise(NETWORK_ALONE, list(alone.values())) if alone else None,
                seed_sd=_seed_sd(found),
                fine_share=fmean(outcome.training.get("fine_share", math.nan) for outcome in found),
                versus={other: compare(scores[name], scores[other]) for other in others},
                published=published.get(name),
            )
        )
    return rows


def subject_scores(outcomes: Sequence[Outcome], map_: str) -> dict[str, Scores]:
    """One arm's scores of a map by subject, averaged over seeds; infinite if infinite with any seed."""
    found: dict[str, list[Scores]] = {}
    for outcome in outcomes:
        for item in outcome.scores:
            if item.map == map_:
                found.setdefault(item.subject, []).append(item.scores)
    return {
        subject: {
            metric: fmean(score[metric] for score in scores if metric in score) for metric in scored_metrics(scores)
        }
        for subject, scores in sorted(found.items())
    }


def by_subject(rows: Sequence[ArmRow]) -> list[dict[str, str]]:
    """Dice and ASSD of every arm, a row a subject."""
    return [
        {"subject": subject}
        | {f"{row.arm} Dice": decimal(row.subjects[subject].get("dice")) for row in rows}
        | {f"{row.arm} ASSD": decimal(row.subjects[subject].get("assd"), 2) for row in rows}
        for subject in rows[0].subjects
    ]


def compare(one: Mapping[str, Scores], other: Mapping[str, Scores]) -> Comparison:
    """Compare Dice on the subjects of which both have one."""
    both = [(one[subject], other[subject]) for subject in one if subject in other]
    gains = np.array([mine["dice"] - its["dice"] for mine, its in both if "dice" in mine and "dice" in its])
    testable = gains.size > 1 and bool(gains.any())
    p = float(wilcoxon(gains).pvalue) if testable else math.nan
    return Comparison(float(gains.mean()) if gains.size else math.nan, p)


def _complete(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes of those arms and seeds with which every subject of the experiment was scored."""
    scored: dict[tuple[str, int], set[str]] = {}
    for outcome in outcomes:
        scored.setdefault((outcome.arm, outcome.seed), set()).update(item.subject for item in outcome.scores)
    everybody: set[str] = set().union(*scored.values())
    return [outcome for outcome in outcomes if scored[outcome.arm, outcome.seed] == everybody]


def _seed_sd(outcomes: Sequence[Outcome]) -> float:
    seeds: dict[int, list[float]] = {}
    for outcome in outcomes:
        dice = [item.scores["dice"] for item in outcome.scores if item.map == OUTPUT and "dice" in item.scores]
        seeds.setdefault(outcome.seed, []).extend(dice)
    means = [fmean(values) for values in seeds.values() if values]
    return stdev(means) if len(means) > 1 else math.nan


def plain(value: Any) -> Any:
    """A cell of a table: None for what is not finite."""
    if not isinstance(value, float):
        return value
    return round(value, 6) if np.isfinite(value) else None


def decimal(value: float | None, digits: int = 3) -> str:
    """A cell to read; empty for None."""
    return "" if value is None else f"{value:.{digits}f}"


def spread(mean: float | None, sd: float | None, infinite: int | None = 0, digits: int = 3) -> str:
    """Mean, deviation and the number of infinite values, as a cell to read."""
    text = decimal(mean, digits) + ("" if sd is None else f" ± {sd:.{digits}f}")
    return f"{text} ({infinite}∞)".strip() if infinite else text


def gain_with_p(gain: float | None, p: float | None) -> str:
    """A gain and its p, as a cell to read."""
    return "" if gain is None else f"{gain:+.3f}" + ("" if p is None else f" ({p:.2g})")
