"""`cgckit predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cgckit.cli import options
from cgckit.images.files import check_places


def predict(
    inputs: options.Inputs,
    model: Annotated[
        Path, typer.Option(help="Output folder of `cgckit refine`, or the model folder in it.", show_default=False)
    ],
    out: options.Out,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace an inference setting of the model; may be repeated."),
    ] = None,
    brain: options.Brain = "auto",
    brain_option: options.BrainOptions = None,
    registration: options.Registration = "rigid",
    registration_option: options.RegistrationOptions = None,
    prepared: options.Prepared = "auto",
    own_grids: options.OwnGrids = False,
    filter_file: options.FilterFile = None,
    allow_missing: options.AllowMissing = False,
    device: options.Device = "auto",
    jobs: options.Jobs = 1,
    scheduler: options.Scheduler = None,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Segment new scans with a model that `cgckit refine` trained.

    Examples:

        cgckit predict new-scans/ --model refined/ --out predicted/

        cgckit predict new-scans/ --model refined/ --out predicted/ --set uncertainty_views=8
    """
    check_places(inputs, out)  # before what takes seconds to import

    import cgckit
    from cgckit.images.brain import resolve_brain
    from cgckit.images.registration import resolve_registration
    from cgckit.options import read_words

    run = cgckit.predict(
        options.filtered(inputs, filter_file, None, True),
        model,
        out,
        settings=read_words(set_, "--set"),
        brain=resolve_brain(brain, brain_option or ()),
        registration=resolve_registration(registration, registration_option or ()),
        prepared=prepared,
        own_grids=own_grids,
        allow_missing=allow_missing,
        device=device,
        jobs=jobs,
        scheduler=scheduler,
        overwrite=overwrite,
        strict=strict,
        progress=not quiet,
    )
    for subject in run:
        print(subject.mask_path)
    options.tell_left_out(run)
