"""Builds the native modules; everything else about the package is in pyproject.toml.

`cgckit._C` holds the operators. It is built against torch's stable ABI and Python's limited API, so one
binary serves several versions of both. `cgckit._cuda` adds their CUDA kernels, where torch is built for CUDA,
nvcc is found and the sources are there; it is a module of its own, as it links to what a CPU build of torch
lacks. `cgckit._build` is a pybind11 module, which has no limited API: wheels are therefore tagged for one
Python version. Without a C++ compiler nothing is built: the package then does the same in plain PyTorch.
"""

from __future__ import annotations

import os
import shlex
import shutil
import warnings
from pathlib import Path

import pybind11
import torch
from setuptools import Extension, setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension, get_cxx_compiler

TORCH_TARGET = "2.10"
"""Oldest torch that the operators run with."""

# Safe on every processor: faster instruction sets are chosen at run time, inside the kernels.
OPTIMISATION = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
# One binary for each architecture with instructions of its own; PTX of the last for those to come.
ARCHITECTURES = ("80", "86", "89", "90", "100", "120")
COMMON = ["-g0", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter", *OPTIMISATION]


def torch_target_version() -> str:
    """`TORCH_TARGET` as the constant that torch's headers expect: major and minor in the two top bytes."""
    major, minor = (int(part) for part in TORCH_TARGET.split("."))
    return f"0x{major:02x}{minor:02x}000000000000"


def quoted(text: str) -> str:
    """`text` as a C string literal."""
    return f'"{text}"'


def processors() -> int:
    """Processors that this process may use; not every system can tell them from those that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_compiler() -> bool:
    """Whether there is the compiler that torch's builder calls, a command and perhaps options of it."""
    return shutil.which(shlex.split(get_cxx_compiler())[0]) is not None


class BuildNative(BuildExtension):
    """torch's builder, told the version of the package and the processors it may really use."""

    def finalize_options(self) -> None:
        # pip builds editable installs in a folder it throws away; objects are kept here, where ninja finds
        # what a change of source, flags or torch leaves valid.
        if self.build_temp is None:
            self.build_temp = "build/native"
        super().finalize_options()

    def build_extensions(self) -> None:
        if not has_compiler():
            self.warn(f"no C++ compiler ({get_cxx_compiler()}) is found: cgckit's losses will run in plain PyTorch")
            self.extensions = []
            return
        os.environ.setdefault("MAX_JOBS", str(processors()))
        version = self.distribution.get_version()
        for extension in self.extensions:
            if extension.name == "cgckit._build":
                extension.define_macros.append(("CGCKIT_VERSION", quoted(version)))
        super().build_extensions()


def native_modules() -> list[Extension]:
    sources = ["csrc/library.cpp", "csrc/module.cpp", *map(str, sorted(Path("csrc/cpu").glob("*.cpp")))]
    headers = [str(path) for folder in ("csrc/common", "csrc/cpu") for path in sorted(Path(folder).glob("*.h"))]
    operators = CppExtension(
        "cgckit._C",
        sources,
        depends=headers,
        define_macros=[
            ("TORCH_TARGET_VERSION", torch_target_version()),
            ("CGCKIT_LIBRARY", "cgckit"),
            ("CGCKIT_MODULE", "_C"),
        ],
        extra_compile_args={"cxx": COMMON},
        py_limited_api=True,
    )
    build_information = Extension(
        "cgckit._build",
        ["csrc/build_information.cpp"],
        depends=headers,
        include_dirs=[pybind11.get_include()],
        define_macros=[
            ("CGCKIT_TORCH_TARGET", quoted(TORCH_TARGET)),
            ("CGCKIT_FLAGS", quoted(" ".join(OPTIMISATION))),
        ],
        extra_compile_args={"cxx": COMMON},
        language="c++",
    )
    return [operators, build_information, *cuda_modules(headers)]


def cuda_modules(headers: list[str]) -> list[Extension]:
    """The CUDA kernels, where they can be built. `TORCH_CUDA_ARCH_LIST` replaces the architectures."""
    if torch.version.cuda is None or CUDA_HOME is None:
        return []
    folder = Path("csrc/cuda")
    kernels = sorted(folder.glob("*.cu"))
    if not kernels:
        warnings.warn(f"no sources in {folder}: cgckit is built without its CUDA kernels", stacklevel=1)
        return []
    architectures = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
    architectures.append(f"-gencode=arch=compute_{ARCHITECTURES[-1]},code=compute_{ARCHITECTURES[-1]}")
    chosen = [] if "TORCH_CUDA_ARCH_LIST" in os.environ else architectures
    return [
        CUDAExtension(
            "cgckit._cuda",
            ["csrc/module.cpp", *map(str, [*sorted(folder.glob("*.cpp")), *kernels])],
            depends=[*headers, *map(str, sorted([*folder.glob("*.h"), *folder.glob("*.cuh")]))],
            define_macros=[
                ("TORCH_TARGET_VERSION", torch_target_version()),
                ("CGCKIT_LIBRARY", "cgckit"),
                ("CGCKIT_DISPATCH_KEY", "CUDA"),
                ("CGCKIT_MODULE", "_cuda"),
                ("USE_CUDA", None),
            ],
            extra_compile_args={"cxx": COMMON, "nvcc": ["-O3", "-Xcompiler=-fvisibility=hidden", *chosen]},
            py_limited_api=True,
        )
    ]


setup(ext_modules=native_modules(), cmdclass={"build_ext": BuildNative})
