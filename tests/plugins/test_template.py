"""`cgckit plugins new`: a package that works as it is written, and mistakes in one line."""

from __future__ import annotations

import importlib
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from cgckit.errors import UsageError
from cgckit.evaluation import METRICS
from cgckit.images.brain import BRAINS
from cgckit.plugins import Group
from cgckit.plugins.template import KINDS, write_template
from cgckit.priors.base import PRIORS

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="Python 3.10 reads no TOML")

GROUPS: dict[str, Group] = {"prior": PRIORS, "brain": BRAINS, "metric": METRICS}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write a template whose package can be imported for as long as the test runs."""

    def write(kind: str) -> Path:
        folder = write_template(f"odd-{kind}-2", kind, tmp_path / kind)
        monkeypatch.syspath_prepend(folder)
        return folder

    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        if name.startswith("cgckit_odd"):
            del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS)
def test_its_tests_pass_as_written(write: Callable[[str], Path], kind: str) -> None:
    (file,) = (write(kind) / "tests").glob("test_*.py")
    tests = {name: test for name, test in runpy.run_path(str(file)).items() if name.startswith("test_")}
    assert "test_keeps_the_contract" in tests
    for test in tests.values():
        test()


@pytest.mark.parametrize("kind", KINDS)
def test_its_entry_point_is_a_class_of_the_group(write: Callable[[str], Path], kind: str) -> None:
    project = tomllib.loads((write(kind) / "pyproject.toml").read_text())
    ((group, entries),) = project["project"]["entry-points"].items()
    assert group == GROUPS[kind].entry_points
    assert entries == {f"odd-{kind}-2": entries[f"odd-{kind}-2"]}
    found = EntryPoint(f"odd-{kind}-2", entries[f"odd-{kind}-2"], group).load()
    assert GROUPS[kind].require(found, "it") is found
    assert project["project"]["name"] == f"cgckit-odd-{kind}-2"
    assert project["tool"]["setuptools"]["packages"] == [found.__module__.split(".")[0]]
    assert importlib.import_module(found.__module__.split(".")[0]).__all__ == [found.__name__]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_template_is_left_unfilled(write: Callable[[str], Path], kind: str) -> None:
    files = [path for path in write(kind).rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"pyproject.toml", "README.md", ".gitignore", "__init__.py", f"{kind}.py"}
    for path in files:
        text = path.read_text()
        assert "{{" not in text
        assert "{%" not in text
        assert text.endswith("\n")


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_has_nothing_for_linter_and_type_checker(write: Callable[[str], Path], kind: str) -> None:
    pytest.importorskip("mypy", reason="mypy is not in this environment")
    folder, root = write(kind), Path(__file__).parents[2]
    (package,) = (path.parent for path in folder.glob("*/__init__.py"))
    words = ["--strict", "--python-version=3.10", "--ignore-missing-imports", "--follow-imports=silent"]
    command = [sys.executable, "-m", "mypy", *words, str(package)]
    environment = {**os.environ, "PYTHONPATH": str(root), "MYPYPATH": str(folder)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "class_name"),
    [
        ("left-right", "LeftRightPrior"),
        ("left-right-prior", "LeftRightPrior"),
        ("prior", "PriorPrior"),
        ("t2", "T2Prior"),
    ],
)
def test_the_class_is_called_as_the_plugin_and_hides_no_base(tmp_path: Path, name: str, class_name: str) -> None:
    folder = write_template(name, "prior", tmp_path / "package")
    assert f"class {class_name}(Prior):" in next(folder.glob("*/prior.py")).read_text()


def test_the_prefix_of_packages_is_not_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert write_template("cgckit-left-right") == Path("cgckit-left-right")
    assert 'left-right = "cgckit_left_right:LeftRightPrior"' in Path("cgckit-left-right/pyproject.toml").read_text()


@pytest.mark.parametrize(
    "name", ["", "Left", "left_right", "2d", "left-", "-x", "a--b", "a/b", "../up", "a+b", "é", "a b"]
)
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="as in left-right"):
        write_template(name)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place in ("full", "file", "link"):
        with pytest.raises(UsageError, match=f"{place}: is there already"):
            write_template("left-right", out=tmp_path / place)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert write_template("left-right", out=tmp_path / "empty").name == "empty"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cgckit.plugins.template.os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_template("left-right", out=tmp_path / "package")
    assert not list(tmp_path.iterdir())
