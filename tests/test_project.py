"""What the project says of itself agrees, and its files for other programs can be read by these."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from cgckit.version import __version__

yaml = pytest.importorskip("yaml", reason="pyyaml is not in this environment")
ROOT = Path(__file__).parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere() -> None:
    assert yaml.safe_load(read("CITATION.cff"))["version"] == __version__
    assert version("cgckit") == __version__
    assert f"## [{__version__}]" in read("CHANGELOG.md")
    assert 'dynamic = ["version"]' in read("pyproject.toml"), "it is written in cgckit/version.py alone"


def test_the_workflow_calls_targets_that_exist() -> None:
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    called = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    assert called == {f"make {name}" for name in ("lint", "test", "audit", "coverage", "docs", "package", "container")}
    assert {command.removeprefix("make ") for command in called} <= targets
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    assert pythons[0] == re.search(r'requires-python = ">=([\d.]+)"', read("pyproject.toml"))[1]  # type: ignore[index]


def test_every_make_target_that_is_no_file_is_phony() -> None:
    phony = set(re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)[1].split())  # type: ignore[index]
    assert phony == set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")))
def test_issue_forms_can_be_read(name: str) -> None:
    form = yaml.safe_load(read(f".github/ISSUE_TEMPLATE/{name}"))
    if name != "config.yml":
        assert {"name", "description", "body"} <= form.keys()
        assert len({field.get("id") for field in form["body"]}) == len(form["body"])


def test_hooks_are_pinned() -> None:
    repositories = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert all(repository["repo"] == "local" or re.match(r"v\d", repository["rev"]) for repository in repositories)
    hooks = {hook["id"] for repository in repositories for hook in repository["hooks"]}
    assert {"ruff", "ruff-format", "clang-format", "mypy"} <= hooks


def test_the_recipe_for_apptainer_takes_the_steps_of_the_dockerfile() -> None:
    dockerfile, recipe = read("Dockerfile"), read("tools/cgckit.def")
    steps = re.findall(r"^RUN (.*)$", dockerfile, re.MULTILINE)
    steps.remove("useradd --create-home --uid 1000 cgckit")  # Apptainer runs as whoever calls it
    assert re.findall(r"^ +((?:apt-get|python|/opt/cgckit/bin/pip) .*)$", recipe, re.MULTILINE) == steps
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert re.findall(r"^From: (.*)$", recipe, re.MULTILINE) == bases
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
    assert re.findall(r"^ +(\S+) /src/\S*$", recipe, re.MULTILINE) == " ".join(copied).split()
    variables = re.findall(r"^(?:ARG|ENV) (\S+)", dockerfile, re.MULTILINE)
    assert [variable for variable in variables if variable not in recipe] == []
