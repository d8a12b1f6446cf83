"""The main job: scans and a prior in, refined masks and probability maps out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from rich.progress import Progress

from cgckit.cgc.model import Model
from cgckit.cgc.settings import InferenceSettings, Settings, TrainingSettings, choose_settings
from cgckit.cgc.training import assist
from cgckit.errors import UsageError
from cgckit.images.brain import BrainExtractor
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.preparation import Preparation
from cgckit.images.registration import Registration
from cgckit.jobs import LeftOut, Part, Ratings, Workers, usable
from cgckit.jobs.console import progress_bars
from cgckit.nets.loop import check_seeds
from cgckit.nets.team import Team
from cgckit.pipeline.engine import WARNING, Engine, PriorStep, RefineStep
from cgckit.pipeline.health import Health
from cgckit.pipeline.inputs import Inputs, choose_device, find_cohort, output_folder
from cgckit.pipeline.prior_maps import PriorMaps
from cgckit.pipeline.provenance import dependencies, machine, run_key, versions
from cgckit.pipeline.result import Run, SubjectResult, prior_results, tables_of
from cgckit.pipeline.workspace import Workspace
from cgckit.priors.base import Prior
from cgckit.priors.resolve import resolve_prior

logger = logging.getLogger(__name__)
T = TypeVar("T")


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
        check_seeds([seed])
        workers, part = Workers.of(jobs, scheduler), Part.of(stage, shard)
        if overwrite and part.is_shared:
            raise UsageError("--overwrite would remove what the processes of other shards do: give it without a stage")
        source = resolve_prior(prior, prior_options)
        preparation = Preparation.of(brain, registration, prepared)
        where = choose_device(team.device(device))
        left_out = LeftOut(strict)
        ratings = None if exclude is None else Ratings.read(exclude)
        cohort = find_cohort(
            inputs, modalities, allow_missing, preparation, left_out=left_out, prior=source, ratings=ratings
        )
        folder = output_folder(out, inputs, cohort, source, left_out)
        name, chosen = choose_settings(preset, settings, cohort_size=len(cohort))
        depends = dependencies(cohort, preparation, source, seed=seed, training=chosen.training.to_json())
        key = run_key(depends)
        made_of = {"run": key, "inference": chosen.inference.to_json()} | ({"own_grids": True} if own_grids else {})
        workspace = Workspace(folder, key, run_key(made_of), config)
        preparation = preparation.kept_in(workspace.prepared)
        depends["options"] |= {"preset": name, "inference": chosen.inference.to_json()}
        workers = workers.for_subjects(part.share(cohort))
        facts = {**depends, "machine": machine(where), "training": {}, "seconds": {}}
        if ratings is not None:
            facts["excluded"] = ratings.excluded
        maps = PriorMaps(source, cohort, workspace.priors, preparation, files=depends["prior_files"])
        engine = Engine(cohort.modalities, preparation, where, maps, team, own_grids)
        run = _Refinement(cohort, engine, maps, workspace, chosen, seed, facts, left_out, workers, part)
        with workspace.session(cohort, facts, workers, part, overwrite=overwrite), progress_bars(progress) as bars:
            return run.execute(bars)


class _Refinement:
    """The steps of one run, in order."""

    def __init__(
        self,
        cohort: Cohort,
        engine: Engine,
        maps: PriorMaps,
        workspace: Workspace,
        settings: Settings,
        seed: int,
        facts: dict[str, Any],
        left_out: LeftOut,
        workers: Workers,
        part: Part,
    ) -> None:
        self.workers, self.part = workers, part
        self.cohort, self.engine, self.maps, self.workspace = cohort, engine, maps, workspace
        self.settings, self.seed, self.facts, self.left_out = settings, seed, facts, left_out

    def execute(self, bars: Progress) -> Run:
        """Take every step that is not done yet, or that of a part of the run."""
        stage, out = self.part.stage, self.workspace.out.root
        noun = "subject" if len(self.cohort) == 1 else "subjects"
        logger.info("%d %s with %s", len(self.cohort), noun, ", ".join(self.cohort.modalities))
        reports = self._timed("priors", self._compute_priors, bars)
        if stage == "prior":
            return Run(
                out,
                prior_results(self.workspace.out, self.maps.name, self.cohort, reports),
                {},
                self.left_out.reasons(),
            )
        if stage == "infer":
            model, training = self._trained()
        else:
            model, training = self._timed("training", self._train, usable(self.cohort, reports), bars)
            self.facts["training"] = training
        self.engine.team.release()
        if stage == "train":
            return Run(out, (), training, self.left_out.reasons())
        subjects = self._timed("inference", self._segment, model, reports, bars)
        if stage is None:
            self.workspace.write_tables(tables_of(self.cohort, subjects, self.left_out))
        return Run(out, subjects, training, self.left_out.reasons())

    def _timed(self, stage: str, do: Callable[..., T], *arguments: Any) -> T:
        """Note how long a stage took, if there was anything to do in it."""
        started = time.monotonic()
        result = do(*arguments)
        if stage in self.workspace.worked:
            self.facts["seconds"][stage] = round(time.monotonic() - started, 2)
        return result

    def _compute_priors(self, bars: Progress) -> dict[str, dict[str, Any]]:
        """Prior map, brain mask and training example of each subject; gives each prior's report."""
        step = PriorStep(self.workspace.out, self.engine, self.maps, self.workspace.scratch, self.settings)
        return self.workspace.over(step, self.part.share(self.cohort), self.workers, bars, self.left_out)

    def _trained(self) -> tuple[Model, dict[str, Any]]:
        with self.workspace.alone():
            found = self.engine.trained(self.settings, self.workspace.key, self.workspace.model)
        if found is None:
            raise UsageError(f"{self.workspace.model}: nothing is trained yet; take the stage train first")
        return found

    def _train(self, subjects: Sequence[Subject], bars: Progress) -> tuple[Model, dict[str, Any]]:
        model, training, new = self.engine.train(
            subjects,
            self.settings,
            seed=self.seed,
            key=self.workspace.key,
            folder=self.workspace.model,
            scratch=self.workspace.scratch,
            bars=bars,
            provenance={"versions": versions(), "prior": self.facts["options"]["prior"]},
        )
        if new:
            self.workspace.worked.add("training")
        return model, training

    def _segment(
        self, model: Model, reports: Mapping[str, Mapping[str, Any]], bars: Progress
    ) -> tuple[SubjectResult, ...]:
        """Refined probability and mask of each subject, and what became of it."""
        step = RefineStep(self.workspace.out, self.engine, self.maps, model)
        found = self.workspace.over(
            step,
            usable(self.cohort, reports),
            self.workers if self.engine.device.type == "cpu" else Workers.of(1),
            bars,
            self.left_out,
            self.workspace.maps_key,
        )
        out = self.workspace.out
        results = []
        slow = self._is_unconverged([outcome["learnt"] for outcome in found.values()])
        for subject in usable(self.cohort, found):
            report, outcome = reports[subject.label], dict(found[subject.label])
            health = Health.from_json(report["health"])
            unlearnt = self._unlearnt(outcome["learnt"]) if slow else []
            doubts = (*unlearnt, *outcome.pop("remarks"), *health.remarks)
            remarks = (*subject.remarks, *report["notes"], *doubts)
            for remark in remarks:
                if remark.startswith(WARNING):
                    logger.warning("%s: %s", subject.label, remark.removeprefix(WARNING))
            results.append(
                SubjectResult(
                    subject.label,
                    subject.source,
                    out.refined_probability(subject.label),
                    out.refined_mask(subject.label),
                    **outcome,
                    health=health,
                    note=report["note"],
                    remarks=remarks,
                )
            )
        return tuple(results)

    def _is_unconverged(self, learnt: Sequence[float | None]) -> bool:
        """Whether the network did not learn what it was taught: in most subjects it would not consent to it.

        A part of a mask is refused if the network calls less than the share `min_consent` of it lesion. One that was
        trained for long enough may refuse a part here and there, but not most of the lesions that it was trained on.

        Args:
            learnt: of each subject, the share that it calls lesion of what it was taught to.
        """
        taught = [share for share in learnt if share is not None]
        if taught:
            self.facts["learnt"] = round(fmean(taught), 4)
        few = sum(map(self._is_refused, taught))
        if unconverged := few > len(taught) / 2:
            message = (
                f"training has not converged: in {few} of {len(taught)} subjects the network calls less than "
                f"{self.settings.min_consent:.0%} of what it was taught lesion. Train longer than "
                f"{self.facts['training'].get('steps')} steps (--set steps=N). If that does not help, the images do "
                "not show what the prior says"
            )
            self.facts["warnings"] = [f"{WARNING}{message}"]
            logger.warning(message)
        return unconverged

    def _is_refused(self, share: float) -> bool:
        """Whether the network would not consent to a part of which it calls such a share lesion."""
        return share < self.settings.min_consent

    def _unlearnt(self, share: float | None) -> list[str]:
        """A remark on a subject, in a run that has not converged."""
        if share is None or not self._is_refused(share):
            return []
        return [
            f"{WARNING}not converged, the network calls {share:.0%} of what it was taught here lesion: train longer"
        ]
