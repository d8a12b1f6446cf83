"""`cgckit prepare`: raw heads in, aligned brains out."""

from __future__ import annotations

from cgckit.cli import options
from cgckit.images.files import check_places


def prepare(
    inputs: options.Inputs,
    out: options.Out,
    brain: options.Brain = "auto",
    brain_option: options.BrainOptions = None,
    registration: options.Registration = "rigid",
    registration_option: options.RegistrationOptions = None,
    prepared: options.Prepared = "auto",
    modalities: options.Modalities = None,
    filter_file: options.FilterFile = None,
    allow_missing: options.AllowMissing = False,
    jobs: options.Jobs = 1,
    scheduler: options.Scheduler = None,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Align each subject's scans, find the brain, and write them stripped on the grid of the first, FLAIR if there.

    refine, prior and predict do the same by themselves, where it is needed; this shows it, and serves other programs.

    Examples:

        cgckit prepare raw/ --out prepared/

        cgckit refine prepared/prepared.tsv --out refined/
    """
    check_places(inputs, out)  # before what takes seconds to import

    import cgckit
    from cgckit.cli.tables import show_table
    from cgckit.images.brain import resolve_brain
    from cgckit.images.registration import resolve_registration

    wanted = options.split_modalities(modalities)
    run = cgckit.prepare(
        options.filtered(inputs, filter_file, wanted, allow_missing),
        out,
        brain=resolve_brain(brain, brain_option or ()),
        registration=resolve_registration(registration, registration_option or ()),
        prepared=prepared,
        modalities=wanted,
        allow_missing=allow_missing,
        jobs=jobs,
        scheduler=scheduler,
        overwrite=overwrite,
        strict=strict,
        progress=not quiet,
    )
    rows = [
        {"subject": subject.source, "what was done": "; ".join(subject.remarks) or "it was prepared"} for subject in run
    ]
    show_table(rows, title=f"{len(rows)} subjects prepared in {run.out}")
    options.tell_left_out(run)
