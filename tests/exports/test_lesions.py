"""The table of lesions, against what the balls in it are known to be."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from export_run import AFFINE, SHAPE, ball, make_run

from cgckit import BadInputError, UsageError
from cgckit.exports.lesions import TABLE, Lesion, write_lesions
from cgckit.sealed import write_json

LEFT, RIGHT, MIDDLE = (-25.0, 10.0, 5.0), (20.0, -20.0, 10.0), (0.0, 30.0, -5.0)
VOXEL_ML = 2 * 2 * 2.5 / 1000


@pytest.fixture
def run(tmp_path: Path) -> Path:
    refined = np.select([ball(LEFT, 12), ball(RIGHT, 8), ball(MIDDLE, 5)], [0.9, 0.8, 0.7], 0.1).astype(np.float32)
    return make_run(tmp_path, {"a": (refined, None), "b": (np.zeros(SHAPE, np.float32), None)})


@pytest.fixture
def lesions(run: Path) -> list[Lesion]:
    return write_lesions(run)[1]


def test_lesions_are_numbered_by_size_and_lie_where_they_are(lesions: list[Lesion]) -> None:
    assert [(lesion.label, lesion.number) for lesion in lesions] == [("a", 1), ("a", 2), ("a", 3)]
    for lesion, centre in zip(lesions, (LEFT, RIGHT, MIDDLE), strict=True):
        np.testing.assert_allclose(lesion.centre_mm, centre, atol=0.5)
    assert [lesion.hemisphere for lesion in lesions] == ["left", "right", "both"]


def test_sizes_are_those_of_balls(lesions: list[Lesion]) -> None:
    for lesion, (centre, radius) in zip(lesions, ((LEFT, 12), (RIGHT, 8), (MIDDLE, 5)), strict=True):
        assert lesion.volume_ml == pytest.approx(ball(centre, radius).sum() * VOXEL_ML)
        # Voxels whose centres are in the ball: their corners are at most half a voxel's diagonal beyond it.
        assert 2 * radius - 3.5 < lesion.diameter_mm <= 2 * radius + np.linalg.norm((2, 2, 2.5))


def test_the_depth_is_the_distance_to_the_brains_surface(tmp_path: Path) -> None:
    refined = np.zeros(SHAPE, np.float32)
    refined[30, 35, 25] = 1  # at (-1, 1, 1.25) mm
    make_run(tmp_path, {"a": (refined, None)})
    (lesion,) = write_lesions(tmp_path / "run")[1]
    assert lesion.depth_mm == pytest.approx(45 - 1.25, abs=2.5), "the surface is nearest above"
    assert lesion.diameter_mm == pytest.approx(np.linalg.norm((2, 2, 2.5)))
    assert lesion.volume_ml == pytest.approx(VOXEL_ML)


def test_means_are_those_of_the_images_in_the_runs_order(lesions: list[Lesion]) -> None:
    for lesion, probability in zip(lesions, (0.9, 0.8, 0.7), strict=True):
        assert lesion.probability == pytest.approx(probability)
        assert dict(lesion.means) == {"flair": 150, "t1": 151}


def test_the_table_has_a_row_a_lesion(run: Path, lesions: list[Lesion]) -> None:
    header, *rows = (run / TABLE).read_text().splitlines()
    assert header.split("\t")[:3] == ["participant_id", "lesion", "volume_ml"]
    assert header.split("\t")[-2:] == ["mean_flair", "mean_t1"]
    assert [row.split("\t")[0] for row in rows] == ["sub-a"] * 3


def test_a_run_without_lesions_has_an_empty_table(tmp_path: Path) -> None:
    make_run(tmp_path, {"a": (np.zeros(SHAPE, np.float32), None)})
    path, found = write_lesions(tmp_path / "run", tmp_path / "table.tsv")
    assert found == []
    assert path.read_text().startswith("participant_id\tlesion\tvolume_ml\t")


def test_parts_that_touch_at_a_corner_are_one(tmp_path: Path) -> None:
    refined = np.zeros(SHAPE, np.float32)
    refined[30, 35, 25] = refined[31, 36, 26] = 1
    refined[10, 35, 25] = 1
    make_run(tmp_path, {"a": (refined, None)})
    found = write_lesions(tmp_path / "run")[1]
    assert [round(lesion.volume_ml / VOXEL_ML) for lesion in found] == [2, 1]


def test_a_table_of_somebody_else_stays(run: Path) -> None:
    (run / TABLE).write_text("mine")
    with pytest.raises(UsageError, match=TABLE):
        write_lesions(run)
    assert (run / TABLE).read_text() == "mine"


def test_what_is_no_run_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no run"):
        write_lesions(tmp_path)


def test_a_scan_that_is_gone_is_named(run: Path) -> None:
    (run.parent / "scans" / "a").rename(run.parent / "scans" / "elsewhere")
    with pytest.raises(BadInputError, match="--scans"):
        write_lesions(run)


def test_the_worlds_axes_are_right_front_and_up() -> None:
    assert np.linalg.det(AFFINE[:3, :3]) < 0, "the first axis runs to the left, so no side is right by accident"


def test_scans_may_be_named_anew(run: Path, tmp_path: Path) -> None:
    before = write_lesions(run)[1]
    assert write_lesions(run, scans=tmp_path / "scans")[1] == before
    (tmp_path / "scans" / "b").rename(tmp_path / "b")
    with pytest.raises(BadInputError, match="is not there"):
        write_lesions(run, scans=tmp_path / "scans")


@pytest.mark.parametrize(
    ("content", "message"), [({"status": "running"}, "no complete run"), (None, "is damaged"), ({}, "no complete run")]
)
def test_a_run_that_is_not_complete_or_damaged_is_bad_input(
    run: Path, content: dict[str, str] | None, message: str
) -> None:
    if content is None:
        (run / "run.json").write_text("{")
    else:
        write_json(run / "run.json", content)
    with pytest.raises(BadInputError, match=message):
        write_lesions(run)


def test_a_run_without_masks_is_bad_input(run: Path) -> None:
    for path in run.rglob("*_desc-cgc_mask.nii.gz"):
        path.unlink()
    with pytest.raises(BadInputError, match="no refined masks"):
        write_lesions(run)


def test_scans_in_disorder_beside_that_of_the_run_do_not_matter(run: Path) -> None:
    for name in ("x_flair.nii.gz", "x-flair.nii.gz"):
        (run.parent / "scans" / "a" / name).write_bytes(b"no image")
    assert "flair" in write_lesions(run)[1][0].means


def test_a_scan_on_another_grid_is_named(run: Path) -> None:
    path = run.parent / "scans" / "a" / "a_t1.nii.gz"
    nib.save(nib.Nifti1Image(np.indices(SHAPE)[0].astype(np.float32), np.eye(4)), path)
    with pytest.raises(BadInputError, match=r"a_t1\.nii\.gz"):
        write_lesions(run)
