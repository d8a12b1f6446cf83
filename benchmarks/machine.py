"""The machine: what it is, the best it can do, and the memory a process takes at most."""

from __future__ import annotations

import ctypes
import datetime
import platform
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from cgckit.contrast import build_information
from cgckit.version import __version__

ROOT = Path(__file__).parent.parent


@cache
def _burst() -> ctypes.CDLL:
    """The loops of burst.c, compiled for this very processor."""
    source = Path(__file__).with_name("burst.c")
    with tempfile.TemporaryDirectory(prefix="burst-") as folder:  # what is loaded outlives its file
        library = Path(folder) / "burst.so"
        flags = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
        subprocess.run(["cc", *flags, str(source), "-o", str(library)], check=True)
        loaded = ctypes.CDLL(str(library))
    loaded.burst.argtypes = [ctypes.c_int64]
    loaded.burst.restype = ctypes.c_float
    loaded.triad.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64]
    loaded.triad.restype = None
    return loaded


def seconds(threads: int) -> float:
    """A clock: of one thread the processor's time, which other work does not lengthen; of several the day's."""
    return time.process_time() if threads == 1 else time.perf_counter()


def burst_flops(threads: int, repetitions: int = 20, steps: int = 1_500_000) -> list[float]:
    """Floating-point operations a second of `threads` threads in the widest fused multiply-adds, each time."""
    run, steps = _burst().burst, steps * 8 // _burst().lanes()  # ctypes releases the interpreter's lock
    operations = 24 * _burst().lanes() * steps * threads
    rates = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repetitions):
            start = seconds(threads)
            list(pool.map(run, [steps] * threads))
            rates.append(operations / (seconds(threads) - start))
    return rates


def bandwidth(threads: int, repetitions: int = 10, count: int = 1 << 25) -> float:
    """Bytes a second at best of c = a + b on arrays of `count` float32, c counted twice: its lines are read first."""
    a, b, c = (torch.ones(count) for _ in range(3))
    part = count // threads
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repetitions):
            start = time.perf_counter()
            list(
                pool.map(
                    lambda t: _burst().triad(*(x.data_ptr() + 4 * part * t for x in (a, b, c)), part), range(threads)
                )
            )
            best = max(best, 4 * 4 * part * threads / (time.perf_counter() - start))
    return best


class PeakMemory:
    """Bytes that the block took at most beyond what was there when it began."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark of resident memory
            self._before = _status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        after = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else _status("VmHWM")
        self.bytes = after - self._before


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise KeyError(key)


def description(device: torch.device) -> dict[str, object]:
    """Machine, versions and commit, as every row states them."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "csrc", "cgckit/contrast"], capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "threads": torch.get_num_threads(),
        "clock": "processor" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall",
        "isa": build_information().get("in use", "none"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cgckit": __version__,
        "pytorch-metric-learning": _version("pytorch-metric-learning"),
        "commit": commit.stdout.strip() + ("+changes" if changed.stdout.strip() else ""),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
