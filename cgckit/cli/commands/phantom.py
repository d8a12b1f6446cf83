"""`cgckit phantom`: write a simulated cohort with known lesions."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from cgckit.cli import options


class Kind(str, Enum):
    """What `--modality` takes."""

    MRI = "mri"
    CT = "ct"
    RAW = "raw"


def phantom(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", parser=options.read_path, help="Folder to write to; a phantom begun there is completed."
        ),
    ],
    subjects: Annotated[int, typer.Option(min=1, help="How many subjects.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another cohort.")] = 0,
    modality: Annotated[
        Kind,
        typer.Option(
            help="mri: FLAIR and T1 of stripped brains; ct: heads with bleeding; raw: FLAIR, T1 and T2 of whole heads, "
            "not aligned."
        ),
    ] = Kind.MRI,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Simulate scans with known lesions on real anatomy: FLAIR and T1, CT of the head, or raw MRI.

    Images go to OUT/images, reference masks to OUT/references, what was simulated to OUT/participants.tsv.

    Of raw scans, what perfect preparation would make of them goes to OUT/prepared, the brains to OUT/brains.

    Example: cgckit phantom phantom --subjects 6 --seed 0
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cgckit.jobs.console import bars_console
    from cgckit.phantom import write_cohort

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=bars_console(), transient=True, disable=quiet) as bar:
        task = bar.add_task("Simulating", total=subjects)
        images = write_cohort(out, subjects, seed, lambda _: bar.advance(task), modality.value)
    what = {Kind.CT: "CT of the head", Kind.MRI: "FLAIR and T1", Kind.RAW: "FLAIR, T1 and T2 of whole heads"}[modality]
    typer.echo(f"{images}: {subjects} subjects, {what}; references in {out / 'references'}")
