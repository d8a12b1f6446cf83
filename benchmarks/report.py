"""Results on disk: rows as JSON lines, and the tables and the picture made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]
YARDSTICKS = (
    "eager anchors-only",
    "compiled anchors-only",
    "oneDNN anchors-only",
    "compiled oneDNN anchors-only",
    "eager full",
    "compiled full",
    "metric-learning, anchors given",
    "metric-learning",
    "blockwise",
)
EXPLANATION = """\
Written by `python -m benchmarks loss`; temperature 0.2. Columns after the fused operator's own: how many times longer
(forward and backward) or larger (memory beyond the inputs) each other way to the same loss is, in the same interleaved
run; medians of the rounds, in each of which a way is called twice and the second call counts (once, in rows of commits
before b14c03c). *anchors-only* is plain PyTorch with rows for the anchors alone, *full* with all N x N similarities,
each also under `torch.compile` (the loss, not the unfolding); *oneDNN* takes the products from oneDNN instead of MKL;
*metric-learning* is pytorch-metric-learning's `SupConLoss`, also with the anchors' pairs given; *blockwise* is cgckit
without its compiled extension. `of peak`: floating-point operations of the three products, 6 D n N, a second, over the
machine's burst of fused multiply-adds, in the widest vectors there are. `error`: relative L2 of the gradient to
float64. `commit`: of what was measured. Blank: not run, as N x N would take gigabytes or the library is missing or has
no such case. With one thread, time is the processor's, which what else runs does not lengthen (rows without `clock` in
`loss.jsonl`: the day's). Where the rest of the time goes is in `profile.md`.

Time against N (presets n-*) is linear if `ns a pair` (of an anchor and a patch) stays the same. It stepped up beyond N
= 25,000 before large pages were asked for: buffers of more than 32 MiB are new memory in every call, and the system
gave them 4 KiB at a time. The fused operator's own buffers no longer are; the others' still are.
"""


def replace_rows(folder: Path, rows: list[Row]) -> None:
    """Put `rows` in place of earlier ones of the same device, preset and share."""
    folder.mkdir(parents=True, exist_ok=True)
    new = {_key(row) for row in rows}
    kept = [row for row in read(folder) if _key(row) not in new]
    (folder / "loss.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*kept, *rows]))


def read(folder: Path) -> list[Row]:
    path = folder / "loss.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _key(row: Row) -> tuple[Any, ...]:
    return *_machine(row), row["preset"], row["rho"]


def _machine(row: Row) -> tuple[Any, ...]:
    return row["device"], row["threads"], row["isa"]


def write(folder: Path) -> None:
    """Write loss.md and loss.png from loss.jsonl."""
    runs: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in read(folder):
        runs.setdefault(_key(row), {})[row["contender"]] = row
    text = [f"# The fused loss against its yardsticks\n\n{EXPLANATION}"]
    for machine in sorted({key[:3] for key in runs}):
        device, threads, isa = machine
        of_device = sorted((run for key, run in runs.items() if key[:3] == machine), key=_order)
        fused = of_device[0]["fused"]
        text.append(f"\n## {device}, threads: {threads}, torch {fused['torch']}, {isa}\n")
        text.append(f"\nTime, forward and backward:\n\n{_table(of_device, 'both_s')}")
        text.append(f"\nPeak memory:\n\n{_table(of_device, 'peak_bytes')}")
    (folder / "loss.md").write_text("".join(text))
    _draw(folder / "loss.png", list(runs.values()))


def _order(run: dict[str, Row]) -> tuple[Any, ...]:
    row = run["fused"]
    return row["preset"].startswith("n-"), row["preset"] if row["preset"][0] != "n" else row["patches"], row["rho"]


def _table(runs: list[dict[str, Row]], quantity: str) -> str:
    timed = quantity == "both_s"
    columns = [
        "preset",
        "N",
        "D",
        "n",
        "fused",
        *(["ns a pair", "of peak", "error", "calm rounds", "commit"] if timed else []),
        *YARDSTICKS,
    ]
    lines = [columns, ["---"] * len(columns)]
    for run in runs:
        fused = run["fused"]
        own = f"{1000 * fused['both_s']:.1f} ms" if timed else f"{fused['peak_bytes'] / 2**20:.0f} MiB"
        cells = [fused["preset"], *(str(fused[key]) for key in ("patches", "depth", "anchors")), own]
        if timed:
            operations = 6 * fused["depth"] * fused["anchors"] * fused["patches"]
            peak = f"{operations / fused['both_s'] / fused['burst_flops']:.0%}" if fused["burst_flops"] else ""
            error = f"{fused['gradient_error']:.1e}" if fused["gradient_error"] is not None else ""
            pair = f"{1e9 * fused['both_s'] / fused['anchors'] / fused['patches']:.1f}"
            cells += [pair, peak, error, f"{fused['rounds_calm']} of {fused['rounds']}", fused["commit"]]
        cells += [f"{run[name][quantity] / fused[quantity]:.2f}" if name in run else "" for name in YARDSTICKS]
        lines.append(cells)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _draw(path: Path, runs: list[dict[str, Row]]) -> None:
    """Time and memory against N at fixed n, on the machine and threads measured last."""
    try:
        import matplotlib
    except ImportError:
        print(f"without matplotlib, {path.name} is not drawn", flush=True)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    scaling = sorted((run for run in runs if run["fused"]["preset"].startswith("n-")), key=_order)
    if not scaling:
        return
    latest = max((run["fused"] for run in scaling), key=lambda row: row["date"])
    scaling = [run for run in scaling if _machine(run["fused"]) == _machine(latest)]
    figure, (time, memory) = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name in ("fused", "blockwise", "eager anchors-only", "eager full"):
        rows = [run[name] for run in scaling if name in run]
        patches = [row["patches"] for row in rows]
        time.loglog(patches, [row["both_s"] for row in rows], marker="o", label=name)
        memory.loglog(patches, [row["peak_bytes"] / 2**20 for row in rows], marker="o", label=name)
    figure.suptitle(
        f"D = {latest['depth']}, n = {latest['anchors']} anchors; {latest['device']}, threads: {latest['threads']}"
    )
    time.set(xlabel="patches N", ylabel="forward and backward [s]")
    memory.set(xlabel="patches N", ylabel="memory beyond the inputs [MiB]")
    time.legend()
    figure.savefig(path, dpi=110)
