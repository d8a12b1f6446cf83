"""`Given`: the cohort, prior and settings that a benchmark of the pipeline is given on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Self

from cgckit.cgc.settings import Settings, choose_settings
from cgckit.errors import UsageError
from cgckit.experiments.references import References
from cgckit.images.brain import BrainExtractor, resolve_brain
from cgckit.images.cohort import Cohort
from cgckit.images.preparation import Preparation
from cgckit.nets.loop import check_seeds
from cgckit.options import read_words
from cgckit.pipeline.provenance import dependencies, run_key
from cgckit.priors.base import Prior
from cgckit.priors.resolve import resolve_prior

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Given:
    """What is measured on and with.

    Attributes:
        cohort: the subjects.
        references: of each of them.
        prior: the source of pseudo-labels.
        changes: settings that replace the preset's.
        brain: finds brains where no mask is given.
        seed: of the training.
        work: folder for what is not kept.
    """

    cohort: Cohort
    references: References
    prior: Prior
    changes: Mapping[str, object]
    brain: BrainExtractor
    seed: int
    work: Path

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The options that `of` reads, and those that say where results go."""
        parser.add_argument("--name", default="phantom", help="of the files of results (default phantom)")
        parser.add_argument("--cohort", type=Path, help="scans; not needed with --show")
        parser.add_argument("--references", type=Path, help="reference masks; by default beside the scans")
        parser.add_argument("--prior", default="gmm")
        parser.add_argument("--prior-option", action="append", default=[], metavar="KEY=VALUE", help="of the prior")
        parser.add_argument("--modalities", help="use only these, A,B,...")
        parser.add_argument("--subjects", type=int, help="use only the first so many, by name")
        parser.add_argument("--steps", type=int, help="of each training, in place of the preset's")
        parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a setting")
        parser.add_argument("--seed", type=int, default=0, help="of the training and of all that is drawn")
        parser.add_argument("--overwrite", action="store_true", help="measure again what has a line")
        parser.add_argument(
            "--results", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)"
        )
        parser.add_argument("--show", action="store_true", help="measure nothing, write the tables again")
        parser.add_argument("--work", type=Path, default=Path("benchmarks-work"), help="folder for what is not kept")

    @classmethod
    def of(cls, arguments: argparse.Namespace, benchmark: str) -> Self:
        """Read the options.

        Raises:
            UsageError: no cohort, or an unknown prior, option or setting, a number that is too small.
            BadInputError: a file that cannot be used, or a subject without reference.
        """
        if arguments.cohort is None:
            raise UsageError("--cohort SCANS is needed")
        if arguments.subjects is not None and arguments.subjects < 1:
            raise UsageError(f"--subjects {arguments.subjects}: at least one is needed")
        check_seeds([arguments.seed])
        cohort = Cohort.find(arguments.cohort, arguments.modalities and arguments.modalities.split(","))
        cohort = Cohort(cohort.subjects[: arguments.subjects], cohort.modalities)
        changes = dict(read_words(arguments.set, "--set"))
        if arguments.steps is not None:
            changes["steps"] = arguments.steps
        return cls(
            cohort,
            References.find(cohort, arguments.references or arguments.cohort),
            resolve_prior(arguments.prior, arguments.prior_option),
            changes,
            resolve_brain("coarse"),
            arguments.seed,
            arguments.work / f"{benchmark}-{arguments.name}",
        )

    @property
    def settings(self) -> Settings:
        """The preset's settings with the changes; UsageError for one that there is not."""
        return choose_settings("auto", self.changes, cohort_size=len(self.cohort))[1]

    def description(self, **more: object) -> dict[str, Any]:
        """What all lines of a measurement share, with the key that says whether two measurements are the same."""
        facts = {
            **dependencies(
                self.cohort,
                Preparation(self.brain),
                self.prior,
                settings=self.settings.to_json(),
                seed=self.seed,
                **more,
            ),
            "references": self.references.fingerprint(),
        }
        return {"key": run_key(facts), **facts}


def describe(description: Mapping[str, Any]) -> str:
    """The subjects, modalities, prior and training of a description, in words."""
    options = description["options"]
    return (
        f"{len(description['inputs'])} subjects, {', '.join(options['modalities'])}; prior {options['prior']['name']}, "
        f"{options['settings']['steps']} steps, seed {options['seed']}"
    )
