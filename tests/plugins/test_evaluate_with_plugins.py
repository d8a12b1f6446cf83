"""An installed metric in `cgckit evaluate`, in another process."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest


@pytest.fixture
def masks(tmp_path):
    """Two cubes of 2 mm voxels, the reference one voxel larger on each side."""
    paths = []
    for name, size in (("mask", 4), ("reference", 6)):
        mask = np.zeros((10, 10, 10), np.uint8)
        start = (10 - size) // 2
        mask[(slice(start, start + size),) * 3] = 1
        paths.append(tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(mask, np.diag([2.0, 2, 2, 1])), paths[-1])
    return paths


def rows_of(text, first):
    return [line.split() for line in text.splitlines() if line.split()[:1] == [first]]


def test_evaluate_shows_an_installed_metric_beside_the_built_in_ones(cgckit, masks, tmp_path):
    done = cgckit("evaluate", *masks, "--out", tmp_path / "scores", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (header,), (row,) = rows_of(done.stdout, "subject"), rows_of(done.stdout, "mask")
    assert header[-2:] == ["s.", "Dice"]
    written = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    # Each surface voxel of the small cube faces one of the large one at 2 mm; only those at the large one's edges and
    # corners are farther away from the small one.
    small, large, corners = 4**3 - 2**3, 6**3 - 4**3, 12 * 4 + 8
    assert written["rows"][0]["surface-dice"] == pytest.approx((small + large - corners) / (small + large))
    assert row[-1] == f"{(small + large - corners) / (small + large):.3f}"
    assert written["metrics"]["surface-dice"]["package"].startswith("cgckit-surface-dice ")
    assert "surface-dice" in (tmp_path / "scores" / "evaluation.tsv").read_text().splitlines()[0].split("\t")


def test_evaluate_takes_it_by_name_with_its_option(cgckit, masks):
    words = ["--metric", "surface-dice", "--metric-option", "surface-dice.tolerance=3.5"]
    done = cgckit("evaluate", *masks, *words, "--quiet")
    assert done.returncode == 0, done.stderr
    (row,) = rows_of(done.stdout, "mask")
    assert row[2:] == ["1.000"], "2 mm times the square root of 3 is less"
    assert "tolerance 3.5" in done.stdout


def test_plugins_check_knows_its_contract(cgckit):
    checked = cgckit("plugins", "check", "surface-dice")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "BROKEN" not in checked.stdout
