"""`cgckit priors list|show|check`."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from cgckit.cli.plugins.command import priors_app as app
from cgckit.errors import PluginError, UsageError
from cgckit.plugins import Registered
from cgckit.priors.base import PRIORS, Prior

GOOD = '''
from dataclasses import dataclass
from cgckit import Prior

@dataclass
class Good(Prior):
    """Bright is [bold]lesion.

    More about it.

    Attributes:
        level: where lesion begins.
    """

    level: float = 2.0

    def predict(self, case):
        return ((case.image[0] > self.level) & case.brain).float()

@dataclass
class Bad(Good):
    def predict(self, case):
        return 2 * super().predict(case) - 1
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_list_shows_every_prior_with_its_summary(run):
    result = run("list")
    assert result.exit_code == 0
    for name in ("gmm", "mask", "mumford-shah"):
        assert name in result.stdout
    assert "mask:PATTERN" in result.stdout


def test_list_shows_a_broken_prior_and_goes_on(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")

    def load():
        raise ImportError("no module named [nothing]")

    broken = Registered("prior", "broken", "nowhere:Prior", "stranger 1.0", load, PRIORS.require)
    monkeypatch.setattr(PRIORS, "at_run_time", {"broken": broken})
    result = run("list")
    assert result.exit_code == 0
    (row,) = [line for line in result.stdout.splitlines() if "stranger 1.0" in line]
    assert "broken: ImportError: no module named [nothing]" in row
    assert "gmm" in result.stdout


def _cells(result, name):
    head, *rows = ([cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in result.stdout.splitlines())
    (row,) = [row for row in [head, *rows] if row and row[0] == name]
    return row


def test_list_says_kind_needs_and_cost_of_built_in_priors_and_others(run, monkeypatch):
    @PRIORS.register("learner")
    @dataclass
    class Learner(Prior):
        needs = ("t2", "pd")
        cost = "an hour a cohort"

        def fit(self, cases):
            return self

        def predict(self, case):
            return case.brain.float()

    monkeypatch.setenv("COLUMNS", "300")
    try:
        result = run("list")
    finally:
        del PRIORS.at_run_time["learner"]
    assert _cells(result, "prior")[2:5] == ["kind", "needs one of", "cost on a CPU"]
    assert _cells(result, "learner")[2:5] == ["learns from the cohort", "t2, pd", "an hour a cohort"]
    assert _cells(result, "mask")[2:5] == ["for one subject", "any", "files are read"]
    assert _cells(result, "mumford-shah-net")[2] == "learns from the cohort"
    for entry in PRIORS.installed().values():
        if entry.package.startswith("cgckit "):
            assert entry.load().cost, entry.name


def test_list_goes_on_where_a_prior_says_nonsense_of_itself(run, monkeypatch):
    @PRIORS.register("nonsense")
    @dataclass
    class Nonsense(Prior):
        needs = 3

        def predict(self, case):
            return case.brain.float()

    monkeypatch.setenv("COLUMNS", "300")
    try:
        result = run("list")
    finally:
        del PRIORS.at_run_time["nonsense"]
    assert result.exit_code == 0
    assert "needs is 3, not names of modalities" in _cells(result, "nonsense")[3]


def test_show_prints_description_and_options(run, file):
    result = run("show", f"{file}:Good")
    assert result.exit_code == 0
    assert "Bright is [bold]lesion." in result.stdout
    assert "More about it." in result.stdout
    assert "Attributes" not in result.stdout
    (row,) = [line for line in result.stdout.splitlines() if "level" in line]
    assert all(text in row for text in ("number", "2.0", "where lesion begins."))


def test_show_refuses_an_unknown_prior(run):
    assert isinstance(run("show", "gnn").exception, UsageError)


def test_check_passes_a_good_prior(run, file):
    result = run("check", f"{file}:Good", "--prior-option", "level=1")
    assert result.exit_code == 0, result.exception
    assert "determinism" in result.stdout
    assert "BROKEN" not in result.stdout


def test_check_names_the_broken_rules(run, file):
    result = run("check", f"{file}:Bad")
    (row,) = [line for line in result.stdout.splitlines() if " range " in line]
    assert "BROKEN" in row
    assert isinstance(result.exception, PluginError)
    assert result.exception.exit_code == 5
    assert "range, outside" in str(result.exception)


def test_check_refuses_an_unknown_option_without_a_table(run, file):
    result = run("check", f"{file}:Good", "--prior-option", "height=1")
    assert isinstance(result.exception, UsageError)
    assert result.stdout == ""


@pytest.mark.parametrize("command", [[], ["list"], ["show"], ["check"]])
def test_every_help_has_an_example(run, command):
    result = run(*command, "--help")
    assert "Example" in result.stdout
    assert "cgckit priors" in result.stdout


def test_show_says_which_modalities_a_prior_needs(cgckit) -> None:
    assert "It needs images of one of: flair, dwi, t2, pd, ct, t1ce." in cgckit("priors", "show", "gmm").out
    assert "It needs" not in cgckit("priors", "show", "mask").out
