"""`cgckit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cgckit.cli import options


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Output folder of refine, predict or prior.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The HTML file; by default report.html in the folder.",
            show_default=False,
            metavar="FILE",
            parser=options.read_path,
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Write a page about a run that opens offline: slices with contours, volumes, health and remarks of each subject.

    Example:

        cgckit report refined/
    """
    from cgckit.derivatives import REPORT
    from cgckit.report.page import write_page

    path = folder / REPORT if out is None else out
    write_page(folder, path, progress=not quiet)
    print(path)
