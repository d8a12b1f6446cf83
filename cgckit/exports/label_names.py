"""Names and colours of the labels, in the files that ITK-SNAP and 3D Slicer read."""

from __future__ import annotations

from pathlib import Path

from cgckit.atomic import atomic_write
from cgckit.exports.folder import export_folder

# Value, name, red, green, blue: of masks, and of what is exported for nnU-Net.
LABELS = [(1, "lesion", 255, 176, 0), (2, "not trusted", 38, 198, 255)]


def write_label_names(out: Path) -> list[Path]:
    """Write `itksnap.txt` (Segmentation > Import Label Descriptions) and `slicer.ctbl` (a colour table) into a folder.

    Raises:
        UsageError: the folder holds something else.
        BadInputError: it cannot be written.
    """
    texts = {"itksnap.txt": _itksnap(), "slicer.ctbl": _slicer()}
    with export_folder(out, "labels", []) as ledger:
        paths = [out / name for name in texts]
        ledger.intend(paths)
        for path, lines in zip(paths, texts.values(), strict=True):
            with atomic_write(path) as temporary:
                temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        ledger.record(paths)
    return paths


def _itksnap() -> list[str]:
    """Index, colour, opacity, whether it is shown, whether it has a mesh, name."""
    rows = [(0, "Clear Label", 0, 0, 0), *LABELS]
    lines = []
    for value, name, red, green, blue in rows:
        shown = int(value > 0)
        lines.append(f'{value:5d} {red:5d} {green:4d} {blue:4d} {shown:8d} {shown:2d} {shown:2d}    "{name}"')
    return ["# ITK-SNAP label description file", *lines]


def _slicer() -> list[str]:
    """Index, name without spaces, colour, opacity."""
    rows = [(0, "background", 0, 0, 0), *LABELS]
    lines = [f"{row[0]} {row[1].replace(' ', '_')} {row[2]} {row[3]} {row[4]} {255 * (row[0] > 0)}" for row in rows]
    return ["# Colour table of cgckit for 3D Slicer", *lines]
