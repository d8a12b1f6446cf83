"""How much each constant and default matters: Dice when it is halved and when it is doubled.

The constants are found in the modules (`inspection.py`): numbers that are assigned to names in capitals, the options
of the prior, and the settings; a tuple is halved as a whole. Those of a prior are measured on its map and on refinement
without network, those of the refinement with one network that is trained once. `--train` varies the settings of
training too, each with two trainings.

`constants-NAME.jsonl` holds what was measured, a line a constant: Dice of every subject. `constants-NAME.md` is the
table of it, what matters most first. What has a line is not measured again, unless the constant has another value now.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time

from benchmarks.constants.inspection import Constant, find_constants
from benchmarks.constants.measuring import Measuring
from benchmarks.constants.report import BASELINE, write
from benchmarks.given import Given
from benchmarks.lines import Line, Lines, commit
from cgckit.errors import CgckitError, UsageError
from cgckit.priors.fusion import FusionPrior


def add_arguments(parser: argparse.ArgumentParser) -> None:
    Given.add_arguments(parser)
    parser.add_argument("--only", help="only constants with one of these in their names, A,B,...")
    parser.add_argument("--train", action="store_true", help="settings of training too, each with two trainings")


def run(arguments: argparse.Namespace) -> None:
    """Measure what has no line yet, and write the tables."""
    try:
        if not arguments.show:
            measure(arguments)
        write(arguments.results)
    except CgckitError as error:
        sys.exit(f"constants: {error}")


def measure(arguments: argparse.Namespace) -> None:
    """Measure the constants that are missing, each kept as soon as it is known.

    Raises:
        UsageError: no cohort, no such constant, an unknown prior, option or setting, or a name that belongs to another
            measurement, that with older code included.
        BadInputError: a file that cannot be used, or a subject without reference.
        DegeneratePriorError: no subject has a usable prior.
    """
    given = Given.of(arguments, "constants")
    lines = Lines(arguments.results / f"constants-{arguments.name}.jsonl", given.description(), arguments.overwrite)
    if arguments.overwrite:
        lines.found.clear()
        shutil.rmtree(given.work, ignore_errors=True)  # network and priors may be of older code
    wanted = choose(given, arguments.only, training=arguments.train)
    missing = [constant for constant in wanted if not _is_known(lines.found.get(constant.title), constant)]
    if not missing:
        return
    _say(f"{len(wanted)} constants, {len(wanted) - len(missing)} of them measured; all as they are first")
    measuring = Measuring(given)
    if any(constant.kind != "prior" for constant in missing):
        measuring.train()
    _keep_baseline(lines, measuring)
    for index, constant in enumerate(missing):
        _say(f"{constant.title} = {constant.value} ({index + 1} of {len(missing)})")
        lines.add(_measure(measuring, constant))
        write(arguments.results)


def choose(given: Given, only: str | None, *, training: bool) -> list[Constant]:
    """The constants of a prior and settings, or those that `--only` names.

    Raises:
        UsageError: none has such a name, or the prior is of several.
    """
    if isinstance(given.prior, FusionPrior):
        raise UsageError("constants are measured with one prior at a time")
    found = find_constants(given.prior, given.settings, training=training)
    chosen = [each for each in found if only is None or any(part in each.title for part in only.split(","))]
    if not chosen:
        names = ", ".join(each.title for each in found)
        raise UsageError(f"--only {only}: no constant has that in its name; they are {names}")
    return chosen


def _is_known(line: Line | None, constant: Constant) -> bool:
    return line is not None and line["value"] == _plain(constant.value)


def _keep_baseline(lines: Lines, measuring: Measuring) -> None:
    """Write what is reached with all constants as they are; UsageError if that was another thing before."""
    known = lines.found.get(BASELINE, {})
    if any(known.get(map_, dice) != dice for map_, dice in measuring.baseline.items()):
        raise UsageError(f"{lines.path}: measured with other code or threads; give another --name, or --overwrite")
    lines.add({**known, "name": BASELINE, "commit": commit(), **measuring.baseline})


def _measure(measuring: Measuring, constant: Constant) -> Line:
    started = time.monotonic()
    line: Line = {"name": constant.title, "kind": constant.kind, "value": _plain(constant.value), "commit": commit()}
    if not measuring.matters(constant):
        return {**line, "nothing": "not reached"}
    for way, value in {"half": constant.half(), "double": constant.double()}.items():
        if value is None:
            continue
        try:
            line[way] = {"value": _plain(value), **measuring.vary(constant, value)}
        except UsageError as error:
            line[way] = {"value": _plain(value), "refused": str(error)}
        except Exception as error:  # nobody has promised that any value works: that it does not is what is found
            line[way] = {"value": _plain(value), "failed": f"{type(error).__name__}: {error}"}
    return {**line, "seconds": round(time.monotonic() - started, 1)}


def _plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, int | float) else value.item()  # type: ignore[attr-defined] # of numpy


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
