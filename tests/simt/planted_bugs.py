"""Bugs for the simulated kernels to be caught with, and what each is caught by."""

from __future__ import annotations

from dataclasses import dataclass

from simulated_kernels import Build


@dataclass(frozen=True)
class Bug:
    """A change of the sources. In `wrong`, BUG is whether the bug is switched on."""

    name: str
    file: str
    right: str
    wrong: str
    case: str
    """Input that it is run on (`test_simt.CASES`)."""
    caught_by: frozenset[str]
    """The checks that notice it, exactly (`test_simt.verdict`)."""


def bug(name: str, file: str, right: str, wrong: str, case: str, caught_by: str) -> Bug:
    return Bug(name, file, right, wrong, case, frozenset(caught_by.split(", ")))


BUGS = (
    bug(
        "no barrier after the copies of a step",
        "tile.cuh",
        "prim::barrier();  // everybody's",
        "if (!BUG) prim::barrier();  // everybody's",
        "own float16",
        "races",
    ),
    bug(
        "no wait for copies",
        "tile.cuh",
        "prim::copy_wait<kStages - 2>();",
        "if (!BUG) prim::copy_wait<kStages - 2>();",
        "sliced float32",
        "late copies, orders, races",
    ),
    bug(
        "a wait for one step too few",
        "tile.cuh",
        "prim::copy_wait<kStages - 2>();",
        "BUG ? prim::copy_wait<kStages - 1>() : prim::copy_wait<kStages - 2>();",
        "sliced float32",
        "late copies, orders, races",
    ),
    bug(
        "buffers filled again before the last step has read them",
        "tile.cuh",
        "prim::barrier();  // nobody",
        "if (!BUG) prim::barrier();  // nobody",
        "chunks float32",
        "numbers, orders, races",
    ),
    bug(
        "an operand of 16-bit tensor cores from the wrong place",
        "tile.cuh",
        "c + lane() / 16 * 8 + lane() % 8, k / kChunk<T> + lane() / 8 % 2",
        "c + lane() / 16 * 8 + lane() % 8, k / kChunk<T> + (BUG ? 0 : lane() / 8 % 2)",
        "own bfloat16",
        "numbers",
    ),
    bug(
        "a transposed operand from the wrong place",
        "tile.cuh",
        "k + lane() / 16 * 8 + lane() % 8, r / kChunk<T> + lane() / 8 % 2",
        "k + (BUG ? lane() / 8 % 2 : lane() / 16) * 8 + lane() % 8, r / kChunk<T> + lane() / 8 % 2",
        "own bfloat16",
        "numbers",
    ),
    bug(
        "an operand of tf32 tensor cores from the wrong place",
        "tile.cuh",
        "k + e / 2 * 4 + lane() % 4, r + e % 2 * 8",
        "k + (BUG ? e % 2 : e / 2) * 4 + lane() % 4, r + e % 2 * 8",
        "chunks float32",
        "numbers",
    ),
    bug(
        "what the first tf32 number leaves not multiplied",
        "tile.cuh",
        "left[i].bits[0], right[half].bits[1]",
        "left[i].bits[0], right[half].bits[BUG ? 0 : 1]",
        "own float32",
        "numbers",
    ),
    bug(
        "columns past the last member in the sum",
        "forward.cu",
        "const V e = counts ?",
        "const V e = counts || (BUG && Of::column(n) != self) ?",
        "own float32",
        "numbers",
    ),
    bug(
        "the anchor itself in its own sum",
        "forward.cu",
        "const V e = counts ||",
        "const V e = counts || (BUG && Of::column(n) == self) ||",
        "own float32",
        "numbers",
    ),
    bug(
        "patches that take no part packed",
        "rows.cuh",
        "if (i >= to.members(g)) {",
        "if (i >= (BUG ? to.patches : to.members(g))) {",
        "spread bfloat16",
        "numbers",
    ),
    bug(
        "sums of a later chunk not added",
        "backward.cu",
        "if (add || first > begin) {",
        "if ((add && !BUG) || first > begin) {",
        "chunks float32",
        "numbers",
    ),
    bug(
        "members that are no anchors write over anchors",
        "backward.cu",
        "static_cast<int>(most(0, x.anchors(g) - row))",
        "static_cast<int>(BUG ? 0 : most(0, x.anchors(g) - row))",
        "own bfloat16",
        "numbers, orders, races",
    ),
    bug(
        "a slice left out",
        "gram.cuh",
        "for (int64_t s = 0; s < used; ++s) sum",
        "for (int64_t s = BUG ? 1 : 0; s < used; ++s) sum",
        "sliced float32",
        "numbers",
    ),
    bug(
        "blocks write to one place",
        "rows.cuh",
        "partial[(c * x.groups + g) * x.depth + d] = sum;",
        "partial[(c * x.groups + g) * x.depth + d] = BUG ? 0 : sum; if (BUG) partial[g * x.depth + d] = sum;",
        "spread bfloat16",
        "numbers, orders, races",
    ),
    bug(
        "every thread writes the norm of the patch",
        "statistics.cu",
        "if (Team<kTeam>::lane() != 0) return;",
        "if (Team<kTeam>::lane() != 0 && !BUG) return;",
        "sliced float32",
        "races",
    ),
    bug(
        "sums of warps written over while they are read",
        "rows.cuh",
        "prim::barrier();  // they may",
        "if (!BUG) prim::barrier();  // they may",
        "sliced float32",
        "races",
    ),
    bug(
        "a warp's sum over half of its lanes",
        "rows.cuh",
        "int mask = prim::kLanes / 2;",
        "int mask = prim::kLanes / (BUG ? 4 : 2);",
        "sliced float32",
        "numbers",
    ),
    bug(
        "tiles written over by what is known of rows",
        "forward.cu",
        "prim::barrier();  // the tiles are read",
        "if (!BUG) prim::barrier();  // the tiles are read",
        "own bfloat16",
        "races",
    ),
    bug(
        "threads that leave before a barrier",
        "forward.cu",
        "prim::barrier();\n    const int r",
        "if (BUG && prim::thread() >= 64) return;\n    prim::barrier();\n    const int r",
        "sliced float32",
        "runner",
    ),
    bug(
        "rows that are not padded to whole copies",
        "rows.cuh",
        "pitch(panels(",
        "pitch(BUG ? depth : panels(",
        "own float16",
        "runner",
    ),
)

# So small that every loop over blocks runs more than once on small inputs.
SMALL = {
    "backward.cu": (
        ("kMostChunkRows = 2048", "kMostChunkRows = 128"),
        ("kLeastChunkRows = 256", "kLeastChunkRows = 128"),
    ),
    "gram.cuh": (("kLeastInner = 256", "kLeastInner = 32"),),
    "rows.cuh": (
        ("kMostWarpDepth = 1024", "kMostWarpDepth = 256"),
        ("least(kSumChunks, panels(patches, 32))", "least(kSumChunks, panels(patches, 8))"),
    ),
}


def _changes() -> dict[str, tuple[tuple[str, str], ...]]:
    """Small limits, then all bugs, each behind its switch."""
    changes = {name: list(pairs) for name, pairs in SMALL.items()}
    for number, of in enumerate(BUGS, 1):
        changes.setdefault(of.file, []).append((of.right, of.wrong.replace("BUG", f"simt::planted({number})")))
    return {name: tuple(pairs) for name, pairs in changes.items()}


PLANTED = Build(
    "planted",
    flags=("-O1", "-fsanitize=thread"),
    runner=("simt.cpp", "races.cpp", "device.cpp"),
    changes=_changes(),
)
