"""Cross-validation and ablation on small simulated heads: protocol, resumption, labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import max_pool3d

import cgckit
from cgckit.cgc.crops import CropSampler
from cgckit.errors import BadInputError, UsageError
from cgckit.experiments.arms import THE_PRIOR
from cgckit.experiments.commands import ablate, crossval
from cgckit.experiments.experiment import Experiment
from cgckit.experiments.folds import held_out
from cgckit.experiments.references import best_threshold
from cgckit.experiments.results import NETWORK_ALONE, OUTPUT, read_results
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort, Subject
from cgckit.lock import locked
from cgckit.pipeline import engine as module
from cgckit.priors.base import Prior

QUICK = {"spacing": 4.0, "crop": (16, 16, 16), "widths": (4, 4, 4, 4), "projection": 4, "batch": 1, "steps": 3}
WriteCohort = Callable[..., Path]


class BrightFlair(Prior):
    """Everything that is far above the median in FLAIR."""

    def predict(self, case: Case) -> Tensor:
        return ((case.channel("flair") > 2.5) & case.brain).float()


class Blurred(Prior):
    """The lesions and what lies within two voxels of them."""

    def predict(self, case: Case) -> Tensor:
        bright = ((case.channel("flair") > 2.5) & case.brain).float()
        return max_pool3d(bright[None], 5, stride=1, padding=2)[0] * case.brain


class Faint(Prior):
    """The lesions, but nowhere surer of them than one in five."""

    def predict(self, case: Case) -> Tensor:
        return 0.2 * ((case.channel("flair") > 2.5) & case.brain).float()


class MissingFirst(BrightFlair):
    """Finds nothing in the first case."""

    def predict(self, case: Case) -> Tensor:
        return super().predict(case) * (case.source != "case1")


class Learned(BrightFlair):
    """Remembers whom it was fitted on."""

    def __init__(self) -> None:
        self.fitted: list[list[str]] = []

    def fit(self, cases: Sequence[Case]) -> Learned:
        self.fitted.append([case.subject for case in cases])
        return self


class Everywhere(Prior):
    """A prior that has nothing to do with the lesions."""

    def predict(self, case: Case) -> Tensor:
        inside = case.brain.float()
        inside[inside.shape[0] // 2 :] = 0
        return inside


def start(scans: Path, out: Path, prior: Prior | str | None = None, **options: object) -> Experiment:
    settings = {**QUICK, **options.pop("settings", {})}  # type: ignore[dict-item]
    references = scans.with_name(f"{scans.name}-references")
    return Experiment.find(scans, references, prior or BrightFlair(), out, settings=settings, device="cpu", **options)  # type: ignore[arg-type]


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The subjects of each training, in order."""
    calls: list[list[str]] = []
    original = module.train_network

    def record(examples, *arguments, **options):  # type: ignore[no-untyped-def]
        calls.append([path.stem for path in examples])
        return original(examples, *arguments, **options)

    monkeypatch.setattr(module, "train_network", record)
    return calls


@pytest.mark.parametrize(("subjects", "count"), [(6, 5), (7, 3), (4, 9)])
def test_folds_hold_out_every_subject_once(subjects: int, count: int) -> None:
    cohort = Cohort(tuple(Subject(f"s{i}", f"s{i}", {}) for i in range(subjects)), ("flair",))
    folds = held_out(cohort, count)
    assert len(folds) == min(count, subjects)
    assert sorted(subject.label for fold in folds for subject in fold.test) == [f"s{i}" for i in range(subjects)]
    for fold in folds:
        assert sorted(subject.label for subject in fold.train + fold.test) == [f"s{i}" for i in range(subjects)]
        assert not set(fold.train) & set(fold.test)


def test_all_sessions_of_a_person_are_in_one_fold() -> None:
    labels = [f"p{person}_ses-{session}" for person in range(5) for session in range(3)]
    folds = held_out(Cohort(tuple(Subject(label, label, {}) for label in labels), ()), 3)
    assert sorted(subject.label for fold in folds for subject in fold.test) == labels
    for fold in folds:
        trained, tested = ({subject.person for subject in part} for part in (fold.train, fold.test))
        assert not trained & tested


def test_one_subject_cannot_be_cross_validated(write_cohort: WriteCohort, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two persons"):
        crossval(start(write_cohort(1), tmp_path / "out", hold_out=True))


def test_cross_validation_trains_and_fits_on_others_than_it_scores(
    write_cohort: WriteCohort, tmp_path: Path, trained_on: list[list[str]]
) -> None:
    prior = Learned()
    rows = crossval(start(write_cohort(3), tmp_path / "out", prior, folds=2, hold_out=True), seeds=[0, 1])
    _, outcomes = read_results(tmp_path / "out" / "results.jsonl")
    refined = [outcome for outcome in outcomes if outcome.arm == "refined"]
    assert [(outcome.seed, outcome.fold) for outcome in refined] == [(s, f) for s in (0, 1) for f in (0, 1)]
    for outcome, seen in zip(refined, trained_on, strict=True):
        scored = {item.subject for item in outcome.scores}
        assert scored | set(seen) == {"case1", "case2", "case3"}
        assert not scored & set(seen)
        assert {item.map for item in outcome.scores} == {OUTPUT, NETWORK_ALONE}
    assert prior.fitted == trained_on[:2], "fitted once for each fold, then kept"
    assert [(row.arm, row.output.subjects, row.seeds) for row in rows] == [("prior", 3, 1), ("refined", 3, 2)]


def test_the_ablation_scores_what_refine_would_write(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans = write_cohort(2)
    ablate(start(scans, tmp_path / "out", settings={"steps": 20}), ["both"])
    cgckit.refine(scans, BrightFlair(), tmp_path / "refined", settings={**QUICK, "steps": 20}, device="cpu")
    scores = cgckit.evaluate(tmp_path / "refined", tmp_path / "scans-references")
    expected = {(row.subject, row.map): row.scores["dice"] for row in scores.rows}
    _, outcomes = read_results(tmp_path / "out" / "results.jsonl")
    found = {
        (item.subject, "prior" if outcome.arm == "prior" else "refined"): item.scores["dice"]
        for outcome in outcomes
        for item in outcome.scores
        if item.map == OUTPUT
    }
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_networks_own_map_does_not_hang_on_other_evidence(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans = write_cohort(2)
    scores = {}
    for weight in (0.0, 3.0):
        settings = {"steps": 60, "learning_rate": 1e-2, "untrusted_outer": 0.0}
        settings |= {"prior_weight": weight / 2, "appearance_weight": weight}
        out = tmp_path / f"out-{weight}"
        ablate(start(scans, out, Blurred(), settings=settings), ["both"])
        trained = next(outcome for outcome in read_results(out / "results.jsonl")[1] if outcome.arm == "both")
        for item in trained.scores:
            scores.setdefault((weight, item.map), []).append(item.scores["dice"])
    assert min(scores[0.0, OUTPUT]) > 0.2, "the network has learnt something that could be changed"
    assert scores[3.0, NETWORK_ALONE] == scores[0.0, OUTPUT]
    assert scores[3.0, OUTPUT] != scores[0.0, OUTPUT]


def test_the_arm_without_a_network_is_the_prior_and_the_appearance_model(
    write_cohort: WriteCohort, tmp_path: Path, trained_on: list[list[str]]
) -> None:
    rows = ablate(start(write_cohort(2), tmp_path / "out", Blurred()), ["appearance"], [0, 1])
    prior, appearance = rows
    assert (appearance.arm, appearance.seeds) == ("appearance", 1), "nothing in it is random"
    assert appearance.output.mean["dice"] > prior.output.mean["dice"] + 0.05
    assert not trained_on


def test_references_reach_the_supervised_arm_and_no_other(
    write_cohort: WriteCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each training, the volume of what is to be learned is the prior's, or that of the references."""
    taught: list[dict[str, float]] = []
    original = module.train_network

    def record(examples, settings, *arguments, **options):  # type: ignore[no-untyped-def]
        targets = {path.stem: load_file(path)["prior"].float().sum() for path in examples}
        taught.append({name: float(total) * settings.spacing**3 / 1000 for name, total in targets.items()})
        return original(examples, settings, *arguments, **options)

    monkeypatch.setattr(module, "train_network", record)
    rows = ablate(start(write_cohort(2), tmp_path / "out", Everywhere()), ["both", "supervised"])
    prior, references = (
        {name: scores[volume] for name, scores in rows[0].subjects.items()} for volume in ("volume_ml", "reference_ml")
    )
    without_labels, *folds = taught
    assert without_labels == pytest.approx(prior, rel=0.05)
    assert [list(fold) for fold in folds] in ([["case1"], ["case2"]], [["case2"], ["case1"]])
    assert {**folds[0], **folds[1]} == pytest.approx(references, rel=0.05)
    assert all(prior[name] > 5 * references[name] for name in prior)
    assert {row.arm: row.uses_labels for row in rows} == {"prior": False, "both": False, "supervised": True}
    supervised = [outcome for outcome in read_results(tmp_path / "out" / "results.jsonl")[1] if outcome.uses_labels]
    assert {outcome.scores[0].subject for outcome in supervised} == {"case1", "case2"}
    assert all(item.map == OUTPUT for outcome in supervised for item in outcome.scores)
    assert (tmp_path / "out" / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path) not in (tmp_path / "out" / "results.jsonl").read_text(), "results are made to be shown"


def test_a_degenerate_prior_is_not_trained_on_but_its_subject_is_scored(
    write_cohort: WriteCohort, tmp_path: Path, trained_on: list[list[str]]
) -> None:
    rows = ablate(start(write_cohort(3), tmp_path / "out", MissingFirst()), ["both"])
    assert trained_on == [["case2", "case3"]]
    assert [row.output.subjects for row in rows] == [3, 3]


def test_the_oracle_cuts_the_prior_where_the_reference_says(write_cohort: WriteCohort, tmp_path: Path) -> None:
    rows = {row.arm: row for row in ablate(start(write_cohort(2), tmp_path / "out", Faint()), ["oracle"])}
    assert rows["oracle"].uses_labels
    assert {outcome.fold for outcome in read_results(tmp_path / "out" / "results.jsonl")[1]} == {None}
    assert all(scores["dice"] == 0 for scores in rows["prior"].subjects.values()), (
        "the prior is below one half everywhere"
    )
    assert all(scores["dice"] > 0.9 for scores in rows["oracle"].subjects.values())


@pytest.mark.parametrize("levels", [4, 1000])
def test_the_best_threshold_is_the_one_that_trying_them_all_finds(levels: int) -> None:
    generator = np.random.default_rng(0)
    reference = generator.random((12, 12, 12)) < 0.1
    probability = (0.4 * reference + 0.6 * generator.random(reference.shape)).astype(np.float32)
    probability = np.floor(levels * probability) / levels  # of 4, each is a threshold too

    def dice(threshold: float) -> float:
        mask = probability >= threshold
        return float(2 * (mask & reference).sum() / (mask.sum() + reference.sum()))

    tried = [dice(step / 100) for step in range(1, 101)]
    assert dice(best_threshold(probability, reference)) == max(tried)
    assert max(tried) > tried[29]


def test_the_best_threshold_of_a_subject_without_lesion_leaves_nothing() -> None:
    probability = np.ones((4, 4, 4), np.float32)
    assert not (probability >= best_threshold(probability, np.zeros((4, 4, 4), bool))).any()


def test_an_interrupted_ablation_goes_on_to_the_same_results_and_takes_further_arms(
    write_cohort: WriteCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_on: list[list[str]]
) -> None:
    scans = write_cohort(2)
    arms = ["network", "temperature-0.2", "both"]
    ablate(start(scans, tmp_path / "whole"), arms)
    assert len(trained_on) == 2, "arms of equal settings are trained once"

    class KilledError(Exception):
        pass

    original, drawn = CropSampler.__call__, 0

    def die(self: CropSampler, index: int) -> object:
        nonlocal drawn
        drawn += 1
        if drawn == 5:  # in the second arm's training
            raise KilledError
        return original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(CropSampler, "__call__", die)
        with pytest.raises(KilledError):
            ablate(start(scans, tmp_path / "out"), arms)
    assert [outcome.arm for outcome in read_results(tmp_path / "out" / "results.jsonl")[1]] == ["prior", "network"]
    trained_on.clear()
    ablate(start(scans, tmp_path / "out"), arms)
    assert len(trained_on) == 1
    assert scores_in(tmp_path / "out") == scores_in(tmp_path / "whole")
    assert (tmp_path / "out" / "table.tsv").read_text() == (tmp_path / "whole" / "table.tsv").read_text()

    trained_on.clear()
    rows = ablate(start(scans, tmp_path / "out"), ["coarse"])
    assert len(trained_on) == 1
    assert [row.arm for row in rows] == ["prior", "network", "coarse", "both", "temperature-0.2"]
    with pytest.raises(UsageError, match="--overwrite"):
        start(scans, tmp_path / "out", settings={"steps": 4})
    assert start(scans, tmp_path / "out", settings={"steps": 4}, overwrite=True).results.outcomes == []


def scores_in(out: Path) -> list[object]:
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()[1:]]
    return [[line["arm"], line["unit"], line["scores"], line["training"]] for line in lines]


def test_a_subject_without_reference_and_one_on_another_grid_are_named(
    write_cohort: WriteCohort, tmp_path: Path
) -> None:
    scans = write_cohort(2)
    reference = tmp_path / "scans-references" / "case2_seg.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), np.eye(4)), reference)
    with pytest.raises(BadInputError, match=r"case2_seg.*grid"):
        ablate(start(scans, tmp_path / "out"), [])
    reference.unlink()
    with pytest.raises(BadInputError, match="no reference of case2"):
        start(scans, tmp_path / "other")


def test_other_images_references_or_prior_files_make_another_experiment(
    write_cohort: WriteCohort, tmp_path: Path
) -> None:
    scans, rough = write_cohort(2), tmp_path / "rough"
    shutil.copytree(tmp_path / "scans-references", rough)

    def key() -> str:
        return start(scans, tmp_path / "out", f"mask:{rough}/{{subject}}_seg.nii.gz").key

    keys = [key(), key()]
    assert keys[0] == keys[1]
    for path in (scans / "case1" / "case1_t1.nii.gz", rough / "case1_seg.nii.gz", *tmp_path.glob("*references/case2*")):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), path)
        keys.append(key())
    assert len(set(keys)) == 4


def test_an_unknown_arm_is_named(write_cohort: WriteCohort, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--arms: there is no corse"):
        ablate(start(write_cohort(1), tmp_path / "out"), ["corse"])


def test_a_run_and_an_experiment_do_not_share_a_folder(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans, out = write_cohort(1), tmp_path / "out"
    crossed = start(scans, out)
    crossed.run([THE_PRIOR])
    with pytest.raises(UsageError, match="holds an experiment"):
        cgckit.refine(scans, BrightFlair(), out, settings=QUICK, overwrite=True)
    shutil.rmtree(out)
    cgckit.refine(scans, BrightFlair(), out, settings=QUICK, device="cpu")
    with pytest.raises(UsageError, match="holds a run"):
        start(scans, out, overwrite=True)


def test_a_result_that_was_damaged_is_refused_in_one_line(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans, out = write_cohort(1), tmp_path / "out"
    start(scans, out).run([THE_PRIOR])
    path = out / "results.jsonl"
    intact = path.read_text()
    dice = intact.index('"dice": 0.') + len('"dice": 0.')
    path.write_text(f"{intact[:dice]}{9 - int(intact[dice])}{intact[dice + 1 :]}")
    with pytest.raises(BadInputError, match=r"not a file of results .its content does not fit its digest") as caught:
        start(scans, out)
    assert "\n" not in str(caught.value)
    start(scans, out, overwrite=True).run([THE_PRIOR])
    assert len(read_results(path)[1]) == 1


def test_two_experiments_in_a_folder_lose_no_result(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans, out = write_cohort(1), tmp_path / "out"
    first, second = start(scans, out), start(scans, out)
    with locked(out), pytest.raises(UsageError, match="another run of cgckit is at work there"):
        first.run([THE_PRIOR])
    first.run([THE_PRIOR])
    assert second.run([THE_PRIOR]) == first.results.outcomes, "it was begun before there was a result"
    with pytest.raises(UsageError, match="lies in the output folder"):
        start(scans, tmp_path)


def test_the_papers_figures_stand_beside_the_arms_of_its_priors(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans = write_cohort(1)
    (row,) = ablate(start(scans, tmp_path / "out", "gmm"), ["prior"])
    assert row.cells()["paper_dice"] == 0.7585
    (other,) = ablate(start(scans, tmp_path / "other", BrightFlair()), ["prior"])
    assert other.cells()["paper_dice"] is None


def test_one_subject_alone_has_no_supervised_bound(write_cohort: WriteCohort, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"supervised .* leave it out"):
        ablate(start(write_cohort(1), tmp_path / "out"), ["supervised"])


def test_labels_that_no_reference_has_are_said(
    write_cohort: WriteCohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ablate(start(write_cohort(1), tmp_path / "out", labels=[7]), ["prior"])
    assert "label 7" in caplog.text
