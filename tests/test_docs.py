"""The examples in docstrings run, and the pages of the documentation have everything that they name."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cgckit

ROOT = Path(__file__).parents[1]
MODULES = [module.name for module in pkgutil.walk_packages(cgckit.__path__, "cgckit.") if "__main__" not in module.name]
WITH_EXAMPLES = [
    name
    for name in MODULES
    if (found := importlib.util.find_spec(name)) is not None  # type: ignore[attr-defined]
    and str(found.origin).endswith(".py")
    and ">>>" in Path(str(found.origin)).read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", ["cgckit", *WITH_EXAMPLES])
def test_examples_in_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_the_reference_has_every_public_name() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: ([\w.]+)", pages, re.MULTILINE))
    homes = {f"{home}.{name}" for name, home in cgckit._HOMES.items()}
    assert sorted(homes - shown) == []
    for name in shown:
        home, _, attribute = name.rpartition(".")
        module = importlib.import_module(name) if name in MODULES else importlib.import_module(home)
        assert name in MODULES or hasattr(module, attribute), name


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.md"):
        assert str(path.relative_to(ROOT / "docs")) in navigation, path


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not in this environment: `make docs` has one of its own")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "reference" / "python" / "index.html").exists()
    page = (tmp_path / "site" / "howto" / "python" / "index.html").read_text(encoding="utf-8")
    assert "Bright" in page, "the script is shown"
