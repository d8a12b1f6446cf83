"""The hash of a plug-in's source: it covers what the class imports of its author, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cgckit.plugins.source import source_hash, sources
from cgckit.priors.gmm import GaussianMixturePrior
from cgckit.priors.resolve import resolve_prior

ROOT = Path(__file__).parents[2]
PRIOR = """
from dataclasses import dataclass
from cgckit import Prior
from {first} import level

@dataclass
class Mine(Prior):
    def predict(self, case):
        return (case.image[0] > level()) * case.brain.float()
"""
FIRST = "from {second} import value\ndef level():\n    return value\n"


def hash_of(folder: Path, words: str) -> str:
    """The hash in a process of its own, as modules stay in memory."""
    program = (
        "from cgckit.priors.resolve import prior_identity, resolve_prior\n"
        f"print(prior_identity(resolve_prior({words!r}))['source'])"
    )
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write_package(folder: Path) -> tuple[str, Path, Path]:
    package = folder / "mypackage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "prior.py").write_text(PRIOR.format(first=".first"))
    (package / "first.py").write_text(FIRST.format(second="mypackage.second"))
    (package / "second.py").write_text("value = 3\n")
    metadata = folder / "mypackage-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[cgckit.priors]\nmine = mypackage.prior:Mine\n")
    return "mine", package / "second.py", package / "unrelated.py"


def write_file(folder: Path) -> tuple[str, Path, Path]:
    (folder / "prior.py").write_text(PRIOR.format(first="first_helper"))
    (folder / "first_helper.py").write_text(FIRST.format(second="second_helper"))
    (folder / "second_helper.py").write_text("value = 3\n")
    return f"{folder}/prior.py:Mine", folder / "second_helper.py", folder / "unrelated.py"


def write_file_of_a_late_import(folder: Path) -> tuple[str, Path, Path]:
    """The helper lies in a package below the file's folder and is imported when it is used."""
    late = PRIOR.replace("from {first} import level", "").replace("return (", "import helpers.deep\n        return (")
    (folder / "prior.py").write_text(late.replace("level()", "helpers.deep.value"))
    (folder / "helpers").mkdir()
    (folder / "helpers" / "__init__.py").write_text("")
    (folder / "helpers" / "deep.py").write_text("value = 3\n")
    return f"{folder}/prior.py:Mine", folder / "helpers" / "deep.py", folder / "helpers" / "unrelated.py"


@pytest.mark.parametrize("write", [write_package, write_file, write_file_of_a_late_import])
def test_what_is_imported_through_others_counts_and_what_is_not_does_not(tmp_path, write):
    words, imported, unrelated = write(tmp_path)
    before = hash_of(tmp_path, words)
    unrelated.write_text("value = 5\n")
    assert hash_of(tmp_path, words) == before
    imported.write_text("value = 4\n")
    assert hash_of(tmp_path, words) != before


def test_within_a_process_a_helper_counts_as_it_runs_and_the_file_as_it_is(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    words, imported, _ = write_file(tmp_path)
    monkeypatch.delitem(sys.modules, "first_helper", raising=False)
    monkeypatch.delitem(sys.modules, "second_helper", raising=False)

    def found() -> str | None:
        return source_hash(type(resolve_prior(words)))

    before = found()
    imported.write_text("value = 4\n")
    assert found() == before, "the module in memory is the old one"
    (tmp_path / "prior.py").write_text(PRIOR.format(first="first_helper") + "    # edited\n")
    assert found() != before


def test_a_built_in_prior_covers_the_method_that_it_uses():
    names = {path.name for path in sources(GaussianMixturePrior.__module__)}
    assert {"gmm.py", "lesion_rule.py", "choice.py", "regions.py", "mirror.py", "blocks.py", "components.py"} <= names
    assert "mumford_shah.py" not in names
    assert "refine.py" not in names


def test_a_class_typed_in_a_session_has_none():
    namespace = {"__name__": "nowhere"}
    exec("class Typed: pass", namespace)
    assert source_hash(namespace["Typed"]) is None  # type: ignore[arg-type]
