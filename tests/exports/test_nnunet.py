"""A run as a data set for nnU-Net: its documented layout, and nnU-Net itself where it is installed."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from export_run import SHAPE, ball, make_run

from cgckit import BadInputError, UsageError
from cgckit.exports.nnunet import export_nnunet, trusted_labels

CENTRE = (-20.0, 10.0, 5.0)


def maps(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A refined and a prior's probability: they dispute a shell, and refinement hardly decides another."""
    refined = np.select([ball(CENTRE, radius), ball(CENTRE, radius + 4)], [0.95, 0.6], 0.05).astype(np.float32)
    return refined, (ball(CENTRE, radius + 8) * 0.9).astype(np.float32)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path, {f"s{k}": maps(12 + k) for k in range(5)})


def test_labels_are_what_both_maps_agree_on() -> None:
    refined = np.array([0.9, 0.9, 0.6, 0.4, 0.1, 0.1], np.float32)
    prior = np.array([0.9, 0.1, 0.9, 0.1, 0.9, 0.1], np.float32)
    assert trusted_labels(refined, prior, 0.25).tolist() == [1, 2, 2, 2, 2, 0]
    assert trusted_labels(refined, prior, 0.0).tolist() == [1, 2, 1, 0, 2, 0]
    assert trusted_labels(refined, None, 0.25).tolist() == [1, 1, 2, 2, 0, 0]


def test_the_layout_is_that_of_nnunets_documentation(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "Dataset501_Lesions"
    export_nnunet(run, out)
    description = json.loads((out / "dataset.json").read_text())
    assert description == {
        "channel_names": {"0": "flair", "1": "t1"},
        "labels": {"background": 0, "lesion": 1, "ignore": 2},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    assert max(description["labels"].values()) == description["labels"]["ignore"]
    images = sorted(path.name for path in (out / "imagesTr").iterdir())
    assert images == [f"s{k}_{channel:04d}.nii.gz" for k in range(5) for channel in range(2)]
    assert sorted(path.name for path in (out / "labelsTr").iterdir()) == [f"s{k}.nii.gz" for k in range(5)]
    for path in (out / "labelsTr").iterdir():
        label = nib.load(path)
        assert set(np.unique(label.dataobj)) == {0, 1, 2}
        for channel in range(2):
            image = nib.load(out / "imagesTr" / path.name.replace(".nii.gz", f"_{channel:04d}.nii.gz"))
            assert image.shape == label.shape
            np.testing.assert_array_equal(image.affine, label.affine)
            assert (np.asarray(image.dataobj)[np.asarray(label.dataobj) == 1] == 150 + channel).all()


def test_the_rim_is_ignored_and_told(run: Path, tmp_path: Path) -> None:
    done = export_nnunet(run, tmp_path / "Dataset501_Lesions")
    found = np.asarray(nib.load(tmp_path / "Dataset501_Lesions/labelsTr/s0.nii.gz").dataobj)
    np.testing.assert_array_equal(found == 1, ball(CENTRE, 12))
    np.testing.assert_array_equal(found == 2, ball(CENTRE, 20) & ~ball(CENTRE, 12))
    assert done[0].lesion_ml == pytest.approx(ball(CENTRE, 12).sum() * 0.01)
    assert 0 < done[0].ignored_share < 1


def test_nothing_of_the_scans_headers_is_copied(run: Path, tmp_path: Path) -> None:
    export_nnunet(run, tmp_path / "Dataset501_Lesions")
    for path in (tmp_path / "Dataset501_Lesions").rglob("*.nii.gz"):
        assert b"Xanthippe" not in gzip.decompress(path.read_bytes())


def test_ct_is_called_as_nnunet_knows_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"s0": maps(12)}, ("ct",))
    export_nnunet(run, tmp_path / "Dataset501_Lesions")
    assert json.loads((tmp_path / "Dataset501_Lesions/dataset.json").read_text())["channel_names"] == {"0": "CT"}


def test_a_subject_that_lacks_a_modality_is_left_out_and_named(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "scans" / "s2" / "s2_t1.nii.gz").unlink()
    assert [case.label for case in export_nnunet(run, tmp_path / "Dataset501_Lesions")] == ["s0", "s1", "s3", "s4"]
    assert "sub-s2: has no t1" in caplog.text


def test_an_earlier_export_is_replaced_and_nothing_else(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "Dataset501_Lesions"
    export_nnunet(run, out)
    (out / "mine.txt").write_text("mine")
    (tmp_path / "scans" / "s2" / "s2_t1.nii.gz").unlink()
    export_nnunet(run, out)
    assert len(list((out / "labelsTr").iterdir())) == 4
    assert (out / "mine.txt").read_text() == "mine"
    other = tmp_path / "Dataset502_Other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="something else"):
        export_nnunet(run, other)


@pytest.mark.parametrize("name", ["Dataset5_x", "lesions", "Dataset501"])
def test_a_name_that_nnunet_does_not_know_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="DatasetNNN_NAME"):
        export_nnunet(run, tmp_path / name)


def test_a_scan_on_another_grid_is_named(run: Path, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32) * np.arange(50), np.eye(4)), tmp_path / "scans/s1/s1_t1.nii.gz")
    with pytest.raises(BadInputError, match=r"s1_t1\.nii\.gz"):
        export_nnunet(run, tmp_path / "Dataset501_Lesions")


@pytest.mark.skipif(
    importlib.util.find_spec("nnunetv2") is None,
    reason="nnunetv2 is not in this environment; its dependencies would replace torch",
)
def test_nnunet_plans_and_preprocesses_it(run: Path, tmp_path: Path) -> None:
    folders = {name: str(tmp_path / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    export_nnunet(run, tmp_path / "nnUNet_raw" / "Dataset501_Lesions")
    program = (
        "from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry\n"
        "if __name__ == '__main__':\n    plan_and_preprocess_entry()\n"
    )
    arguments = ["-d", "501", "--verify_dataset_integrity", "-c", "3d_fullres", "-np", "1", "-npfp", "1"]
    script = tmp_path / "plan.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, **folders},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = tmp_path / "nnUNet_preprocessed" / "Dataset501_Lesions"
    assert len(list(made.glob("*3d_fullres/s*"))) >= 5
    assert json.loads((made / "dataset.json").read_text())["labels"]["ignore"] == 2
