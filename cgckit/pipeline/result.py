"""`Run`: what `refine`, `predict` and `compute_priors` return."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from cgckit.arrays import BoolArray, FloatArray
from cgckit.derivatives import Derivatives, participant, participant_tables
from cgckit.images.cohort import Subject
from cgckit.images.layouts.labels import split_label
from cgckit.images.volume import Volume
from cgckit.jobs import LeftOut, usable
from cgckit.pipeline.health import Health


@dataclass(frozen=True)
class SubjectResult:
    """What became of one subject. Arrays are on the grid of its own images, volumes in ml.

    Attributes:
        label: what its outputs are called.
        source: its name in the input.
        probability_path: the file with the run's probability of lesion: refined, or the prior's of `compute_priors`.
        mask_path: the file with the refined mask; None for `compute_priors`.
        prior_ml: volume of the prior's mask; None where there is no prior, as in `predict`.
        refined_ml: volume of the refined mask; None for `compute_priors`.
        changed_ml: volume in which they differ.
        dice_prior_refined: their overlap.
        dropped_parts: parts of the prior's mask, from 0.1 ml on, of which nothing is left.
        dropped_ml: their volume.
        learnt: share of the voxels of the prior that the network was taught to call lesion, and does.
        health: label-free figures about the prior.
        note: what the prior decided, in its own words.
        remarks: what is worth a look.
    """

    label: str
    source: str
    probability_path: Path
    mask_path: Path | None = None
    prior_ml: float | None = None
    refined_ml: float | None = None
    changed_ml: float | None = None
    dice_prior_refined: float | None = None
    dropped_parts: int | None = None
    dropped_ml: float | None = None
    learnt: float | None = None
    health: Health | None = None
    note: str = ""
    remarks: tuple[str, ...] = ()

    def probability(self) -> FloatArray:
        """The probability of lesion, [H, W, L] float32."""
        return Volume.load(self.probability_path, allow_constant=True).array

    def mask(self) -> BoolArray:
        """Where it is 0.5 or more, [H, W, L] bool."""
        return self.probability() >= 0.5

    @property
    def degenerate(self) -> str:
        """Why the subject's prior was left out of training; empty if it was not."""
        return (self.health.degenerate or "") if self.health else ""

    def row(self) -> dict[str, Any]:
        """The subject's row of `summary.tsv`."""
        volumes = (
            "prior_ml",
            "refined_ml",
            "changed_ml",
            "dice_prior_refined",
            "dropped_parts",
            "dropped_ml",
            "learnt",
        )
        row = participant(self.label, self.source)
        row |= {name: value for name in volumes if (value := getattr(self, name)) is not None}
        if self.health is not None:
            shown = ("fraction", "contrast", "modality", "components", "largest_ml", "edge_share")
            row["degenerate"] = self.degenerate
        row["remarks"] = "; ".join(self.remarks)
        if self.health is not None:
            row |= {name: getattr(self.health, name) for name in shown}
            row["choice"] = self.note
        return row


def prior_results(
    out: Derivatives, prior: str, subjects: Sequence[Subject], reports: Mapping[str, Mapping[str, Any]]
) -> tuple[SubjectResult, ...]:
    """What became of the subjects that there is a report of, by label, where nothing was refined yet."""
    results = []
    for subject in usable(subjects, reports):
        report = reports[subject.label]
        health = Health.from_json(report["health"])
        results.append(
            SubjectResult(
                subject.label,
                subject.source,
                out.prior_probability(subject.label, prior),
                prior_ml=report["prior_ml"],
                health=health,
                note=report["note"],
                remarks=(*subject.remarks, *report["notes"], *health.remarks),
            )
        )
    return tuple(results)


def tables_of(
    cohort: Sequence[Subject], subjects: Sequence[SubjectResult], left_out: LeftOut
) -> dict[str, list[dict[str, Any]]]:
    """The tables of a run: `summary.tsv` names those too that were left out, of whom none is a participant."""
    tables = {"summary.tsv": [*(subject.row() for subject in subjects), *left_out.rows()]}
    if left_out.errors:
        labels = {subject.label for subject in subjects}
        tables |= participant_tables(subject for subject in cohort if subject.label in labels)
    if rows := _longitudinal(subjects):
        tables["longitudinal.tsv"] = rows
    return tables


def _longitudinal(subjects: Sequence[SubjectResult]) -> list[dict[str, Any]]:
    """A row for each session of a person who has several, in the order of their labels: volume and its change in ml."""
    sessions: dict[str, list[SubjectResult]] = {}
    for subject in subjects:
        person, session = split_label(subject.label)
        if session:
            sessions.setdefault(person, []).append(subject)
    rows = []
    for results in [results for results in sessions.values() if len(results) > 1]:
        before: float | None = None
        for result in results:
            volume = result.prior_ml if result.refined_ml is None else result.refined_ml
            change = None if before is None or volume is None else round(volume - before, 3)
            rows.append({**participant(result.label, result.source), "lesion_ml": volume, "change_ml": change})
            before = volume
    return rows


@dataclass(frozen=True)
class Run(Sequence[SubjectResult]):
    """A finished run: its subjects, in the order of their labels.

    Attributes:
        out: the folder of the outputs, named as BIDS derivatives.
        subjects: what became of each; `run["label"]` or `run["name in the input"]` gives one.
        training: number of steps and how training ended; empty where nothing was trained.
        left_out: who could not be used, by the name in the input, and why; none of them is among the subjects.
    """

    out: Path
    subjects: tuple[SubjectResult, ...]
    training: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    @overload
    def __getitem__(self, key: int | str) -> SubjectResult: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[SubjectResult]: ...
    def __getitem__(self, key: int | str | slice) -> SubjectResult | Sequence[SubjectResult]:
        """A subject by its label or its name in the input, or by its position."""
        if not isinstance(key, str):
            return self.subjects[key]
        for subject in self.subjects:
            if key in (subject.label, subject.source):
                return subject
        raise KeyError(f"no subject {key}; there are {', '.join(subject.label for subject in self.subjects)}")

    def __len__(self) -> int:
        return len(self.subjects)

    def __iter__(self) -> Iterator[SubjectResult]:
        return iter(self.subjects)
