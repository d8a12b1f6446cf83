"""`cgckit table1`."""

from __future__ import annotations

from typing import Annotated

import typer

from cgckit.cli import options
from cgckit.cli.experiments import common
from cgckit.errors import LeftOutError


def table1(
    cohort: common.Cohort,
    out: options.Out,
    references: common.References = None,
    rows: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="Rows: a prior, as gmm; refined, as ours:gmm; plain:gmm; network:gmm; supervised; nnunet:EPOCHS; "
            "paper; all.",
        ),
    ] = "all",
    prior_option: Annotated[
        list[str] | None,
        typer.Option(
            "--prior-option",
            metavar="KEY=VALUE",
            help="An option of all priors that have it, or NAME.KEY=VALUE of one; may be repeated.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Cross-validate by person; by default train and score on the whole cohort."),
    ] = None,
    label: common.Label = None,
    preset: options.Preset = "auto",
    set_: options.Set = None,
    brain: options.Brain = "auto",
    brain_option: options.BrainOptions = None,
    modalities: options.Modalities = None,
    device: options.Device = "auto",
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Priors that are worked on at once; they share the cores.")
    ] = 1,
    overwrite: common.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure the paper's Table 1 on a cohort with references: every prior alone, and refined.

    By default all rows are measured: the supervised network (which uses labels, and
    no other row does), every installed prior alone and refined, and a network that
    copies the mixture. Each refined prior is a training. `paper` are the paper's
    rows alone. nnU-Net, where it is installed, is a row if its epochs are given.

    A row that fails says why, and the others go on; the exit code is 6 then.
    An interrupted command goes on when it is given again, and takes further rows.

    Examples:

        cgckit table1 brats/ --out table1/

        cgckit table1 scans/ references/ --rows gmm,ours:gmm,ae,ours:ae --prior-option ae.steps=500 --out table1/

        cgckit table1 brats/ --rows paper --folds 5 --jobs 4 --out table1/
    """
    from cgckit.cli.tables import show_table
    from cgckit.experiments.table_one import left_out, texts
    from cgckit.experiments.table_one import table1 as run
    from cgckit.images.brain import resolve_brain
    from cgckit.options import read_words

    table = run(
        cohort,
        references or common.beside(cohort),
        out,
        rows=rows.split(","),
        labels=label or (),
        prior_options=prior_option or [],
        preset=preset,
        settings=read_words(set_, "--set"),
        brain=resolve_brain(brain, brain_option or ()),
        modalities=options.split_modalities(modalities),
        device=device,
        folds=folds,
        jobs=jobs,
        overwrite=overwrite,
        progress=not quiet,
    )
    show_table(texts(table.rows), table.heading)
    for line in left_out(table.rows):
        print(line)
    print(", ".join(str(out / name) for name in ("results.jsonl", "table1.tsv", "table1.md", "table1.png")))
    if table.failed:
        raise LeftOutError(
            f"{len(table.failed)} of {len(table.rows)} rows left out ({', '.join(table.failed)}); table1.tsv says why"
        )
