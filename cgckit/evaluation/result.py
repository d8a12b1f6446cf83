"""`EvaluationResult`: scores of every subject and their means, as tables and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cgckit.derivatives import Derivatives
from cgckit.evaluation.metric import METRICS, Metric
from cgckit.evaluation.scoring import Metrics, Scores
from cgckit.options import to_json


@dataclass(frozen=True)
class Row:
    """The scores of one map of one subject.

    Attributes:
        subject: its name in the input.
        label: its label in a folder of results; None for masks from elsewhere.
        map: `prior`, `refined` or `mask`; with several priors, `prior NAME`.
        scores: the value of each metric, by its name: `row.scores["dice"]`.
        prediction: the file that was scored.
        reference: the file that it was scored against.
    """

    subject: str
    label: str | None
    map: str
    scores: Scores
    prediction: Path
    reference: Path


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (of a sample: n - 1) over subjects, for each metric that any of them has.

    Both are over the finite values; `infinite` counts the infinite ones. They are NaN where no value is left, and
    the deviation also where only one is.
    """

    map: str
    subjects: int
    mean: Mapping[str, float]
    sd: Mapping[str, float]
    infinite: Mapping[str, int]


@dataclass(frozen=True)
class EvaluationResult:
    """What `evaluate` found: a row for each subject and map, by which metrics, and the subjects without reference."""

    rows: tuple[Row, ...]
    metrics: Metrics
    missing: tuple[str, ...] = ()

    @property
    def maps(self) -> tuple[str, ...]:
        """The maps that were scored, in order of appearance."""
        return tuple(dict.fromkeys(row.map for row in self.rows))

    def title(self, metric: str) -> str:
        """The head of a metric's column in tables to read."""
        return self.metrics[metric].title or metric

    def summary(self, map_: str) -> Summary:
        """Mean and spread of one map over its subjects; KeyError if there is no such map."""
        scores = [row.scores for row in self.rows if row.map == map_]
        if not scores:
            raise KeyError(f"no map {map_!r}; there are: {', '.join(self.maps)}")
        return summarise(map_, scores)

    def to_json(self) -> dict[str, object]:
        """All of it as JSON; what is not finite is null, beside the number of infinite values."""
        return {
            "rows": [
                {
                    "subject": row.subject,
                    "map": row.map,
                    **_finite(row.scores),
                    "prediction": str(row.prediction),
                    "reference": str(row.reference),
                }
                for row in self.rows
            ],
            "summary": [
                {
                    "map": summary.map,
                    "subjects": summary.subjects,
                    "mean": _finite(summary.mean),
                    "sd": _finite(summary.sd),
                    "infinite": dict(summary.infinite),
                }
                for summary in map(self.summary, self.maps)
            ],
            "metrics": {name: _describe(metric) for name, metric in self.metrics.items()},
            "missing": list(self.missing),
        }

    def write(self, folder: str | Path) -> None:
        """Write `evaluation.tsv`, a row for each subject and map, and `evaluation.json`, with the means.

        Raises:
            BadInputError: if the folder cannot be written.
        """
        files = Derivatives.create(folder)
        rows = [{"subject": row.subject, "map": row.map, **_finite(row.scores)} for row in self.rows]
        files.write_table("evaluation.tsv", rows)
        files.write_json("evaluation.json", self.to_json())


def scored_metrics(scores: Iterable[Scores]) -> list[str]:
    """The metrics that at least one of the scores has, in order of appearance."""
    return list(dict.fromkeys(metric for score in scores for metric in score))


def summarise(map_: str, scores: Sequence[Scores]) -> Summary:
    """Mean and spread of the scores of one map, one for each subject."""
    values = {
        metric: np.array([score[metric] for score in scores if metric in score]) for metric in scored_metrics(scores)
    }
    finite = {metric: column[np.isfinite(column)] for metric, column in values.items()}
    return Summary(
        map=map_,
        subjects=len(scores),
        mean={metric: float(column.mean()) if column.size else np.nan for metric, column in finite.items()},
        sd={metric: float(column.std(ddof=1)) if column.size > 1 else np.nan for metric, column in finite.items()},
        infinite={metric: int(np.isinf(column).sum()) for metric, column in values.items()},
    )


def _describe(metric: Metric) -> dict[str, object]:
    entry = METRICS.registration(type(metric))
    return {
        "unit": metric.unit,
        "direction": metric.direction,
        "options": to_json(metric),
        "package": entry.package if entry else None,
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}
