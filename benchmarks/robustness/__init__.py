"""What becomes of prior and refinement when the scans are not what they should be.

Every perturbation of `perturbations.py` is written as a cohort of files of its own and goes through `cgckit.refine`
and `cgckit.evaluate` as any cohort does; by default a network is trained on each. With `--retrain no` the network of
the unperturbed cohort is applied to the others instead, by `cgckit.predict`, which has no prior.

`robustness-NAME.jsonl` holds what was measured, a line a perturbation: Dice of prior and refined mask of every subject,
and seconds. `robustness-NAME.md` is the table of it. What has a line is not measured again; `--overwrite` does.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cgckit
from benchmarks.lines import Line, Lines, commit
from benchmarks.robustness.cohorts import write_perturbed
from benchmarks.robustness.perturbations import PERTURBATIONS, UNPERTURBED, victim
from benchmarks.robustness.report import write
from cgckit.cgc.settings import choose_settings
from cgckit.errors import CgckitError, UsageError
from cgckit.experiments.references import References
from cgckit.images.brain import BrainExtractor, resolve_brain
from cgckit.images.cohort import Cohort
from cgckit.options import read_words
from cgckit.pipeline.provenance import dependencies, run_key
from cgckit.priors.base import Prior
from cgckit.priors.resolve import resolve_prior

RESULTS = Path(__file__).parents[1] / "results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="phantom", help="of the files of results (default phantom)")
    parser.add_argument("--cohort", type=Path, help="scans; not needed with --show")
    parser.add_argument("--references", type=Path, help="reference masks; by default beside the scans")
    parser.add_argument("--prior", default="gmm")
    parser.add_argument("--prior-option", action="append", default=[], metavar="KEY=VALUE", help="of the prior")
    parser.add_argument("--modalities", help="use only these, A,B,...")
    parser.add_argument(
        "--perturbations", help=f"only these of {','.join(PERTURBATIONS)}; `gamma` means both; by default all"
    )
    parser.add_argument("--steps", type=int, help="of each training, in place of the preset's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a setting")
    parser.add_argument("--seed", type=int, default=0, help="of the training and of what perturbations draw")
    parser.add_argument("--retrain", choices=("yes", "no"), default="yes", help="train on every perturbed cohort")
    parser.add_argument("--overwrite", action="store_true", help="measure again what has a line")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)")
    parser.add_argument("--show", action="store_true", help="measure nothing, write the tables again")
    parser.add_argument("--work", type=Path, default=Path("benchmarks-work"), help="folder for what is not kept")


def run(arguments: argparse.Namespace) -> None:
    """Measure what has no line yet, and write the tables."""
    try:
        if not arguments.show:
            measure(arguments)
        write(arguments.results)
    except CgckitError as error:
        sys.exit(f"robustness: {error}")


def measure(arguments: argparse.Namespace) -> None:
    """Measure the perturbations that are missing, each kept as soon as it is known.

    Raises:
        UsageError: no cohort, an unknown perturbation, prior, option or setting, or a name that belongs to another
            measurement.
        BadInputError: a file that cannot be used, or a subject without reference.
    """
    chosen = choose(arguments.perturbations)
    bench = Bench.of(arguments)
    lines = Lines(arguments.results / f"robustness-{arguments.name}.jsonl", bench.description(), arguments.overwrite)
    for index, name in enumerate(chosen):
        if name in lines.found and not arguments.overwrite:
            continue
        print(f"{name} ({index + 1} of {len(chosen)}): {PERTURBATIONS[name].what}", file=sys.stderr, flush=True)
        line = bench.measure(name, fresh=arguments.overwrite)
        lines.add(line)
        print(f"{name}: {line.get('nothing') or line['seconds']}", file=sys.stderr, flush=True)
        write(arguments.results)


def choose(names: str | None) -> list[str]:
    """The perturbations that `--perturbations` names, in the order of tables.

    Raises:
        UsageError: an unknown one.
    """
    if names is None:
        return list(PERTURBATIONS)
    wanted = set(names.split(","))
    if "gamma" in wanted:
        wanted = (wanted - {"gamma"}) | {name for name in PERTURBATIONS if name.startswith("gamma-")}
    if unknown := sorted(wanted - PERTURBATIONS.keys()):
        raise UsageError(f"--perturbations: there is no {', '.join(unknown)}; choose from {', '.join(PERTURBATIONS)}")
    return [name for name in PERTURBATIONS if name in wanted]


@dataclass(frozen=True)
class Bench:
    """What all perturbations are measured with; the attributes are the arguments of the command."""

    cohort: Cohort
    references: References
    prior: Prior
    settings: Mapping[str, object]
    brain: BrainExtractor
    seed: int
    retrain: bool
    work: Path

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Bench:
        """Read the arguments; errors as `measure`."""
        if arguments.cohort is None:
            raise UsageError("--cohort SCANS is needed")
        cohort = Cohort.find(arguments.cohort, arguments.modalities and arguments.modalities.split(","))
        settings = dict(read_words(arguments.set, "--set"))
        if arguments.steps is not None:
            settings["steps"] = arguments.steps
        return cls(
            cohort,
            References.find(cohort, arguments.references or arguments.cohort),
            resolve_prior(arguments.prior, arguments.prior_option),
            settings,
            resolve_brain("coarse"),
            arguments.seed,
            arguments.retrain == "yes",
            arguments.work / f"robustness-{arguments.name}",
        )

    def description(self) -> dict[str, Any]:
        """What the lines have in common, with the key that says whether two measurements are the same."""
        _, settings = choose_settings("auto", self.settings, cohort_size=len(self.cohort))
        facts = {
            **dependencies(self.cohort, self.brain, self.prior, settings=settings.to_json(), seed=self.seed),
            "references": self.references.fingerprint(),
            "retrain": self.retrain,
        }
        return {"key": run_key(facts), **facts}

    def measure(self, name: str, *, fresh: bool) -> Line:
        """The line of one perturbation.

        Args:
            name: of the perturbation.
            fresh: write its scans again, and run anew.
        """
        line: Line = {"name": name, "what": PERTURBATIONS[name].what, "commit": commit()}
        if reason := PERTURBATIONS[name].unfit(self.cohort.modalities):
            return {**line, "nothing": f"left out: {reason}"}
        if name in ("corrupt", "absent"):
            line["modality"] = victim(self.cohort.modalities)
        if fresh:
            shutil.rmtree(self.work / name, ignore_errors=True)
        started = time.monotonic()
        try:
            scans, references = self._scans(name)
            written = time.monotonic()
            out = self._refine(name, scans)
            scores = cgckit.evaluate(out, references, metrics="dice")
        except UsageError:
            raise
        except CgckitError as error:  # that nothing can be made of such scans is a finding
            return {**line, "nothing": f"failed: {error}"}
        subjects: dict[str, dict[str, float]] = {}
        for row in scores.rows:
            map_ = "prior" if row.map.endswith("prior") else "refined"
            subjects.setdefault(row.subject, {})[map_] = round(row.scores["dice"], 6)
        seconds = {"writing": written - started, "refining and scoring": time.monotonic() - written}
        return {**line, "subjects": subjects, "seconds": {what: round(took, 1) for what, took in seconds.items()}}

    def _scans(self, name: str) -> tuple[Path, str]:
        """The perturbed cohort, in a folder that is named for what it is made of."""
        files = [self.seed, *(subject.fingerprint() for subject in self.cohort), self.references.fingerprint()]
        folder = self.work / name / f"scans-{run_key({'files': files})[:8]}"
        say = lambda subject: print(f"{name}: {subject} written", file=sys.stderr, flush=True)  # noqa: E731
        return write_perturbed(
            self.cohort, self.references, name, folder, brain=self.brain, seed=self.seed, progress=say
        )

    def _refine(self, name: str, scans: Path) -> list[str]:
        """Do what a user would with the scans; gives what is to be evaluated."""
        out = str(self.work / name / "refined")
        if self.retrain or name == UNPERTURBED:
            cgckit.refine(scans, self.prior, out, settings=self.settings, seed=self.seed, overwrite=True, progress=True)
            return [out]
        (model,) = self._refine(UNPERTURBED, self._scans(UNPERTURBED)[0])  # what is done of it is not done again
        prior = str(self.work / name / "prior")
        cgckit.compute_priors(scans, self.prior, prior, overwrite=True, progress=True)
        cgckit.predict(scans, model, out, allow_missing=True, overwrite=True, progress=True)
        return [prior, out]
