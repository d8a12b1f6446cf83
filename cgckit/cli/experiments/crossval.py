"""`cgckit crossval`."""

from __future__ import annotations

from typing import Annotated

import typer

from cgckit.cli import options
from cgckit.cli.experiments import common


def crossval(
    cohort: common.Cohort,
    out: options.Out,
    references: common.References = None,
    prior: options.Prior = "gmm",
    prior_option: options.PriorOptions = None,
    folds: Annotated[int, typer.Option(min=2, help="How many; at most one for each subject.")] = 5,
    seeds: common.Seeds = "0",
    label: common.Label = None,
    preset: options.Preset = "auto",
    set_: options.Set = None,
    brain: options.Brain = "auto",
    brain_option: options.BrainOptions = None,
    modalities: options.Modalities = None,
    device: options.Device = "auto",
    overwrite: common.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Cross-validate at subject level: train without labels on the other folds, score the held-out subjects.

    Held-out subjects are refined as `cgckit refine` would with that model;
    "network alone" is the network's own map, without their prior and their
    appearance. An interrupted command goes on when it is given again.

    Examples:

        cgckit crossval brats/ --folds 5 --prior gmm --out crossval/

        cgckit crossval scans/ references/ --seeds 0,1 --out crossval/
    """
    from cgckit.cli.tables import show_table
    from cgckit.experiments.commands import crossval as run
    from cgckit.experiments.experiment import Experiment
    from cgckit.experiments.table import by_subject
    from cgckit.images.brain import resolve_brain
    from cgckit.options import read_words

    chosen = common.split_seeds(seeds)
    experiment = Experiment.find(
        cohort,
        references or common.beside(cohort),
        prior,
        out,
        labels=label or (),
        prior_options=prior_option or [],
        preset=preset,
        settings=read_words(set_, "--set"),
        brain=resolve_brain(brain, brain_option or ()),
        modalities=options.split_modalities(modalities),
        device=device,
        folds=folds,
        hold_out=True,
        overwrite=overwrite,
    )
    rows = run(experiment, chosen, progress=not quiet)
    show_table(by_subject(rows), title="Held-out subjects, one by one: Dice and ASSD [mm]")
    common.show_rows(rows, common.count(rows))
    print(f"{out / 'results.jsonl'}, {out / 'table.tsv'}")
