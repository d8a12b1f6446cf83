"""Builds the CUDA kernels for the CPU, and lets the operators of CPU tensors run on them.

The sources that ship are compiled by g++ with `simt.h` in the place of CUDA. Libraries are kept in `build/simt` by
the hash of all that went into them.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "simt"
OPERATORS = ("patch_statistics", "patch_contrast", "patch_contrast_backward")
KERNELS = ("statistics.cu", "forward.cu", "backward.cu")
ORDERS = ("ascending", "descending", "random")

Order = Literal["ascending", "descending", "random"]


@dataclass(frozen=True)
class Build:
    """How the sources are compiled: the name of the library, and what is changed in a copy of the sources."""

    name: str
    flags: tuple[str, ...] = ("-O2",)
    """For the kernels."""
    host_flags: tuple[str, ...] = ()
    """For everything, and for the linker."""
    runner: tuple[str, ...] = ("simt.cpp", "device.cpp")
    changes: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """File of csrc/cuda -> (text, what replaces it); every text occurs exactly once."""


SHIPPED = Build("shipped")


def compiler() -> str | None:
    """The C++ compiler, None if there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


class Simulation:
    """A loaded library of simulated kernels, under `torch.ops.cgckit_simt_<name>`."""

    def __init__(self, build: Build) -> None:
        path = library(build)
        torch.ops.load_library(str(path))
        self._native = ctypes.CDLL(str(path))
        self.operators: Any = getattr(torch.ops, f"cgckit_simt_{build.name}")

    def configure(self, order: Order = "ascending", seed: int = 0, late_copies: bool = False) -> None:
        """Choose the order of threads and blocks, and whether background copies arrive at the wait."""
        self._native.simt_configure(ORDERS.index(order), ctypes.c_uint64(seed), int(late_copies))

    @contextmanager
    def watch(self) -> Iterator[list[str]]:
        """Fill the list with the races inside, in words; of a build with `races.cpp`."""
        text = ctypes.create_string_buffer(1 << 14)
        races: list[str] = []
        self._native.simt_watch(1, text, len(text))
        try:
            yield races
        finally:
            self._native.simt_watch(0, text, len(text))
            races += text.value.decode().splitlines()

    def plant(self, bug: int) -> None:
        """Switch on a planted bug, 0 for none; of a build with planted bugs."""
        self._native.simt_plant(bug)


@functools.cache
def _loaded(name: str) -> Simulation:
    return Simulation(_BUILDS[name])


_BUILDS: dict[str, Build] = {}


def simulation(build: Build) -> Simulation:
    """Build if need be, load once a process."""
    _BUILDS[build.name] = build
    return _loaded(build.name)


@contextmanager
def on_cpu_tensors(implementations: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Inside, `torch.ops.cgckit` runs `implementations` (by operator) for tensors on the CPU."""
    with torch.library._scoped_library("cgckit", "IMPL") as override:
        for name, run in implementations.items():
            override.impl(name, run, "CPU")
        yield


def simulated(build: Build = SHIPPED) -> dict[str, Callable[..., Any]]:
    """The operators on simulated kernels."""
    operators = simulation(build).operators
    return {name: getattr(operators, name).default for name in OPERATORS}


def on_gpu() -> dict[str, Callable[..., Any]]:
    """The operators on the CUDA device: operands are copied there, results back."""

    def runner(name: str) -> Callable[..., Any]:
        operator = getattr(torch.ops.cgckit, name).default

        def run(*arguments: Any) -> tuple[torch.Tensor, ...]:
            moved = [a.cuda() if isinstance(a, torch.Tensor) else a for a in arguments]
            return tuple(result.cpu() for result in operator(*moved))

        return run

    return {name: runner(name) for name in OPERATORS}


def library(build: Build) -> Path:
    """Return the shared library of `build`, compiled unless it is in the cache."""
    digest = hashlib.sha256()
    sources = sorted([*ROOT.glob("csrc/cuda/*"), *ROOT.glob("csrc/common/*"), *ROOT.glob("tests/simt/*.[ch]*")])
    for source in sources:
        digest.update(source.name.encode() + source.read_bytes())
    digest.update(repr((build, compiler(), torch.__version__, torch.__file__)).encode())
    path = CACHE / f"{build.name}-{digest.hexdigest()[:16]}.so"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{build.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes may run the tests
        if not path.exists():
            for old in CACHE.glob(f"{build.name}-*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            _compile(build, path)
    return path


def _compile(build: Build, path: Path) -> None:
    work = path.with_suffix("")
    shutil.copytree(ROOT / "csrc" / "cuda", work / "csrc" / "cuda")
    shutil.copytree(ROOT / "csrc" / "common", work / "csrc" / "common")
    shutil.copy(ROOT / "csrc" / "library.cpp", work / "csrc" / "library.cpp")
    for name, replacements in build.changes.items():
        source = work / "csrc" / "cuda" / name
        text = source.read_text()
        for old, new in replacements:
            if text.count(old) != 1:
                raise ValueError(f"{name} holds this {text.count(old)} times, not once: {old}")
            text = text.replace(old, new)
        source.write_text(text)

    torch_root = Path(torch.__file__).parent
    common = [compiler() or "g++", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", *build.host_flags]
    kernel = [*common, *build.flags, "-fno-strict-aliasing", f"-I{ROOT / 'tests' / 'simt'}"]
    binding = [
        *common,
        "-Wno-unused-parameter",
        f"-I{torch_root / 'include'}",
        f"-I{work}",
        "-DTORCH_TARGET_VERSION=0x020a000000000000",
        f"-DCGCKIT_LIBRARY=cgckit_simt_{build.name}",
        "-DCGCKIT_DISPATCH_KEY=CPU",
    ]
    steps = [[*kernel, "-x", "c++", "-c", str(work / "csrc" / "cuda" / name)] for name in KERNELS]
    steps += [[*binding, "-c", str(ROOT / "tests" / "simt" / name)] for name in build.runner]
    steps += [[*binding, "-c", str(work / "csrc" / name)] for name in ("library.cpp", "cuda/registration.cpp")]
    objects = [str(work / f"{index}.o") for index in range(len(steps))]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda step, to: _run([*step, "-o", to]), steps, objects))
    libraries = [f"-L{torch_root / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
    _run([*common, "-shared", "-o", str(work / "linked.so"), *objects, *libraries])
    (work / "linked.so").rename(path)
    shutil.rmtree(work)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
