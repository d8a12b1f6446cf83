"""`cgckit dicom`: a tree of DICOM files in, a cohort of NIfTI files out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgckit.cli import options
from cgckit.cli.exchange.bars import waiting_bars
from cgckit.cli.exchange.tools import require
from cgckit.errors import LeftOutError

if TYPE_CHECKING:
    from cgckit.dicom.importing import Progress


def dicom(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="DICOM files of any names, series and patients.", show_default=False),
    ],
    out: options.Out,
    mapping: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=options.read_path,
            help="Write who is who to this file, outside of --out; labels that it has already stay.",
            show_default=False,
        ),
    ] = None,
    series: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            parser=options.read_path,
            help="A series.tsv in which you corrected what a series shows, and whether it is taken.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an import of other files left in --out.")
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Turn DICOM into NIfTI that refine reads: one image of each weighting for every person and study.

    What a series shows is read from its numbers (TR, TE, TI, flip angle); series.tsv says what was taken and why.
    No name, identifier, date or text of a header is written. An interrupted import goes on when it is called again.

    Examples:

        cgckit dicom export/ --out scans/

        cgckit dicom export/ --out scans/ --mapping secret/who.tsv
    """
    from cgckit.cli.tables import show_table

    require("pydicom", "dcm2niix", extra="dicom")
    from cgckit.dicom import import_dicom

    with _bars(not quiet) as show:
        done = import_dicom(folder, out, mapping=mapping, series=series, overwrite=overwrite, progress=show)
    rows = [
        {
            "file": name,
            "series": str(candidate.stack.first.number),
            "told by": candidate.finding.why,
            "voxels mm": " x ".join(f"{edge:.3g}" for edge in candidate.stack.edges),
            "note": "; ".join(candidate.notes),
        }
        for name, candidate in sorted(done.files.items())
    ]
    count = len(done.candidates)
    show_table(rows, title=f"{len(rows)} of {count} series taken into {done.out}; series.tsv says why of each")
    lost, unreadable = len(done.lost), len(done.tree.unreadable)
    if lost or unreadable:
        parts = [f"{lost} images could not be taken"] * bool(lost) + [f"{unreadable} files not read"] * bool(unreadable)
        raise LeftOutError(f"{' and '.join(parts)}; see above and {done.out / 'series.tsv'}")


@contextmanager
def _bars(enabled: bool) -> Iterator[Progress]:
    """Progress bars on stderr, one for each thing that is begun."""
    with waiting_bars(enabled) as bars:

        @contextmanager
        def show(what: str, total: int) -> Iterator[Callable[[], None]]:
            bars.start()
            task = bars.add_task(what, total=total, note="")
            yield lambda: bars.advance(task)

        yield show
