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
from dataclasses import dataclass
from pathlib import Path

import cgckit
from benchmarks.given import Given
from benchmarks.lines import Line, Lines, commit
from benchmarks.robustness.cohorts import write_perturbed
from benchmarks.robustness.perturbations import PERTURBATIONS, UNPERTURBED, victim
from benchmarks.robustness.report import write
from cgckit.errors import CgckitError, UsageError
from cgckit.pipeline.provenance import run_key


def add_arguments(parser: argparse.ArgumentParser) -> None:
    Given.add_arguments(parser)
    parser.add_argument(
        "--perturbations", help=f"only these of {','.join(PERTURBATIONS)}; `gamma` means both; by default all"
    )
    parser.add_argument("--retrain", choices=("yes", "no"), default="yes", help="train on every perturbed cohort")


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
    given, retrain = Given.of(arguments, "robustness"), arguments.retrain == "yes"
    bench = Bench(given, retrain)
    path = arguments.results / f"robustness-{arguments.name}.jsonl"
    lines = Lines(path, given.description(retrain=retrain), arguments.overwrite)
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
    """What all perturbations are measured with.

    Attributes:
        given: cohort, prior and settings.
        retrain: whether a network is trained on every perturbed cohort.
    """

    given: Given
    retrain: bool

    def measure(self, name: str, *, fresh: bool) -> Line:
        """The line of one perturbation.

        Args:
            name: of the perturbation.
            fresh: write its scans again, and run anew.
        """
        line: Line = {"name": name, "what": PERTURBATIONS[name].what, "commit": commit()}
        if reason := PERTURBATIONS[name].unfit(self.given.cohort.modalities):
            return {**line, "nothing": f"left out: {reason}"}
        if name in ("corrupt", "absent"):
            line["modality"] = victim(self.given.cohort.modalities)
        if fresh:
            shutil.rmtree(self.given.work / name, ignore_errors=True)
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
        given = self.given
        files = [given.seed, *(subject.fingerprint() for subject in given.cohort), given.references.fingerprint()]
        return write_perturbed(
            given.cohort,
            given.references,
            name,
            given.work / name / f"scans-{run_key({'files': files})[:8]}",
            brain=given.brain,
            seed=given.seed,
            progress=lambda subject: print(f"{name}: {subject} written", file=sys.stderr, flush=True),
        )

    def _refine(self, name: str, scans: Path) -> list[str]:
        """Do what a user would with the scans; gives what is to be evaluated."""
        given = self.given
        out = str(given.work / name / "refined")
        if self.retrain or name == UNPERTURBED:
            cgckit.refine(
                scans, given.prior, out, settings=given.changes, seed=given.seed, overwrite=True, progress=True
            )
            return [out]
        (model,) = self._refine(UNPERTURBED, self._scans(UNPERTURBED)[0])  # what is done of it is not done again
        prior = str(given.work / name / "prior")
        cgckit.compute_priors(scans, given.prior, prior, overwrite=True, progress=True)
        cgckit.predict(scans, model, out, allow_missing=True, overwrite=True, progress=True)
        return [prior, out]
