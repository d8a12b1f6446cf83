"""`write_template`: a package that brings a plug-in, for somebody to start from."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from cgckit.atomic import TEMPORARY_PREFIX
from cgckit.errors import UsageError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_FOLDER = "templates"
PREFIX = "cgckit-"
"""How the names of the packages begin."""


class _Kind(NamedTuple):
    """What a template says of one kind of plug-in: its page in the documentation, how a command with it begins."""

    noun: str
    group: str
    page: str
    use: str
    requires: tuple[str, ...]


KINDS = {
    "prior": _Kind("prior", "priors", "prior.md", "refine scans/ --prior", ("torch>=2.10",)),
    "brain": _Kind("brain extractor", "brains", "brain.md", "refine scans/ --brain", ("numpy>=1.26", "scipy>=1.11")),
    "metric": _Kind("metric", "metrics", "metric.md", "evaluate refined/ references/ --metric", ()),
}
"""The kinds that there are templates of."""


def write_template(name: str, kind: str = "prior", out: Path | None = None) -> Path:
    """Write a package that brings a plug-in: it can be installed, and its tests pass, as it stands.

    Args:
        name: what users will call the plug-in; the package is `cgckit-NAME`, the module `cgckit_NAME`.
        kind: "prior", "brain" or "metric".
        out: the folder of the package, which is not there yet or empty; by default `cgckit-NAME` in the current one.

    Returns:
        The folder.

    Raises:
        UsageError: a name that no plug-in can have, an unknown kind, or a folder with something in it.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no kind of plug-in {kind!r}: choose {', '.join(KINDS)}")
    name = name.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"a plug-in cannot be called {name!r}: begin with a lower-case letter, then letters, digits and single "
            "hyphens, as in left-right"
        )
    package = f"{PREFIX}{name}"
    folder = Path(package) if out is None else out
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise UsageError(f"{folder}: is there already; choose another folder with --out, or another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: it is written beside its place, and renamed.
    partial = folder.with_name(TEMPORARY_PREFIX + folder.name)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _fill(partial, name, kind)
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder


def _fill(folder: Path, name: str, kind: str) -> None:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    what = KINDS[kind]
    module = f"{PREFIX}{name}".replace("-", "_")
    words: dict[str, Any] = {
        **what._asdict(),
        "name": name,
        "package": f"{PREFIX}{name}",
        "module": module,
        "file": kind,
        "class_name": _class_name(name, kind),
        "entry_points": f"cgckit.{what.group}",
        "requires": ["cgckit", *what.requires],
        "use": f"cgckit {what.use} {name}" + ("" if kind == "metric" else " --out refined/"),
    }
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        f"{module}/__init__.py": "init.py",
        f"{module}/{kind}.py": f"{kind}.py",
        f"tests/test_{module.removeprefix('cgckit_')}.py": f"test_{kind}.py",
    }
    # What is made is source code, in which nothing is to be escaped.
    templates = Environment(  # nosec B701
        loader=PackageLoader("cgckit.plugins", _FOLDER), undefined=StrictUndefined, keep_trailing_newline=True
    )
    for path, template in files.items():
        place = folder / path
        place.parent.mkdir(exist_ok=True)
        place.write_text(templates.get_template(f"{template}.j2").render(words), encoding="utf-8")


def _class_name(name: str, kind: str) -> str:
    """`left-right`, a prior, is `LeftRightPrior`; so is `left-right-prior`."""
    return "".join(part.capitalize() for part in [*name.removesuffix(f"-{kind}").split("-"), kind])
