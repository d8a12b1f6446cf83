"""`cgckit predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cgckit.cli import options


def predict(
    inputs: options.Inputs,
    model: Annotated[
        Path, typer.Option(help="Output folder of `cgckit refine`, or the model folder in it.", show_default=False)
    ],
    out: options.Out,
    allow_missing: options.AllowMissing = False,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Segment new scans with a model that `cgckit refine` trained.

    Example:

        cgckit predict new-scans/ --model refined/ --out predicted/
    """
    import cgckit

    masks = cgckit.predict(
        inputs,
        model,
        out,
        allow_missing=allow_missing,
        device=device,
        overwrite=overwrite,
        progress=not quiet,
    )
    for path in masks.values():
        print(path)
