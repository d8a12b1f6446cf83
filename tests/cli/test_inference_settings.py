"""Inference settings on the command line: maps are made anew, nothing is trained."""

from __future__ import annotations

import json

import pytest

QUICK = [
    *("--device", "cpu", "--quiet", "--set", "spacing=4", "--set", "crop=16x16x16", "--set", "widths=4x4x4x4"),
    *("--set", "projection=4", "--set", "batch=1", "--set", "steps=3"),
]


@pytest.fixture
def finished(cgckit, write_cohort, tmp_path):
    """The arguments of a run that is finished, and its folder."""
    arguments = ["refine", write_cohort(2), "--out", tmp_path / "out", *QUICK]
    assert cgckit(*arguments).code == 0
    return arguments, tmp_path / "out"


def names(folder):
    return {path.name.split("_", 1)[1] for path in folder.glob("sub-*/anat/*.nii.gz")}


@pytest.mark.parametrize("setting", ["uncertainty_views=2", "min_lesion=0"])
def test_a_finished_run_takes_other_inference_settings_without_a_training_step(cgckit, finished, monkeypatch, setting):
    arguments, out = finished
    monkeypatch.setattr("cgckit.pipeline.engine.train_network", None)
    before = {path: path.stat().st_mtime_ns for path in out.glob("sub-*/anat/*_desc-cgc_mask.nii.gz")}
    weights = (out / "model" / "model.safetensors").read_bytes()
    ending = cgckit(*arguments, "--set", setting)
    assert ending.code == 0, ending.err
    assert all(path.stat().st_mtime_ns > time for path, time in before.items()), "the maps are written again"
    assert (out / "model" / "model.safetensors").read_bytes() == weights
    name, value = setting.split("=")
    for card in (out / "run.json", out / "model" / "model.json"):
        content = json.loads(card.read_text())
        settings = content["options"]["inference"] if "options" in content else content["settings"]
        assert settings[name] == float(value)
    uncertain = "space-orig_label-L_desc-uncertainty_statmap.nii.gz" in names(out)
    assert uncertain == (name == "uncertainty_views")


def test_a_training_setting_is_another_run(cgckit, finished):
    arguments, _ = finished
    ending = cgckit(*arguments, "--set", "temperature=0.5")
    assert (ending.code, len(ending.err.splitlines())) == (2, 1)
    assert "--overwrite" in ending.err


def test_predict_takes_inference_settings_and_no_others(cgckit, finished, tmp_path):
    scans, out = finished[0][1], finished[1]
    predict = ["predict", scans, "--model", out, "--out", tmp_path / "predicted", "--device", "cpu", "--quiet"]
    assert cgckit(*predict).code == 0
    assert len(names(tmp_path / "predicted")) == 2
    ending = cgckit(*predict, "--set", "uncertainty_views=2")
    assert ending.code == 0, ending.err
    assert len(names(tmp_path / "predicted")) == 3
    assert all(path.endswith("_desc-cgc_mask.nii.gz") for path in ending.out.splitlines())
    for word, reason in (("steps=5", "shapes the training"), ("colour=red", "overlap"), ("overlap=1", "0 to 0.9")):
        refused = cgckit(*predict, "--set", word)
        assert (refused.code, len(refused.err.splitlines())) == (2, 1)
        assert reason in refused.err
