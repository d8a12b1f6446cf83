"""`cgckit clean`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cgckit.cli import options


def clean(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER", help="Output folder of refine, predict, prior or prepare.", show_default=False
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Clean a run that is not complete, which then starts over.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Remove caches and checkpoints of complete runs, and say how much that was. Masks, maps, model and tables stay.

    The run can be reported, evaluated and predicted with as before, and its command finds everything done; with
    another setting of inference it has to compute the priors again.

    Example:

        cgckit clean refined/
    """
    from cgckit.pipeline.workspace.cleaning import clean as remove

    for folder in folders:
        print(f"{folder}: {remove(folder, force=force) / 1e6:.1f} MB removed")
