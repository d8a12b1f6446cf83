"""What the README and the documentation show works as it stands there."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

import cgckit
from cgckit.cgc.settings import PRESETS
from cgckit.cli.main import app
from cgckit.evaluation import METRICS
from cgckit.evaluation.result import Summary
from cgckit.experiments.results import read_results
from cgckit.experiments.table import tabulate
from cgckit.images.brain import resolve_brain
from cgckit.priors.resolve import resolve_prior
from cgckit.testing import check_brain, check_metric, check_prior

MEASURED = sorted((Path(__file__).parents[1] / "benchmarks" / "results").glob("pipeline-*.jsonl"))
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = "\n".join([README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))])
BLOCKS = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
LINES = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
INLINE = re.findall(r"`(cgckit [a-z][^`]*)`", TEXT)
COMMANDS = [line for line in [*LINES, *INLINE] if line.startswith("cgckit ")]

QUICK = {"spacing": 4.0, "crop": (16, 16, 16), "widths": (4, 4, 4, 4), "projection": 4, "batch": 1, "steps": 1}


RESULTS = [
    "brats2021",
    "brats2021-mumford-shah",
    "brats2021-aucseg",
    "brats2013",
    "open-ms",
    "open-ms-mumford-shah",
    "ct",
    "phantom",
]
"""What the rows of the README's table were measured as, `benchmarks/results/pipeline-NAME.jsonl`."""


@pytest.mark.parametrize("page", ["README.md", "docs/measured.md"])
def test_the_table_of_results_says_what_was_measured(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8").partition("<!-- results -->")[2].partition("<!-- /results -->")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ") and "±" in line]
    assert len(rows) == len(RESULTS)
    for row, name in zip(rows, RESULTS, strict=True):
        _, outcomes = read_results(ROOT / "benchmarks" / "results" / f"pipeline-{name}.jsonl")
        prior, refined = (arm.output for arm in tabulate(outcomes, {}))
        expected = [_mean_and_deviation(prior), f"**{_mean_and_deviation(refined)}**"]
        expected += [f"{prior.mean['assd']:.2f} / {refined.mean['assd']:.2f}"]
        assert [cell.strip() for cell in row.split("|")[3:6]] == expected, name


def _mean_and_deviation(arm: Summary) -> str:
    return f"{arm.mean['dice']:.3f} ± {arm.sd['dice']:.3f}".replace("0.", ".")


def test_the_plugin_keeps_the_contract(tmp_path: Path) -> None:
    programs = [text for text in PROGRAMS if "LeftRight(Prior)" in text]
    assert len(programs[0].strip().splitlines()) <= 25
    assert len(programs) == 2, "the README's, and that of the documentation, which has a range"
    for number, program in enumerate(programs):
        path = tmp_path / f"left_right_{number}.py"
        path.write_text(program, encoding="utf-8")
        check_prior(lambda path=path: resolve_prior(f"{path}:LeftRight", ["threshold=2"]))  # type: ignore[misc]


def test_the_prior_that_learns_keeps_the_contract_and_is_fitted(
    write_cohort: Callable[..., Path], tmp_path: Path
) -> None:
    (program,) = (text for text in PROGRAMS if "CohortLevel(Prior)" in text)
    path = tmp_path / "cohort_level.py"
    path.write_text(program, encoding="utf-8")
    check_prior(lambda: resolve_prior(f"{path}:CohortLevel", ["quantile=0.9"]))
    run = cgckit.compute_priors(write_cohort(2), f"{path}:CohortLevel", tmp_path / "out")
    assert all(subject.mask().any() for subject in run.subjects)


def test_the_brain_extractor_keeps_the_contract(tmp_path: Path) -> None:
    (program,) = (text for text in PROGRAMS if "(BrainExtractor)" in text)
    path = tmp_path / "bright.py"
    path.write_text(program, encoding="utf-8")
    check_brain(lambda: resolve_brain(f"{path}:Bright", ["share=0.4"]))


def test_the_metric_keeps_the_contract(tmp_path: Path) -> None:
    (program,) = (text for text in PROGRAMS if "(Metric)" in text)
    path = tmp_path / "similarity.py"
    path.write_text(program, encoding="utf-8")
    check_metric(lambda: METRICS.resolve(f"{path}:VolumeSimilarity"))


def test_the_python_example_runs(
    write_cohort: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program, *same = (text for text in PROGRAMS if "cgckit.refine(" in text and "dask_jobqueue" not in text)
    assert [text.split("#")[0] for text in same] == [program.split("#")[0]], "the documentation has the README's"
    scans = write_cohort(2)
    for name, folder in {"images": scans, "references": tmp_path / "scans-references"}.items():
        given = f'"demo/phantom/{name}"'
        assert given in program
        program = program.replace(given, repr(str(folder)))
    monkeypatch.setattr(cgckit, "refine", functools.partial(cgckit.refine, settings=QUICK, device="cpu"))
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})
    *subjects, means = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in subjects] == ["case1", "case2"]
    assert all(0 < float(mean) <= 1 for mean in means.split())


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_have_the_options_that_are_shown(line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)[1:]
    group = typer.main.get_command(app)
    # Raises for a command or option that does not exist, and asks nothing of the files.
    group.get_command(None, name).make_context(name, arguments, resilient_parsing=True)  # type: ignore[attr-defined]


def test_files_and_targets_that_are_named_exist() -> None:
    root = Path(__file__).parents[1]
    for name in re.findall(r"`((?:[a-z]+/)*[A-Z]{4,}\.[a-z]+|CITATION\.cff|plugins/[a-z-]*)`", TEXT):
        assert (root / name).exists(), name
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z]+)\b", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_what_is_called_light_was_measured_with_the_settings_of_light() -> None:
    refined = [path for path in MEASURED if not path.stem.endswith("-bounds")]
    assert refined
    for path in refined:
        with path.open(encoding="utf-8") as lines:
            assert json.loads(lines.readline())["settings"] == PRESETS["light"].to_json(), path.stem
