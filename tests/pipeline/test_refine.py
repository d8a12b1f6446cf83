"""The main job on small simulated heads: what it writes, that it repeats itself, and that it resumes."""

from __future__ import annotations

import importlib
import json
import logging
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import cgckit
from cgckit.cgc.crops import CropSampler
from cgckit.cgc.settings import PRESETS, choose_settings
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError, DegeneratePriorError, PluginError, UsageError
from cgckit.images.case import Case
from cgckit.pipeline.inputs import choose_device
from cgckit.priors.base import Prediction, Prior
from cgckit.report.write import write_report
from cgckit.sealed import read_json, write_json

QUICK = {
    "spacing": 4.0,
    "crop": (16, 16, 16),
    "widths": (8, 8, 8, 8),
    "projection": 8,
    "batch": 1,
    "steps": 60,
    "learning_rate": 1e-2,
    "mirror": False,
    "uncertainty_views": 2,
    "prior_weight": 0.0,  # what is tested is the network's own map
    "appearance_weight": 0.0,
}
engine_module = importlib.import_module("cgckit.pipeline.engine")
WriteCohort = Callable[..., Path]


@dataclass
class BrightFlair(Prior):
    """Everything above a threshold in FLAIR."""

    threshold: float = 2.5

    def __post_init__(self) -> None:
        self.calls = 0

    def predict(self, case: Case) -> Prediction:
        self.calls += 1
        bright = (case.channel("flair") > self.threshold) & case.brain
        return Prediction(bright.float(), f"FLAIR > {self.threshold:g}")


@dataclass
class Nothing(Prior):
    """Finds no lesion in the first `empty` subjects it sees."""

    empty: int = 99

    def predict(self, case: Case) -> Tensor:
        if int(case.subject[-1]) <= self.empty:
            return torch.zeros(case.brain.shape)
        return BrightFlair().predict(case).probability


@dataclass
class WithACube(Prior):
    """Bright FLAIR, and a cube of ordinary tissue far from it."""

    edge: ClassVar[int] = 10

    def predict(self, case: Case) -> Tensor:
        found = BrightFlair().predict(case).probability
        distance = torch.from_numpy(ndimage.distance_transform_edt(found.numpy() < 0.5))
        inside = torch.from_numpy(ndimage.binary_erosion(case.brain.numpy(), iterations=self.edge))
        h, w, d = np.unravel_index(int((distance * inside).argmax()), found.shape)
        half = self.edge // 2
        found[h - half : h + half, w - half : w + half, d - half : d + half] = 1.0
        return found


def run(scans: Path, out: Path, **changes: object) -> cgckit.Run:
    options: dict[str, object] = {"prior": BrightFlair(), "settings": QUICK, "device": "cpu"} | changes
    return cgckit.refine(scans, out=out, **options)  # type: ignore[arg-type]


def masks(result: cgckit.Run) -> list[bytes]:
    return [subject.mask_path.read_bytes() for subject in result]  # type: ignore[union-attr]


def images(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("sub-*.nii.gz"))}


def dice(mask: Path, reference: Path) -> float:
    found, truth = (np.asarray(nib.load(path).dataobj) > 0 for path in (mask, reference))
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


@pytest.fixture(scope="module")
def whole(write_subjects: WriteCohort, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, cgckit.Run]:
    """The scans of two subjects and a run on them that nothing interrupted; to be looked at only."""
    folder = tmp_path_factory.mktemp("whole")
    scans = write_subjects(folder / "scans", 2)
    return scans, run(scans, folder / "out")


@pytest.fixture
def copied(whole: tuple[Path, cgckit.Run], tmp_path: Path) -> tuple[Path, Path]:
    """The same scans, and a copy of the run's folder to work in."""
    scans, result = whole
    return scans, shutil.copytree(result.out, tmp_path / "out")


def test_refine_finds_the_lesions_and_writes_every_output(whole: tuple[Path, cgckit.Run]) -> None:
    scans, result = whole
    out = result.out
    derivatives = Derivatives(out)
    assert derivatives.subjects() == {"case1": "case1", "case2": "case2"}
    for label in derivatives.subjects():
        reference = nib.load(scans / label / f"{label}_flair.nii.gz")
        for path in (
            derivatives.refined_mask(label),
            derivatives.refined_probability(label),
            derivatives.refined_uncertainty(label),
            derivatives.prior_probability(label, "BrightFlair"),
            derivatives.brain_mask(label),
        ):
            written = nib.load(path)
            assert written.shape == reference.shape
            np.testing.assert_array_equal(written.affine, reference.affine)
        probability = np.asarray(nib.load(derivatives.refined_probability(label)).dataobj)
        mask = np.asarray(nib.load(derivatives.refined_mask(label)).dataobj)
        np.testing.assert_array_equal(mask, probability >= 0.5)
        assert dice(result[label].mask_path, scans.with_name("scans-references") / f"{label}_seg.nii.gz") > 0.7
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["options"]["seed"] == 0
    assert set(record["inputs"]) == {"case1", "case2"}
    assert record["training"]["steps"] == 60
    assert {"priors", "training", "inference"} <= record["seconds"].keys()
    header, *rows = (out / "summary.tsv").read_text().splitlines()
    assert len(rows) == 2
    assert {"prior_ml", "refined_ml", "changed_ml", "fraction", "choice"} <= set(header.split("\t"))
    assert "FLAIR > 2.5" in (out / "cgckit.log").read_text()
    assert [path.name for path in (out / "work" / "run").iterdir() if path.is_file()] == [], (
        "the checkpoint is done with"
    )
    assert not (out / "work" / "run" / "examples").exists()
    assert not list(out.rglob(".partial-*"))


def test_equal_seeds_give_equal_masks_and_other_seeds_do_not(whole: tuple[Path, cgckit.Run], tmp_path: Path) -> None:
    scans, first = whole
    second, other = run(scans, tmp_path / "b"), run(scans, tmp_path / "c", seed=1)
    probability = [result["case1"].probability_path.read_bytes() for result in (first, second, other)]
    assert masks(first) == masks(second)
    assert probability[0] == probability[1] != probability[2]


@pytest.mark.parametrize("stage", ["priors", "training", "inference"])
def test_an_interrupted_run_goes_on_to_the_same_masks(
    whole: tuple[Path, cgckit.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    scans, expected = whole

    class KilledError(Exception):
        pass

    owner, name, last = {
        "priors": (engine_module, "write_case", 2),
        "training": (CropSampler, "__call__", 28),
        "inference": (engine_module.Engine, "write_refined", 2),
    }[stage]
    original, calls = getattr(owner, name), 0

    def die_at_last(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == last:
            raise KilledError
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, die_at_last)
        with pytest.raises(KilledError):
            run(scans, tmp_path / "out")
    if stage != "priors":
        with pytest.raises(UsageError, match="--overwrite"):  # what was trained is worth keeping
            run(scans, tmp_path / "out", seed=1)
    prior = BrightFlair()
    result = run(scans, tmp_path / "out", prior=prior)
    assert masks(result) == masks(expected)
    assert prior.calls == 0, "the interrupted run's priors must come from the cache"


def test_a_complete_run_is_not_done_again(
    whole: tuple[Path, cgckit.Run], copied: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, out = copied
    first = whole[1]
    record = (out / "run.json").read_bytes()
    monkeypatch.setattr("cgckit.images.preparation.Preparation.case", None)
    again = run(scans, out)
    assert (out / "run.json").read_bytes() == record
    assert [subject.row() for subject in again] == [subject.row() for subject in first]
    assert again.training == first.training


def test_another_run_in_the_folder_is_refused_unless_overwritten(
    write_cohort: WriteCohort, copied: tuple[Path, Path]
) -> None:
    out = copied[1]
    fewer = write_cohort(1, name="fewer")
    before = Derivatives(out).refined_mask("case2").read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        run(fewer, out)
    assert Derivatives(out).refined_mask("case2").read_bytes() == before
    raw = out / "sub-case2" / "anat" / "sub-case2_FLAIR.nii.gz"
    raw.write_bytes(b"the user's own")
    run(fewer, out, overwrite=True, settings={**QUICK, "steps": 1})
    assert not Derivatives(out).refined_mask("case2").exists()
    assert {path.stem for path in (out / "work" / "run" / "inference").iterdir()} == {"case1"}
    assert raw.read_bytes() == b"the user's own", "only what a run wrote may be removed"
    with pytest.raises(DegeneratePriorError):
        run(fewer, out, overwrite=True, prior=Nothing())
    assert not (out / "model").exists(), "a model beside the prior maps of another run"


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"settings": {**QUICK, "temperature": 0.5}}, {"prior": BrightFlair(2.6)}, {"modalities": ["flair"]}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_run_with_other_options_is_another_run(copied: tuple[Path, Path], changes: dict[str, object]) -> None:
    scans, out = copied
    with pytest.raises(UsageError, match="--overwrite"):
        run(scans, out, **changes)


def test_other_scans_of_the_same_name_are_another_run(write_cohort: WriteCohort, copied: tuple[Path, Path]) -> None:
    scans, out = write_cohort(2), copied[1]
    shutil.copy(scans / "case1" / "case1_flair.nii.gz", scans / "case2" / "case2_flair.nii.gz")
    with pytest.raises(UsageError, match="--overwrite"):
        run(scans, out)


def test_a_model_that_was_removed_is_trained_again(whole: tuple[Path, cgckit.Run], copied: tuple[Path, Path]) -> None:
    scans, out = copied
    shutil.rmtree(out / "model")
    run(scans, out)
    weights = Path("model", "model.safetensors")
    assert (out / weights).read_bytes() == (whole[1].out / weights).read_bytes()


def test_a_degenerate_prior_is_left_out_of_training_and_of_the_result(
    write_cohort: WriteCohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**QUICK, "prior_weight": 1e3, "prior_reach": 1.0, "steps": 0, "epochs": 60}
    with caplog.at_level(logging.WARNING, logger="cgckit"):
        result = run(write_cohort(2), tmp_path / "out", prior=Nothing(empty=1), settings=settings)
    empty, found = result.subjects
    assert empty.degenerate
    assert "case1: the prior is excluded from training" in caplog.text
    assert not found.degenerate
    assert result.training["steps"] == 60, "one subject is left, seen once an epoch"
    # A prior of overwhelming weight is the result, but an empty one would leave nothing: there the network decides.
    assert (found.prior_ml, found.changed_ml, found.dice_prior_refined) == (found.refined_ml, 0, 1)
    assert found.prior_ml > 0
    assert (empty.prior_ml, empty.dice_prior_refined) == (0, 0)
    assert empty.refined_ml == empty.changed_ml > 0


def test_one_scan_alone_is_refined_and_what_was_dropped_of_its_prior_is_said(
    write_cohort: WriteCohort, tmp_path: Path
) -> None:
    scans = write_cohort(1)
    settings = {**QUICK, "prior_weight": 0.5, "appearance_weight": 1.0}
    result = run(scans, tmp_path / "out", prior=WithACube(), settings=settings)
    (row,) = result.subjects
    dropped, *doubts = row.remarks
    assert re.fullmatch(r"1 part of the prior dropped, 1\.\d ml", dropped)
    assert all(text.endswith("that the network doubts") for text in doubts)
    label = row.label
    reference = scans.with_name("scans-references") / f"{label}_seg.nii.gz"
    prior = nib.load(Derivatives(result.out).prior_probability(label, "WithACube"))
    rough = tmp_path / "rough.nii.gz"
    nib.save(nib.Nifti1Image((prior.get_fdata() >= 0.5).astype(np.uint8), prior.affine), rough)
    assert dice(result[label].mask_path, reference) > dice(rough, reference)


def test_seeds_below_0_are_refused(write_cohort: WriteCohort, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="-1"):
        run(write_cohort(1), tmp_path / "out", seed=-1)


def test_a_cohort_of_degenerate_priors_ends_the_run(write_cohort: WriteCohort, tmp_path: Path) -> None:
    with pytest.raises(DegeneratePriorError, match="case1"):
        run(write_cohort(2), tmp_path / "out", prior=Nothing())


@dataclass
class Broken(Prior):
    """Breaks the contract in the way that it is told."""

    way: str = "raise"

    def predict(self, case: Case) -> Tensor:
        probability = torch.zeros(case.brain.shape)
        if self.way == "raise":
            raise IndexError("no such voxel")
        return {"shape": probability[1:], "dtype": probability.double(), "range": probability - 1}[self.way]


@pytest.mark.parametrize("way", ["raise", "shape", "dtype", "range"])
def test_a_prior_that_breaks_is_named_in_one_line(write_cohort: WriteCohort, tmp_path: Path, way: str) -> None:
    with pytest.raises(PluginError, match="Broken") as caught:
        run(write_cohort(1), tmp_path / "out", prior=Broken(way))
    assert "\n" not in str(caught.value)


def test_predict_applies_a_model_to_new_scans(
    whole: tuple[Path, cgckit.Run], write_cohort: WriteCohort, tmp_path: Path
) -> None:
    result = whole[1]
    found = cgckit.predict(write_cohort(1), result.out, tmp_path / "predicted", device="cpu")
    assert found["case1"].mask_path.read_bytes() == result["case1"].mask_path.read_bytes()
    header, row = (tmp_path / "predicted" / "summary.tsv").read_text().splitlines()
    assert header.split("\t") == ["participant_id", "source", "refined_ml", "remarks"]
    voxels = int(found["case1"].mask().sum())
    remarks = "; ".join(found["case1"].remarks)
    assert row.split("\t") == ["sub-case1", "case1", f"{voxels * 2.0**3 / 1000:g}", remarks]


def test_predict_with_another_model_does_not_replace_masks(
    copied: tuple[Path, Path], write_cohort: WriteCohort, tmp_path: Path
) -> None:
    model, scans, out = copied[1] / "model", write_cohort(1), tmp_path / "predicted"
    mask = cgckit.predict(scans, model, out, device="cpu")["case1"].mask_path
    before = mask.stat().st_mtime_ns
    card = read_json(model / "model.json")
    card["settings"]["temperature"] = 0.5
    write_json(model / "model.json", card)
    with pytest.raises(UsageError, match="--overwrite"):
        cgckit.predict(scans, model, out, device="cpu")
    assert mask.stat().st_mtime_ns == before


def test_predict_needs_the_modalities_of_the_model(
    whole: tuple[Path, cgckit.Run], write_cohort: WriteCohort, tmp_path: Path
) -> None:
    less = write_cohort(1, modalities=("flair",))
    with pytest.raises(BadInputError, match="t1"):
        cgckit.predict(less, whole[1].out, tmp_path / "predicted")


def test_devices_that_are_not_there_are_refused(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans = write_cohort(1)
    for device in ("tpu", "cuda:64", "meta"):
        with pytest.raises(UsageError, match=device):
            run(scans, tmp_path / "out", device=device)


def test_the_device_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in ((True, "cuda:0"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert str(choose_device("auto")) == expected


@pytest.fixture
def untrainable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains from here on fails."""
    monkeypatch.setattr(engine_module, "train_network", None)


def test_other_inference_settings_take_the_trained_model(
    whole: tuple[Path, cgckit.Run], copied: tuple[Path, Path], untrainable: None
) -> None:
    scans, out = copied
    before = json.loads((out / "run.json").read_text())
    views = run(scans, out, settings={**QUICK, "uncertainty_views": 0, "prior_weight": 1e3, "prior_reach": 1.0})
    assert masks(views) != masks(whole[1]), "the prior decides now"
    assert not Derivatives(out).refined_uncertainty("case1").exists(), "none was asked for"
    after = json.loads((out / "run.json").read_text())
    assert after["status"] == "complete"
    assert after["options"]["inference"]["uncertainty_views"] == 0
    assert after["training"] == before["training"]
    assert after["seconds"]["training"] == before["seconds"]["training"], "it was not done again"
    again = run(scans, out)
    assert masks(again) == masks(whole[1])
    assert Derivatives(out).refined_uncertainty("case1").exists()
    summary = (out / "summary.tsv").read_text()
    assert summary == (whole[1].out / "summary.tsv").read_text()


def test_settings_are_taken_as_the_object_that_is_exported(
    whole: tuple[Path, cgckit.Run], copied: tuple[Path, Path], untrainable: None
) -> None:
    scans, out = copied
    settings = cgckit.Settings(**{**QUICK, "steps": 60})  # type: ignore[arg-type]
    assert masks(run(scans, out, settings=settings)) == masks(whole[1])


def test_predict_takes_inference_settings(
    whole: tuple[Path, cgckit.Run], write_cohort: WriteCohort, tmp_path: Path, untrainable: None
) -> None:
    scans, out = write_cohort(1), tmp_path / "predicted"
    found = cgckit.predict(scans, whole[1].out, out, settings={"uncertainty_views": 0}, device="cpu")
    before = found["case1"].probability_path.read_bytes()
    assert not Derivatives(out).refined_uncertainty("case1").exists()
    changed = cgckit.InferenceSettings(
        mirror=True, uncertainty_views=2, prior_weight=0, appearance_weight=1.0, min_consent=0
    )
    again = cgckit.predict(scans, whole[1].out, out, settings=changed, device="cpu")
    assert Derivatives(out).refined_uncertainty("case1").exists()
    assert again["case1"].probability_path.read_bytes() != before
    with pytest.raises(UsageError, match="steps shapes the training"):
        cgckit.predict(scans, whole[1].out, out, settings={"steps": 3}, device="cpu")


def in_memory(scans: Path) -> cgckit.Cohort:
    """The same subjects as in a folder, from memory."""
    cases = []
    for folder in sorted(scans.iterdir()):
        images = {path.name.split("_")[1].split(".")[0]: nib.load(path) for path in folder.glob("*.nii.gz")}
        cases.append(cgckit.Case.from_arrays(images, subject=folder.name))
    return cgckit.Cohort.from_cases(cases)


def test_a_cohort_in_memory_gives_what_its_files_give(whole: tuple[Path, cgckit.Run], tmp_path: Path) -> None:
    scans, expected = whole
    found = run(in_memory(scans), tmp_path / "out")  # type: ignore[arg-type]
    for subject in expected:
        np.testing.assert_array_equal(found[subject.label].mask(), subject.mask())
        np.testing.assert_array_equal(found[subject.label].probability(), subject.probability())
        assert found[subject.label].prior_ml == subject.prior_ml
        written = nib.load(found[subject.label].mask_path)
        np.testing.assert_array_equal(written.affine, nib.load(subject.mask_path).affine)
    predicted = cgckit.predict(in_memory(scans), cgckit.Model.load(found.out), tmp_path / "predicted", device="cpu")
    np.testing.assert_array_equal(predicted["case1"].mask(), expected["case1"].mask())


def test_cases_need_no_cohort_around_them(whole: tuple[Path, cgckit.Run], tmp_path: Path) -> None:
    scans, expected = whole
    cases = [subject.case for subject in in_memory(scans) if subject.case is not None]
    for number, given in enumerate([cases, cases[0]]):
        found = cgckit.predict(given, expected.out, tmp_path / str(number), device="cpu")
        np.testing.assert_array_equal(found["case1"].mask(), expected["case1"].mask())


@pytest.mark.parametrize("change", [{"mirror": True}, {"min_lesion": 1e6}, {"uncertainty_views": 0}])
def test_maps_of_settings_that_were_given_up_half_way_do_not_stay(
    whole: tuple[Path, cgckit.Run],
    copied: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
) -> None:
    scans, out = copied
    original, written = Derivatives.write_mask, []

    def write_then_stop(self: Derivatives, label: str, *arguments: object) -> Path:
        written.append(original(self, label, *arguments))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Derivatives, "write_mask", write_then_stop)
        with pytest.raises(KeyboardInterrupt):
            run(scans, out, settings={**QUICK, **change})
    assert len(written) == 1
    assert masks(run(scans, out)) == masks(whole[1])
    assert images(out) == images(whole[1].out)


def test_images_that_were_removed_from_a_complete_run_are_made_again(
    whole: tuple[Path, cgckit.Run], copied: tuple[Path, Path]
) -> None:
    scans, out = copied
    for path in sorted(out.rglob("sub-case1*.nii.gz")):
        path.unlink()
        run(scans, out)
        assert images(out) == images(whole[1].out), path
    assert len(images(out)) == 10


def test_a_report_of_earlier_maps_does_not_stay(copied: tuple[Path, Path]) -> None:
    scans, out = copied
    page = write_report(out)
    run(scans, out)
    assert page.exists()
    run(scans, out, settings={**QUICK, "min_lesion": 10})
    assert not page.parent.exists()
    page.parent.mkdir()
    page.write_text("the user's own")
    run(scans, out)
    assert page.read_text() == "the user's own"
    with pytest.raises(UsageError, match=r"index\.html: is there and was not written by cgckit"):
        write_report(out)


def test_predictions_do_not_replace_their_model(copied: tuple[Path, Path]) -> None:
    scans, out = copied
    before = (out / "model" / "model.safetensors").read_bytes()
    for model in (out, out / "model"):
        with pytest.raises(UsageError, match="the model lies in --out"):
            cgckit.predict(scans, model, out, device="cpu", overwrite=True)
    assert (out / "model" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("half", [cgckit.TrainingSettings(steps=7), cgckit.InferenceSettings(overlap=0.5)])
def test_either_half_of_the_settings_stands_in_place_of_the_presets(half: cgckit.TrainingSettings) -> None:
    name, chosen = choose_settings("light", half, cohort_size=3)
    light = PRESETS["light"]
    assert name == "light"
    training = isinstance(half, cgckit.TrainingSettings)
    assert (chosen.training, chosen.inference) == ((half, light.inference) if training else (light.training, half))
    assert choose_settings("light", ["steps=7"], cohort_size=3) == ("light", light.override({"steps": 7}))
    with pytest.raises(UsageError, match="a int is no settings"):
        choose_settings("light", 5, cohort_size=3)  # type: ignore[arg-type]


def test_priors_and_scans_of_the_wrong_kind_are_refused_in_words(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans, out = write_cohort(1), tmp_path / "out"
    with pytest.raises(UsageError, match="the class BrightFlair is no prior: give a name, or an object of"):
        cgckit.refine(scans, BrightFlair, out)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a int is no prior"):
        cgckit.compute_priors(scans, 3, out)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="prior options belong to a prior that is given by name"):
        cgckit.refine(scans, BrightFlair(), out, prior_options={"threshold": 3})
    with pytest.raises(UsageError, match="a function is no brain extractor"):
        cgckit.refine(scans, "gmm", out, brain=run)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="a ndarray is no case: make one of images"):
        cgckit.refine([np.zeros((4, 4, 4))], "gmm", out)  # type: ignore[list-item]
    with pytest.raises(UsageError, match="seeds are whole numbers from 0 on, got '0'"):
        cgckit.refine(scans, "gmm", out, seed="0")  # type: ignore[arg-type]


def test_a_model_in_memory_segments_a_case_in_memory(whole: tuple[Path, cgckit.Run]) -> None:
    scans, expected = whole
    case = in_memory(scans)[0].case
    assert case is not None
    probability = cgckit.load_model(expected.out).segment(case)
    np.testing.assert_array_equal(probability, expected["case1"].probability())


def test_the_callers_random_numbers_are_left_alone(write_cohort: WriteCohort, tmp_path: Path) -> None:
    def drawn() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()

    def seed() -> None:
        torch.manual_seed(5), np.random.seed(5), random.seed(5)

    scans = write_cohort(1)
    seed()
    expected = drawn()
    seed()
    run(scans, tmp_path / "out", settings={**QUICK, "steps": 2}, prior="mumford-shah-net", prior_options={"steps": 2})
    assert drawn() == expected


def test_a_subject_is_found_by_its_label_and_its_name(whole: tuple[Path, cgckit.Run]) -> None:
    found = whole[1]
    assert found["case2"] is found[1] is found.subjects[1]
    with pytest.raises(KeyError, match="case1, case2"):
        found["case3"]


def test_an_image_is_opened_once_for_hash_and_header_and_once_a_stage(
    write_cohort: Callable[..., Path], tmp_path: Path
) -> None:
    """On a file system in a network, opening is what takes long."""
    scans = write_cohort(2)
    opened: Counter[Path] = Counter()
    listening = True

    def hear(event: str, details: tuple[Any, ...]) -> None:
        if listening and event == "open" and str(details[0]).startswith(str(scans)):
            opened[Path(details[0])] += 1

    sys.addaudithook(hear)  # for good, as hooks are
    run(scans, tmp_path / "out")
    listening = False
    assert len(opened) > 1
    assert set(opened.values()) == {3}
