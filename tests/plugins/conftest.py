"""The plug-ins of `plugins/`, installed as anybody's package would be, and used from another process."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def plugins() -> dict[str, Path]:
    """The source folder of each plug-in, by the name of what it brings."""
    return {
        "flair-threshold": ROOT / "plugins" / "cgckit-flair-threshold",
        "ae": ROOT / "plugins" / "cgckit-reconstruction",
        "surface-dice": ROOT / "plugins" / "cgckit-surface-dice",
        "otsu": ROOT / "plugins" / "cgckit-otsu-brain",
    }


@pytest.fixture(scope="session")
def site(plugins: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all plug-ins installed in it, without network and without touching the environment."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("pip is not in this environment")
    folder = tmp_path_factory.mktemp("site")
    # The build writes beside its source: it gets a copy.
    copies = [shutil.copytree(source, tmp_path_factory.mktemp(name) / source.name) for name, source in plugins.items()]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--no-compile", "--target", str(folder), *map(str, copies)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def python(site: Path) -> Run:
    """Run Python with the plug-ins on its path."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(site), str(ROOT)])
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def cgckit(python: Run) -> Run:
    """Run the command line with the plug-ins on its path."""
    return lambda *arguments: python("-m", "cgckit", *arguments)
