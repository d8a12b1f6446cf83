"""`Refinement`: one run of `cgckit.refine`, from what was asked for to its last table."""

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
from cgckit.errors import UsageError
from cgckit.images.brain import BrainExtractor
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.preparation import Preparation
from cgckit.images.registration import Registration
from cgckit.jobs import LeftOut, Part, Ratings, Workers, usable
from cgckit.jobs.console import progress_bars
from cgckit.nets.loop import ALONE, check_seeds
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


class Refinement:
    """The steps of one run, in order. Nothing is written before `start`."""

    @classmethod
    def of(
        cls,
        inputs: Inputs,
        prior: str | Prior,
        out: str | Path,
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
        config: str | None = None,
        team: Team = ALONE,
        headers_only: bool = False,
    ) -> Refinement:
        """Read what is asked for; arguments and errors as those of `cgckit.refine`.

        Args:
            team: the processes that train together, of which this is the first.
            headers_only: look at no voxel of a subject, not even for a prior that learns from the cohort.
        """
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
            inputs,
            modalities,
            allow_missing,
            preparation,
            left_out=left_out,
            prior=source,
            ratings=ratings,
            headers_only=headers_only,
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
        return cls(cohort, engine, maps, workspace, chosen, seed, facts, left_out, workers, part)

    def start(self, *, overwrite: bool = False, progress: bool = False) -> Run:
        """Do it, in the run's folder; errors as those of `cgckit.refine`."""
        session = self.workspace.session(self.cohort, self.facts, self.workers, self.part, overwrite=overwrite)
        with session, progress_bars(progress) as bars:
            return self._execute(bars)

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

    def _execute(self, bars: Progress) -> Run:
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

    @property
    def prior_step(self) -> PriorStep:
        """What is done first with each subject."""
        return PriorStep(self.workspace.out, self.engine, self.maps, self.workspace.scratch, self.settings)

    def refine_step(self, model: Model) -> RefineStep:
        """What is done last with each subject."""
        return RefineStep(self.workspace.out, self.engine, self.maps, model)

    def _compute_priors(self, bars: Progress) -> dict[str, dict[str, Any]]:
        """Prior map, brain mask and training example of each subject; gives each prior's report."""
        return self.workspace.over(self.prior_step, self.part.share(self.cohort), self.workers, bars, self.left_out)

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
        found = self.workspace.over(
            self.refine_step(model),
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
