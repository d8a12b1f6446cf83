"""`cgckit refine`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cgckit.cli import options
from cgckit.cli.config import config_text
from cgckit.cli.plan import show_plan
from cgckit.images.files import check_places


def refine(
    context: typer.Context,
    inputs: options.Inputs,
    out: options.Out,
    prior: options.Prior = "gmm",
    prior_option: options.PriorOptions = None,
    preset: options.Preset = "auto",
    set_: options.Set = None,
    brain: options.Brain = "auto",
    brain_option: options.BrainOptions = None,
    registration: options.Registration = "rigid",
    registration_option: options.RegistrationOptions = None,
    prepared: options.Prepared = "auto",
    own_grids: options.OwnGrids = False,
    modalities: options.Modalities = None,
    filter_file: options.FilterFile = None,
    allow_missing: options.AllowMissing = False,
    exclude: options.Exclude = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Equal seeds give equal masks on a CPU, with the same number of threads.")
    ] = 0,
    device: options.Device = "auto",
    jobs: options.Jobs = 1,
    scheduler: options.Scheduler = None,
    stage: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="prior, train or infer: take this step alone; see --shard."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="i/n", help="The i-th of n shares of the subjects, for stages prior and infer."),
    ] = None,
    config: options.Config = None,
    dry_run: options.DryRun = False,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train on a prior's guess and write refined masks and probabilities for every scan. No label is used.

    An interrupted run goes on when the same command is given again. `cgckit report` shows what came of it. With
    another inference setting (see `cgckit presets`) the trained model is taken and the maps are made anew.

    Examples:

        cgckit refine scans/ --prior mumford-shah --out refined/

        cgckit refine scans/ --prior mumford-shah --out refined/ --dry-run

        cgckit refine scans/ --prior 'mask:rough/{subject}.nii.gz' --out refined/ --set steps=1000

        cgckit refine scans/ --exclude ratings.tsv --out without-bad-scans/

        cgckit refine --config refined/config.toml --seed 1 --out another-seed/
    """
    check_places(inputs, out)  # before what takes seconds to import

    import cgckit
    from cgckit.cli.tables import show_table
    from cgckit.images.brain import resolve_brain
    from cgckit.images.registration import resolve_registration
    from cgckit.nets.team import Team
    from cgckit.options import read_words

    wanted = options.split_modalities(modalities)
    asked: dict[str, Any] = {
        "inputs": options.filtered(inputs, filter_file, wanted, allow_missing),
        "prior": prior,
        "out": out,
        "preset": preset,
        "settings": read_words(set_, "--set"),
        "prior_options": prior_option or [],
        "brain": resolve_brain(brain, brain_option or ()),
        "registration": resolve_registration(registration, registration_option or ()),
        "prepared": prepared,
        "own_grids": own_grids,
        "modalities": wanted,
        "allow_missing": allow_missing,
        "exclude": exclude,
        "seed": seed,
        "device": device,
        "jobs": jobs,
        "scheduler": scheduler,
        "stage": stage,
        "shard": shard,
        "overwrite": overwrite,
        "strict": strict,
        "progress": not quiet,
        "config": config_text(context),
    }
    if dry_run:
        from cgckit.pipeline.refinement import plan_refinement

        if Team.of_environment().leads:
            show_plan(plan_refinement(**asked))
        return
    result = cgckit.refine(**asked)
    if not Team.of_environment().leads:
        return
    if stage is not None:
        what = f"stage {stage}" + (f", shard {shard}" if shard else "")
        print(f"{what}: done; `cgckit refine` without a stage completes the run in {result.out}")
        options.tell_left_out(result)
        return
    rows = [
        {
            "subject": row.source,
            "prior ml": f"{row.prior_ml:.1f}",
            "refined ml": f"{row.refined_ml:.1f}",
            "changed ml": f"{row.changed_ml:.1f}",
            "note": (row.degenerate and f"prior excluded: {row.degenerate}") or "; ".join(row.remarks),
        }
        for row in result.subjects
    ]
    show_table(rows, title=f"{len(rows)} subjects refined into {result.out}")
    options.tell_left_out(result)
