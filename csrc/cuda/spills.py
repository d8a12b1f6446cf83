"""Compile the CUDA kernels and tell what each spills of its registers to memory. Takes minutes; needs nvcc.

Usage: python csrc/cuda/spills.py [architecture ...], by default sm_80 sm_90 sm_100.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TYPES = ("float", "double", "Float16", "BFloat16")


def spills(source: Path, architecture: str, element: str) -> list[str]:
    """The kernels of `source` that spill, with the bytes that they store."""
    command = ["nvcc", "-std=c++17", "-O3", f"-arch={architecture}", f"-DCGCKIT_TYPES(do)=do({element})"]
    command += ["--ptxas-options=-v", "-c", str(source), "-o", "/dev/null"]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.findall(r"entry function '(\S+)'.*?(\d+) bytes spill stores", report, re.DOTALL)
    if not found:
        raise RuntimeError(f"no report of the compiler on {source.name}")
    return [f"{architecture} {element} {kernel}: {stored} bytes" for kernel, stored in found if stored != "0"]


if __name__ == "__main__":
    lines = [
        line
        for architecture in sys.argv[1:] or ("sm_80", "sm_90", "sm_100")
        for element in TYPES
        for source in sorted(Path(__file__).parent.glob("*.cu"))
        for line in spills(source, architecture, element)
    ]
    print("\n".join(lines) or "no kernel spills")
