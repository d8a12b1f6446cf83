"""The main job: scans and a prior in, refined masks and probability maps out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cgckit.cgc.settings import InferenceSettings, Settings, TrainingSettings
from cgckit.cgc.training import assist
from cgckit.images.brain import BrainExtractor
from cgckit.images.registration import Registration
from cgckit.nets.team import Team
from cgckit.pipeline.inputs import Inputs, choose_device
from cgckit.pipeline.refinement import Refinement
from cgckit.pipeline.result import Run
from cgckit.priors.base import Prior


def refine(
    inputs: Inputs,
    prior: str | Prior = "gmm",
    out: str | Path = "cgckit-out",
    *,
    preset: str = "auto",
    settings: Settings | TrainingSettings | InferenceSettings | Mapping[str, object] | Sequence[str] | None = None,
    prior_options: Sequence[str] | Mapping[str, object] = (),
    brain: str | BrainExtractor = "auto",
    registration: str | Registration = "rigid",
    prepared: str | Path | Mapping[str, str] = "auto",
    own_grids: bool = False,
    modalities: Sequence[str] | None = None,
    allow_missing: bool = False,
    exclude: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    jobs: int = 1,
    scheduler: str | None = None,
    stage: str | None = None,
    shard: str | None = None,
    overwrite: bool = False,
    strict: bool = True,
    progress: bool = False,
    config: str | None = None,
) -> Run:
    """Train the CGC network on a prior's pseudo-labels and write refined masks for every scan. No label is used.

    An interrupted call continues when it is made again with the same arguments, to the same masks if the number of
    threads is the same: priors are cached, training is checkpointed, finished subjects are kept. A call with other
    inference settings takes the trained model and makes the maps anew.

    Among processes that `torchrun` started, the first does all of it, and the others help with the training: each draws
    a batch, so that a step has as many batches as there are processes. They return a run without subjects.

    Args:
        inputs: a cohort, or what `Cohort.find` takes: files, a folder of subjects, a table.
        prior: a `Prior`, or a name as on the command line: "gmm", "mumford-shah", "mask:PATTERN", "FILE.py:Class",
            "a+b".
        out: folder of the outputs, named as BIDS derivatives.
        preset: "light", "paper", or "auto", which is "light" with more steps for large cohorts.
        settings: all settings, or one half of them, in place of a preset's; or values that replace some of the
            preset's, by name or as "KEY=VALUE" words.
        prior_options: options of a prior given by name.
        brain: how the brain is found where no mask is given: a `BrainExtractor`, a registered name or "FILE.py:Class".
        registration: how scans that are not prepared are aligned: a `Registration`, a registered name or
            "FILE.py:Class".
        prepared: "auto" to find out which scans are aligned and stripped already, "yes" to take all as they lie, "no"
            to align all; or what holds of each subject: a mapping, or a table (.tsv) of the columns subject and
            prepared.
        own_grids: write refined masks on the grid of every other scan of a subject too.
        modalities: use only these, in this order.
        allow_missing: accept subjects that lack a modality; the channel is zero then.
        exclude: a table of subjects to leave out, as the ratings that a report exports: see
            `cgckit.jobs.ratings.Ratings`.
        seed: of initialisation and sampling; equal seeds give equal masks on a CPU with as many threads.
        device: "auto", "cpu", "cuda" or "cuda:N".
        jobs: number of processes that subjects are worked on with, fewer if memory is short; each has as many threads
            as this one, fewer if the cores do not suffice. Training, and maps on a GPU, are made by this process.
        scheduler: address of a dask scheduler, as "tcp://node1:8786", whose workers do what `jobs` would; they must see
            the same files under the same names.
        stage: "prior", "train" or "infer": take this step alone, and write no tables. The call without a stage takes
            the steps that are left, writes the tables and completes the run.
        shard: "i/n": the i-th of n shares of the subjects, in stages "prior" and "infer", on which several processes
            may be at work at once.
        overwrite: start over: remove what runs left in `out`, cached priors too.
        strict: let a subject that cannot be used end the run; else it is left out, see `Run.left_out`.
        progress: show progress bars on stderr.
        config: text that is kept in the folder as `config.toml`: the options that the command line gave.

    Raises:
        UsageError: unknown prior, option, preset or setting, a seed below 0, jobs below 1, no scheduler, stage or
            shard; or `out` holds another run, an input, or files that are not cgckit's, or another run is at work
            there; or the stage "infer" comes before there is a model.
        BadInputError: a file that cannot be used, or an `out` that cannot be written.
        DegeneratePriorError: no subject has a usable prior.
        CgckitError: training diverged.
        PluginError: a plug-in failed.
    """
    team = Team.of_environment()
    with team.joined():
        if not team.leads:
            assist(team, choose_device(team.device(device)))
            return Run(Path(out), ())
        run = Refinement.of(
            inputs,
            prior,
            out,
            preset=preset,
            settings=settings,
            prior_options=prior_options,
            brain=brain,
            registration=registration,
            prepared=prepared,
            own_grids=own_grids,
            modalities=modalities,
            allow_missing=allow_missing,
            exclude=exclude,
            seed=seed,
            device=device,
            jobs=jobs,
            scheduler=scheduler,
            stage=stage,
            shard=shard,
            overwrite=overwrite,
            strict=strict,
            team=team,
            config=config,
        )
        return run.start(overwrite=overwrite, progress=progress)
