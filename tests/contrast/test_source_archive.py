"""What a source archive holds, and what is built from one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a checkout: nothing to compare with"
)


def tracked(folder: str) -> set[str]:
    done = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def test_a_source_archive_holds_every_native_source_wherever_it_is_made(tmp_path: Path) -> None:
    # The list of files that an archive is made from.
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = set((tmp_path / "cgckit.egg-info" / "SOURCES.txt").read_text().splitlines())
    sources = tracked("csrc")
    assert "csrc/cuda/forward.cu" in sources
    assert sources <= listed


CUDA_MODULES = """
import warnings
from pathlib import Path
import setuptools, torch
from torch.utils import cpp_extension
setuptools.setup = lambda **options: None
torch.version.cuda = "13.0"
cpp_extension.CUDA_HOME = "/usr/local/cuda"
scope = {"__name__": "setup"}
exec(Path("setup.py").read_text(), scope)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print([module.name for module in scope["cuda_modules"]([])], *(str(warning.message) for warning in caught))
"""


def test_without_cuda_sources_no_cuda_module_is_built_and_that_is_said(tmp_path: Path) -> None:
    shutil.copy(ROOT / "setup.py", tmp_path)
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")

    def built() -> str:
        command = [sys.executable, "-c", CUDA_MODULES]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    assert built() == "['cgckit._cuda']"
    shutil.rmtree(tmp_path / "csrc" / "cuda")
    assert built() == "[] no sources in csrc/cuda: cgckit is built without its CUDA kernels"


def test_without_a_compiler_the_package_is_built_without_its_operators(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path)]
    environment = {**os.environ, "CXX": "no-such-compiler -O2"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = "no C++ compiler (no-such-compiler -O2) is found: cgckit's losses will run in plain PyTorch"
    assert said in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.so"))
