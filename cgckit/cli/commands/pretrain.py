"""`cgckit pretrain`: train the starting network anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cgckit.cli import options


def pretrain(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            parser=options.read_path,
            help="Folder for the weights; simulated subjects and checkpoint are kept there.",
        ),
    ],
    subjects: Annotated[int, typer.Option(min=1, help="How many subjects are simulated, 5 MB each.")] = 800,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the training.")] = 3200,
    seed: Annotated[int, typer.Option(min=0, help="Of simulation and training.")] = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train the starting network on simulated lesions in simulated scans of random contrast; no scan is used.

    The network that comes with cgckit was made by the first example. An interrupted call goes on where it was when
    it is made again.

    Examples:

        cgckit pretrain starting/

        cgckit pretrain trial/ --subjects 100 --steps 500
    """
    from cgckit.jobs.console import progress_bars
    from cgckit.lock import locked
    from cgckit.pipeline.inputs import choose_device
    from cgckit.pretraining import write_starting_network

    where = choose_device(device)
    with locked(out), progress_bars(not quiet) as bars:
        task = bars.add_task("pre-training", total=steps, note="")
        path = write_starting_network(
            out,
            subjects=subjects,
            steps=steps,
            seed=seed,
            device=where,
            on_step=lambda index, scalars: bars.update(
                task, completed=index + 1, note=f"loss {scalars['loss']:.3f}, Dice {scalars['dice']:.3f}"
            ),
        )
    print(path)
