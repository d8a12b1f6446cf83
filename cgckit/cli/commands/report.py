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
            help="The folder of the pages; by default report in FOLDER.",
            show_default=False,
            metavar="DIR",
            parser=options.read_path,
        ),
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write pages about a run that open offline: one of the group, and one of each subject with a viewer.

    Open index.html in a browser: volumes, remarks and outliers of all subjects, ratings to be exported, and for each
    subject three planes with prior, refined mask, probability and uncertainty. The folder may be moved as a whole.

    Example:

        cgckit report refined/
    """
    from cgckit.report.write import write_report

    print(write_report(folder, out, progress=not quiet))
