"""`cgckit ablate`."""

from __future__ import annotations

from typing import Annotated

import typer

from cgckit.cli import options
from cgckit.cli.experiments import common


def ablate(
    cohort: common.Cohort,
    out: options.Out,
    references: common.References = None,
    prior: options.Prior = "gmm",
    prior_option: options.PriorOptions = None,
    arms: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Arms, or paths, patches, temperatures, bounds; the prior is always one."),
    ] = None,
    seeds: common.Seeds = "0",
    folds: Annotated[int, typer.Option(min=2, help="Folds of what is cross-validated.")] = 5,
    hold_out: Annotated[
        bool, typer.Option("--hold-out", help="Cross-validate every arm, not only the supervised bound.")
    ] = False,
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
    """Measure what each part of the method adds: the paper's ablations on a cohort with references.

    Arms: prior; appearance (the prior with the subject's own appearance model,
    no network); plain (self-training: a network that copies the prior); network
    (the preset without contrast), coarse, fine, both; three patch sizes; six
    temperatures; and two bounds, the only ones that use labels: oracle (the prior
    cut at each subject's best threshold) and supervised (the same network trained
    on the references).

    An interrupted ablation goes on when the command is given again, and takes
    further arms and seeds.

    Examples:

        cgckit ablate brats/ --prior gmm --out ablation/

        cgckit ablate scans/ references/ --out ablation/ --arms paths,bounds --seeds 0,1
    """
    from cgckit.experiments.commands import ablate as run
    from cgckit.experiments.experiment import Experiment
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
        hold_out=hold_out,
        overwrite=overwrite,
    )
    names = None if arms is None else [name.strip() for name in arms.split(",")]
    rows = run(experiment, names, chosen, progress=not quiet)
    scored = "held-out subjects" if hold_out else "the subjects trained on, without labels"
    common.show_rows(rows, f"{common.count(rows)}; scored on {scored}")
    print(f"{out / 'results.jsonl'}, {out / 'table.tsv'}, {out / 'ablation.png'}")
