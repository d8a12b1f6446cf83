"""`cgckit bids`: `cgckit refine` as BIDS-Apps are called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cgckit.cli import options
from cgckit.images.files import check_places

_SEVERAL = ("--participant-label", "--participant_label", "--session-label", "--session_label")


class BidsCommand(TyperCommand):
    """A command whose labels follow their option one after the other, as those of BIDS-Apps do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat such an option before each of its values: this is how it is read here."""
        spread: list[str] = []
        option = ""
        for word in args:
            if word.startswith("-"):
                option = word.replace("_", "-") if word in _SEVERAL else ""
                spread += [] if option else [word]
            else:
                spread += [option, word] if option else [word]
        return super().parse_args(ctx, spread)


def bids(
    bids_dir: Annotated[Path, typer.Argument(metavar="BIDS_DIR", help="The data set.", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUTPUT_DIR", help="Folder of the derivative.", show_default=False)],
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="participant: there is no other.", show_default=False)],
    participant_label: Annotated[
        list[str] | None,
        typer.Option("--participant-label", metavar="LABEL", help="Only these participants, with or without sub-."),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        typer.Option("--session-label", metavar="LABEL", help="Only these sessions, with or without ses-."),
    ] = None,
    filter_file: options.FilterFile = None,
    skip_bids_validation: Annotated[
        bool, typer.Option("--skip-bids-validation", help="Do not ask bids-validator whether the data set is valid.")
    ] = False,
    prior: options.Prior = "gmm",
    prior_option: options.PriorOptions = None,
    preset: options.Preset = "auto",
    set_: options.Set = None,
    brain: options.Brain = "auto",
    registration: options.Registration = "rigid",
    prepared: options.Prepared = "auto",
    modalities: options.Modalities = None,
    allow_missing: options.AllowMissing = False,
    device: options.Device = "auto",
    jobs: options.Jobs = 1,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Refine a BIDS data set, called as BIDS-Apps are: the same as `cgckit refine BIDS_DIR --out OUTPUT_DIR`.

    The network learns from all participants that are chosen, and is applied to them.

    Example:

        cgckit bids study/ study/derivatives/cgckit participant --participant-label 01 02 --skip-bids-validation
    """
    check_places([str(bids_dir)], out)  # before what takes seconds to import

    import cgckit
    from cgckit.cli.bids.validation import check_bids
    from cgckit.errors import UsageError
    from cgckit.images.cohort import Cohort
    from cgckit.images.layouts import Filters
    from cgckit.options import read_words

    if level != "participant":
        raise UsageError(f"level {level!r}: there is only participant, which makes the table of the group, too")
    check_bids(bids_dir, skip=skip_bids_validation)
    wanted = options.split_modalities(modalities)
    cohort = Cohort.find(
        bids_dir,
        wanted,
        allow_missing,
        filters=Filters() if filter_file is None else Filters.read(filter_file),
        participants=participant_label or (),
        sessions=session_label or (),
    )
    run = cgckit.refine(
        cohort,
        prior,
        out,
        preset=preset,
        settings=read_words(set_, "--set"),
        prior_options=prior_option or [],
        brain=brain,
        registration=registration,
        prepared=prepared,
        device=device,
        jobs=jobs,
        overwrite=overwrite,
        strict=strict,
        progress=not quiet,
    )
    for subject in run:
        print(subject.mask_path)
    options.tell_left_out(run)
