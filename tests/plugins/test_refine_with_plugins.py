"""The main job with each installed plug-in as its prior."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

QUICK = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "steps=4", "mirror=false"]
OPTIONS = {
    "flair-threshold": {"quantile": 0.95},
    "ae": {"steps": 60, "size": 32, "latent": 4},
}
PACKAGES = {"flair-threshold": "cgckit-flair-threshold", "ae": "cgckit-reconstruction"}


@pytest.mark.parametrize("name", OPTIONS)
def test_refine_takes_an_installed_plugin_as_its_prior(cgckit, write_cohort, tmp_path, name):
    scans, out = write_cohort(2), tmp_path / "out"
    options = [word for key, value in OPTIONS[name].items() for word in ("--prior-option", f"{key}={value}")]
    settings = [word for value in QUICK for word in ("--set", value)]
    done = cgckit("refine", scans, "--prior", name, "--out", out, "--device", "cpu", "--quiet", *options, *settings)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    prior = json.loads((out / "run.json").read_text())["options"]["prior"]
    assert prior["name"] == name
    assert prior["package"].startswith(PACKAGES[name] + " ")
    assert {key: prior["options"][key] for key in OPTIONS[name]} == OPTIONS[name]
    for label in ("case1", "case2"):
        anat = out / f"sub-{label}" / "anat" / f"sub-{label}_space-orig"
        mask = nib.load(f"{anat}_label-L_desc-cgc_mask.nii.gz")
        assert mask.shape == nib.load(scans / label / f"{label}_flair.nii.gz").shape
        assert set(np.unique(mask.dataobj)) <= {0, 1}
        probability = nib.load(f"{anat}_seg-{name.replace('-', '')}_label-L_probseg.nii.gz").get_fdata()
        assert 0 < probability.max() <= 1
        lesion = np.asarray(nib.load(tmp_path / "scans-references" / f"{label}_seg.nii.gz").dataobj) > 0
        # What comes out is this plug-in's map: it knows lesions from the rest.
        assert probability[lesion].mean() > 2 * probability[~lesion].mean()


def test_refine_takes_an_installed_brain_extractor(cgckit, write_cohort, tmp_path):
    scans, out = write_cohort(1), tmp_path / "out"
    settings = [word for value in QUICK for word in ("--set", value)]
    words = ["refine", scans, "--prior", "gmm", "--out", out, "--device", "cpu", "--quiet", *settings]
    done = cgckit(*words, "--brain", "otsu", "--brain-option", "radius=3")
    assert (done.returncode, done.stderr) == (0, "")
    brain = json.loads((out / "run.json").read_text())["options"]["preparation"]["brain"]
    assert (brain["name"], brain["options"]["radius"]) == ("otsu", 3.0)
    assert brain["package"].startswith("cgckit-otsu-brain ")
    found = np.asarray(nib.load(out / "sub-case1/anat/sub-case1_space-orig_desc-brain_mask.nii.gz").dataobj) > 0
    expected = np.asarray(nib.load(scans / "case1/case1_t1.nii.gz").dataobj) > 0
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.9
    assert not (found == expected).all(), "this is another extractor than the built-in one"
    # With another extractor, or other options of it, it is another run.
    for others in ([], ["--brain", "otsu"]):
        refused = cgckit(*words, *others)
        assert refused.returncode == 2
        assert "--overwrite" in refused.stderr
