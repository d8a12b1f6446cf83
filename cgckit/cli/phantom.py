"""`cgckit phantom`: write a simulated cohort with known lesions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to; a phantom begun there is completed.")],
    subjects: Annotated[int, typer.Option(min=1, help="How many subjects.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another cohort.")] = 0,
) -> None:
    """Simulate FLAIR and T1 with known lesions on real anatomy.

    Images go to OUT/images, reference masks to OUT/references, what was simulated to OUT/participants.tsv.

    Example: cgckit phantom phantom --subjects 6 --seed 0
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cgckit.phantom import write_cohort

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Simulating", total=subjects)
        images = write_cohort(out, subjects, seed, progress=lambda _: bar.advance(task))
    typer.echo(f"{images}: {subjects} subjects, FLAIR and T1; references in {out / 'references'}")
