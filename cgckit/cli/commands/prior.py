"""`cgckit prior`."""

from __future__ import annotations

from cgckit.cli import options
from cgckit.images.files import check_places


def prior(
    inputs: options.Inputs,
    out: options.Out,
    prior: options.Prior = "gmm",
    prior_option: options.PriorOptions = None,
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
    """Compute the prior maps alone and say how healthy they are.

    Example:

        cgckit prior scans/ --prior gmm --out priors/
    """
    check_places(inputs, out)  # before what takes seconds to import

    from cgckit.images.brain import resolve_brain
    from cgckit.images.registration import resolve_registration
    from cgckit.pipeline.compute_priors import compute_priors

    wanted = options.split_modalities(modalities)
    run = compute_priors(
        options.filtered(inputs, filter_file, wanted, allow_missing),
        prior,
        out,
        prior_options=prior_option or [],
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
    for subject in run:
        print(subject.probability_path)
    options.tell_left_out(run)
