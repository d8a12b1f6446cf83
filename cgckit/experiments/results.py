"""`Results`: an experiment on disk, as JSON lines: what it was made of, then a line for each arm, fold and seed."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cgckit.atomic import atomic_write
from cgckit.errors import BadInputError, UsageError
from cgckit.evaluation.scoring import Scores
from cgckit.sealed import is_sealed, read_file, seal, unseal

OUTPUT, NETWORK_ALONE = "output", "network alone"


@dataclass(frozen=True)
class Scored:
    """The scores of one map of one subject: an arm's `output`, or what its `network alone` would give."""

    subject: str
    map: str
    scores: Scores


@dataclass(frozen=True)
class Outcome:
    """One line: what an arm reached in one fold with one seed.

    Attributes:
        arm: its name.
        uses_labels: whether labels reached its masks.
        fold: which fold was held out; None if it was trained on the subjects that it is scored on.
        seed: of initialisation and sampling.
        unit: digest of everything that the outcome depends on.
        settings: those of the network and its training that the arm changes.
        training: number of subjects and steps, and how training ended.
        seconds: of training and of inference with scoring.
        scores: of each subject scored.
        prior: the prior and its options, where the experiment has several.
    """

    arm: str
    uses_labels: bool
    fold: int | None
    seed: int
    unit: str
    settings: Mapping[str, Any]
    training: Mapping[str, Any]
    seconds: Mapping[str, float]
    scores: tuple[Scored, ...]
    prior: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; infinite scores are null, and those that have no value are left out."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        plain["scores"] = [
            {"subject": item.subject, "map": item.map, **_scores_to_json(item.scores)} for item in self.scores
        ]
        return plain if self.prior else {name: value for name, value in plain.items() if name != "prior"}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_json`; each item has the metrics that there were when it was written."""
        scores = []
        for item in map(dict, plain["scores"]):
            subject, map_ = item.pop("subject"), item.pop("map")
            values = {name: math.inf if value is None else float(value) for name, value in item.items()}
            scores.append(Scored(subject, map_, values))
        return cls(**{**plain, "scores": tuple(scores)})


class Results:
    """The file `results.jsonl`: its first line describes the experiment, each other one is an `Outcome`.

    It is written with the first outcome, and replaced as a whole with each other, so that a killed experiment leaves
    whole lines and goes on after them.

    Args:
        path: the file.
        description: what all lines share; "key" is the digest by which an experiment is taken up again.
        overwrite: replace another experiment's file.

    Raises:
        UsageError: the file holds another experiment, and `overwrite` is false.
        BadInputError: it is no file of results, and `overwrite` is false.
    """

    def __init__(self, path: Path, description: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        self.description = dict(description)
        self.outcomes: list[Outcome] = []
        if path.exists():
            try:
                there, outcomes = read_results(path)
            except BadInputError:
                if not overwrite:
                    raise
                return
            if there.get("key") == self.description["key"]:
                self.description, self.outcomes = dict(there), outcomes
            elif not overwrite:
                raise UsageError(
                    f"{path}: holds an experiment with other inputs, options or versions; "
                    "choose another --out, or pass --overwrite"
                )

    def reload(self) -> None:
        """Take up what was added to the file since it was read, if it still is this experiment's."""
        with suppress(BadInputError):  # not there yet, or to be replaced
            there, outcomes = read_results(self.path)
            if there.get("key") == self.description["key"]:
                self.description, self.outcomes = dict(there), outcomes

    def find(self, unit: str, arm: str) -> Outcome | None:
        """The outcome with that digest, this arm's rather than one with equal settings; None if there is none."""
        equal = [outcome for outcome in self.outcomes if outcome.unit == unit]
        return next((outcome for outcome in equal if outcome.arm == arm), next(iter(equal), None))

    def add(self, outcome: Outcome) -> None:
        """Add a line, and the description if it is the first."""
        self.outcomes.append(outcome)
        lines = [self.description, *(outcome.to_json() for outcome in self.outcomes)]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(json.dumps(seal(line)) + "\n" for line in lines), encoding="utf-8")


def read_results(path: Path) -> tuple[dict[str, Any], list[Outcome]]:
    """Read what `Results` wrote: the description and the outcomes.

    Raises:
        BadInputError: no such file, not one of results, or one that was damaged.
    """
    try:
        first, *others = read_file(path).decode().splitlines()
        description = json.loads(first)
        if not isinstance(description, dict):
            raise ValueError("its first line describes no experiment")
        return _whole(description), [Outcome.from_json(_whole(json.loads(line))) for line in others]
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInputError(f"{path}: not a file of results ({error})") from error


def _whole(line: dict[str, Any]) -> dict[str, Any]:
    """A line without its digest, which those of early versions do not have."""
    return unseal(line) if is_sealed(line) else line


def _scores_to_json(scores: Scores) -> dict[str, float | None]:
    return {name: None if math.isinf(value) else value for name, value in scores.items() if not math.isnan(value)}
