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
        "numbers, races",
    ),
    bug(
        "no wait for copies",
        "tile.cuh",
        "prim::copy_wait();",
        "if (!BUG) prim::copy_wait();",
        "sliced float32",
        "late copies, orders, races",
    ),
    bug(
        "a wait for the copies of every second step only",
        "tile.cuh",
        "prim::copy_wait();",
        "if (!(BUG && step % 2 == 1)) prim::copy_wait();",
        "sliced float32",
        "late copies, orders, races",
    ),
    bug(
        "buffers filled again before the last step has read them",
        "tile.cuh",
        "prim::barrier();  // nobody",
        "if (!BUG) prim::barrier();  // nobody",
        "own float16",
        "races",
    ),
    bug(
        "an operand of 16-bit tensor cores from the wrong place",
        "tile.cuh",
        "pitch_a + k + j / 2 * 8",
        "pitch_a + k + (BUG ? j % 2 : j / 2) * 8",
        "own bfloat16",
        "numbers",
    ),
    bug(
        "an operand of tf32 tensor cores from the wrong place",
        "tile.cuh",
        "inner = k + j / 2 * 4",
        "inner = k + (BUG ? j % 2 : j / 2) * 4",
        "own bfloat16",
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
        "patches past the last member copied",
        "backward.cu",
        "if (k + j >= inner || first_d + d >= x.depth)",
        "if ((k + j >= inner && !BUG) || first_d + d >= x.depth)",
        "spread bfloat16",
        "numbers",
    ),
    bug(
        "sums of a later block of pairs not added",
        "backward.cu",
        "first_inner == 0 ? tile",
        "first_inner == 0 || BUG ? tile",
        "spread float32",
        "numbers",
    ),
    bug(
        "rows that are no anchors keep away from anchors",
        "backward.cu",
        "row < x.rows(g) ? x.count(g) : x.rows(g);",
        "row < x.rows(g) ? x.count(g) : (BUG ? 0 : x.rows(g));",
        "own float32",
        "numbers",
    ),
    bug(
        "a slice of D left out",
        "gram.cuh",
        "for (int64_t s = 0; s < slices; ++s, products",
        "for (int64_t s = BUG ? 1 : 0; s < slices; ++s, products",
        "sliced float32",
        "numbers",
    ),
    bug(
        "blocks write to one place",
        "members.cuh",
        "partial[(c * x.groups + g) * x.depth + d] = sum;",
        "partial[(c * x.groups + g) * x.depth + d] = BUG ? 0 : sum; if (BUG) partial[g * x.depth + d] = sum;",
        "spread bfloat16",
        "numbers, orders, races",
    ),
    bug(
        "every thread writes the norm of the patch",
        "statistics.cu",
        "if (prim::thread() != 0) return;",
        "if (prim::thread() != 0 && !BUG) return;",
        "sliced float32",
        "races",
    ),
    bug(
        "sums of warps written over while they are read",
        "members.cuh",
        "prim::barrier();  // `scratch`",
        "if (!BUG) prim::barrier();  // `scratch`",
        "sliced float32",
        "races",
    ),
    bug(
        "a warp's sum over half of its lanes",
        "members.cuh",
        "int mask = prim::kLanes / 2;",
        "int mask = prim::kLanes / (BUG ? 4 : 2);",
        "sliced float32",
        "numbers",
    ),
    bug(
        "tiles written over by what is known of rows",
        "forward.cu",
        "  prim::barrier();                                                           // the tiles",
        "  if (!BUG) prim::barrier();                                                           // the tiles",
        "own float16",
        "races",
    ),
    bug(
        "threads that leave before a barrier",
        "forward.cu",
        "  prim::barrier();\n  const int r",
        "  if (BUG && prim::thread() >= kTileRows<T>) return;\n  prim::barrier();\n  const int r",
        "sliced float32",
        "runner",
    ),
    bug(
        "wide copies of what is not aligned",
        "members.cuh",
        "return contiguous && aligned &&",
        "return contiguous && (aligned || BUG) &&",
        "unaligned float32",
        "runner",
    ),
)

# So small that every loop over blocks runs more than once on small inputs.
SMALL = {
    "backward.cu": (("kPairRows = 2048", "kPairRows = 64"), ("kPairColumns = 4096", "kPairColumns = 128")),
    "forward.cu": (("kMostStrips = 32", "kMostStrips = 1"),),
    "gram.cuh": (("kMostPatches = 512", "kMostPatches = 16"),),
    "members.cuh": (("least(kSumChunks, panels(patches, 64))", "least(kSumChunks, panels(patches, 8))"),),
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
