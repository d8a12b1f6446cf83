"""The house keeps its order: which room may import which, no circles, no crowded room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

grimp = pytest.importorskip("grimp", reason="grimp is not in this environment")

ROOT = Path(__file__).parents[1]
FOUNDATION = {"version", "errors", "arrays", "atomic", "sealed", "ledger", "lock"}
# Data flows one way: a room imports none to its right. `contrast`, the loss, stands alone.
ROOMS = ["options", "plugins", "images", "nets", "lesion_evidence", "starting", "priors", "cgc", "derivatives"]
ROOMS += ["dicom", "jobs", "evaluation", "report", "exports", "pipeline", "experiments", "cli"]
# Beside the flow: what nothing but the command line uses.
BESIDE = {
    "phantom": {"images", "derivatives"},
    "pretraining": {"phantom", "nets", "lesion_evidence", "starting"},
    "testing": {"options", "plugins", "images", "priors", "evaluation"},
}
MOST_MODULES = 12


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("cgckit", cache_dir=None)


def room(module: str) -> str:
    """The room of a module; empty for the package itself, whose names are loaded when they are used."""
    return [*module.split("."), ""][1]


def imports() -> Iterator[tuple[str, str]]:
    """Every import of one module by another, those inside functions included."""
    for module in sorted(graph().modules):
        for imported in sorted(graph().find_modules_directly_imported_by(module)):
            yield module, imported


def may_import(importer: str, imported: str) -> bool:
    if importer == imported or imported in FOUNDATION or importer == "":
        return True
    if importer in FOUNDATION or importer == "contrast":
        return False
    if imported == "contrast":
        return importer in ("cgc", "pipeline", "cli")
    if importer in BESIDE:
        return imported in BESIDE[importer]
    if imported in BESIDE or imported == "":
        return importer in ("cli", "__main__")
    if importer in ROOMS and imported in ROOMS:
        return ROOMS.index(imported) < ROOMS.index(importer)
    return importer == "__main__"


def test_every_room_has_its_place():
    known = {*ROOMS, *BESIDE, *FOUNDATION, "contrast", "__main__", ""}
    assert {room(module) for module in graph().modules} == known


def test_no_room_imports_one_to_its_right():
    wrong = [f"{a} imports {b}" for a, b in imports() if not may_import(room(a), room(b))]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    waiting = {module: set(graph().find_modules_directly_imported_by(module)) for module in graph().modules}
    while free := [module for module, needs in waiting.items() if not needs & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert sorted(waiting) == [], "what is left is in a circle, or needs one"


def test_no_folder_is_crowded():
    counts = {path: len(list(path.glob("*.py"))) for path in (ROOT / "cgckit").rglob("*") if path.is_dir()}
    assert {str(path): count for path, count in counts.items() if count > MOST_MODULES} == {}


def imported(source: str) -> list[str]:
    """The full name of everything that a source imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize(
    "line", ["import cgckit.cli.main", "from cgckit import cli", "from cgckit.cli.main import app"]
)
def test_no_way_to_import_is_missed(line: str) -> None:
    assert any(name.startswith("cgckit.cli") for name in imported(f"def f():\n    {line}"))


def test_benchmarks_import_nothing_of_the_command_line():
    for path in (ROOT / "benchmarks").rglob("*.py"):
        names = imported(path.read_text(encoding="utf-8"))
        assert not [name for name in names if name.startswith("cgckit.cli")], path
