"""The simulated cohort: anatomy, lesions, images and files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cgckit.cli.commands.phantom import phantom
from cgckit.errors import BadInputError, UsageError
from cgckit.images.cohort import Cohort
from cgckit.images.grid import Grid
from cgckit.phantom import GENERATOR_VERSION, PhantomSubject, simulate_subject, write_cohort
from cgckit.phantom import cohort as cohort_module
from cgckit.phantom.anatomy import Anatomy, simulate_anatomy
from cgckit.phantom.fields import random_field
from cgckit.phantom.imaging import acquire, plan_imaging
from cgckit.phantom.lesions import LesionPlan, Lesions, grow_lesions, plan_lesions
from cgckit.phantom.subject import subject_label

PLAN = LesionPlan(
    volume_ml=30.0,
    radii=(1.0, 0.6),
    sites=("deep", "deep"),
    contrast=0.5,
    darkening=0.25,
    core=(0.0, 0.0),
    softness=0.8,
    infiltration=0.3,
)


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return simulate_anatomy(np.random.default_rng(7))


@pytest.fixture(scope="module")
def subject() -> PhantomSubject:
    return simulate_subject(seed=3, index=1)


# Fields


def test_random_field_has_zero_mean_and_unit_variance() -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([random_field(rng, (24, 20, 28), 2) for _ in range(200)])
    # 200 fields of about (24 / 4)^3 independent bumps each: both standard errors are about 0.005.
    assert abs(fields.mean()) < 0.03
    assert abs(fields.var() - 1) < 0.03


def test_random_field_is_smoother_where_its_scale_is_larger() -> None:
    steps = [
        np.abs(np.diff(random_field(np.random.default_rng(1), (60, 60, 60), scale), axis=axis)).mean()
        for scale in (3, 12)
        for axis in range(3)
    ]
    assert min(steps[:3]) > 2 * max(steps[3:])


# Anatomy


def test_tissues_share_every_voxel(anatomy: Anatomy) -> None:
    total = anatomy.gm + anatomy.wm + anatomy.csf
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert min(anatomy.gm.min(), anatomy.wm.min(), anatomy.csf.min()) >= 0


def test_brain_is_of_human_size_and_within_the_field_of_view(anatomy: Anatomy) -> None:
    assert 1200 < anatomy.brain.sum() / 1000 < 2400
    faces = [np.take(anatomy.brain, side, axis=axis) for axis in range(3) for side in (0, -1)]
    assert all(face.mean() < 0.01 for face in faces)


def test_ventricles_are_two_pools_of_fluid_beside_the_midline(anatomy: Anatomy) -> None:
    ventricles = anatomy.ventricle_distance < 0.5
    assert anatomy.csf[ventricles].mean() > 0.8
    x = anatomy.mni[0][ventricles]
    assert 0.4 < (x > 0).mean() < 0.6
    assert 10 < ventricles.sum() / 1000 < 60


def test_anatomy_is_bent_and_not_only_stretched(anatomy: Anatomy) -> None:
    # A stretch changes a coordinate along its own axis alone.
    bend = anatomy.mni[0] - anatomy.mni[0].mean(axis=(1, 2), keepdims=True)
    assert bend.std() > 1


def test_no_two_subjects_have_one_anatomy(anatomy: Anatomy) -> None:
    other = simulate_anatomy(np.random.default_rng(8))
    assert (anatomy.brain != other.brain).mean() > 0.01
    assert np.abs(anatomy.gm - other.gm).mean() > 0.03


# Lesions


@pytest.mark.parametrize("volume", [10.0, 120.0])
def test_lesions_have_the_planned_volume_inside_the_brain(anatomy: Anatomy, volume: float) -> None:
    lesions = grow_lesions(np.random.default_rng(0), anatomy, dataclasses.replace(PLAN, volume_ml=volume))
    assert 0.85 * volume < lesions.mask.sum() / 1000 <= volume
    assert not (lesions.mask & ~anatomy.brain).any()
    assert not lesions.extent[~anatomy.brain].any()


def test_reference_is_where_lesion_prevails(anatomy: Anatomy) -> None:
    lesions = grow_lesions(np.random.default_rng(0), anatomy, PLAN)
    assert np.median(lesions.extent[lesions.mask]) > 0.9
    outside = lesions.extent[anatomy.brain & ~lesions.mask]
    assert (outside > 0.5).mean() < 1e-3


def test_infiltrating_lesions_spare_grey_matter(anatomy: Anatomy) -> None:
    shares = []
    for infiltration in (0.0, 1.0):
        plan = dataclasses.replace(PLAN, infiltration=infiltration, sites=("juxtacortical",) * 2)
        lesions = grow_lesions(np.random.default_rng(0), anatomy, plan)
        shares.append(anatomy.gm[lesions.mask].mean())
    assert shares[1] < shares[0]


def test_lesions_lie_at_their_sites(anatomy: Anatomy) -> None:
    def reach(site: str) -> tuple[float, float]:
        plan = dataclasses.replace(PLAN, radii=(1.0,), sites=(site,), core=(0.0,), volume_ml=15.0)
        masks = [grow_lesions(np.random.default_rng(seed), anatomy, plan).mask for seed in range(2)]
        return (
            float(np.mean([anatomy.ventricle_distance[mask].min() for mask in masks])),
            float(np.mean([anatomy.depth[mask].min() for mask in masks])),
        )

    (ventricular_gap, _), (_, cortical_depth) = reach("periventricular"), reach("juxtacortical")
    assert ventricular_gap < 3
    assert cortical_depth < 4


def test_ventricles_are_never_lesion(anatomy: Anatomy) -> None:
    plan = dataclasses.replace(PLAN, volume_ml=100.0, sites=("periventricular",) * 2)
    lesions = grow_lesions(np.random.default_rng(0), anatomy, plan)
    inside = (anatomy.ventricle_distance == 0) & (anatomy.csf > 0.9)
    assert inside.sum() > 1000
    assert not lesions.mask[inside].any()


@pytest.mark.parametrize("seed", range(20))
def test_every_cohort_of_six_holds_small_and_large_faint_and_plain_lesions(seed: int) -> None:
    plans = [plan_lesions(np.random.default_rng([seed, index]), seed, index) for index in range(6)]
    volumes, contrasts = [plan.volume_ml for plan in plans], [plan.contrast for plan in plans]
    # The middles of the two ranges: 33 ml, as volumes are spread over their logarithm, and 0.465.
    assert min(volumes) < np.sqrt(8 * 140) < max(volumes)
    assert min(contrasts) < (0.28 + 0.65) / 2 < max(contrasts)


# Images


def images_of(anatomy: Anatomy, lesions: Lesions, disease: LesionPlan = PLAN, **changes: object) -> tuple:
    plan = dataclasses.replace(plan_imaging(np.random.default_rng(5)), bias=0.0, gain=(1000.0, 1000.0), **changes)
    return acquire(np.random.default_rng(1), anatomy, lesions, disease, plan)


@pytest.fixture(scope="module")
def healthy(anatomy: Anatomy) -> Lesions:
    nothing = np.zeros(anatomy.shape, dtype=np.float32)
    return Lesions(nothing > 0, nothing, nothing)


@pytest.fixture(scope="module")
def lesions(anatomy: Anatomy) -> Lesions:
    return grow_lesions(np.random.default_rng(0), anatomy, dataclasses.replace(PLAN, core=(0.35, 0.0)))


def test_tissues_are_ordered_as_on_flair_and_t1(anatomy: Anatomy, healthy: Lesions) -> None:
    flair, t1 = images_of(anatomy, healthy)
    pure = [anatomy.brain & (tissue > 0.95) for tissue in (anatomy.csf, anatomy.wm, anatomy.gm)]
    fluid, white, grey = (np.median(flair[tissue]) for tissue in pure)
    assert fluid < white < grey
    fluid, white, grey = (np.median(t1[tissue]) for tissue in pure)
    assert fluid < grey < white


def test_lesions_are_bright_on_flair_and_dark_on_t1(anatomy: Anatomy, lesions: Lesions) -> None:
    flair, t1 = images_of(anatomy, lesions)
    white = anatomy.brain & (anatomy.wm > 0.9) & (lesions.extent < 0.01)
    solid = lesions.mask & (lesions.extent > 0.9) & (lesions.core < 0.05)
    assert np.median(flair[solid]) > np.percentile(flair[white], 90)
    assert np.median(t1[solid]) < np.percentile(t1[white], 10)
    core = lesions.core > 0.9
    assert core.sum() > 100
    assert np.median(flair[core]) < np.median(flair[white])


def test_decoys_are_bright_on_flair_but_not_dark_on_t1(anatomy: Anatomy, healthy: Lesions) -> None:
    off = {"caps": 0.0, "limbic": 0.0, "plexus": 0.0, "flow": 0.0, "surface": 0.0, "noise": 0.0}
    with_decoys, without = images_of(anatomy, healthy, noise=0.0), images_of(anatomy, healthy, **off)
    change, change_t1 = (now.astype(float) - plain for now, plain in zip(with_decoys, without, strict=True))
    decoys = change > 100  # a tenth of white matter's signal
    assert decoys.sum() > 1000
    # A lesion takes `darkening`, at least 0.15, from T1; no decoy takes half of that.
    assert change_t1[decoys].min() > -75


def test_background_is_zero_and_brain_is_not(subject: PhantomSubject) -> None:
    for image in subject.images.values():
        assert image.dtype == np.int16
        assert not image[~subject.brain].any()
        assert image[subject.brain].min() >= 1


def test_subject_is_the_same_every_time_and_unlike_its_neighbours(subject: PhantomSubject) -> None:
    again = simulate_subject(seed=3, index=1)
    assert (again.plans, again.summary) == (subject.plans, subject.summary)
    for name in ("flair", "t1"):
        np.testing.assert_array_equal(again.images[name], subject.images[name])
    for name in ("lesion", "brain"):
        np.testing.assert_array_equal(getattr(again, name), getattr(subject, name))
    plans = [plan_lesions(np.random.default_rng(0), *place) for place in ((3, 1), (3, 2), (4, 1))]
    assert len({plan.volume_ml for plan in plans}) == 3


# Files


def simulate_ct(seed: int, index: int) -> PhantomSubject:
    """A stand-in for the simulation of CT."""
    image = np.random.default_rng([seed, index]).integers(-1000, 1000, (6, 7, 8), dtype=np.int16)
    grid = Grid((6, 7, 8), np.diag([0.5, 0.5, 5.0, 1.0]))
    return PhantomSubject(subject_label(index), {"ct": image}, image > 900, image > -2000, grid, {"lesion_ml": 1.0}, {})


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace the simulation by a small and quick one; gives the indices of the subjects that were simulated."""
    calls: list[int] = []

    def simulate(seed: int, index: int) -> PhantomSubject:
        calls.append(index)
        rng = np.random.default_rng([seed, index])
        flair, t1 = rng.integers(1, 900, (2, 6, 7, 8), dtype=np.int16)
        lesion = np.zeros((6, 7, 8), dtype=bool)
        lesion[1:3, 2:4, 1:3] = True
        grid = Grid((6, 7, 8), np.diag([1.0, 1.0, 1.0, 1.0]))
        summary = {"lesion_ml": 0.008, "lesions": 1}
        plans = {"disease": dataclasses.asdict(PLAN)}
        images = {"flair": flair, "t1": t1}
        return PhantomSubject(subject_label(index), images, lesion, flair > 0, grid, summary, plans)

    monkeypatch.setitem(cohort_module._SIMULATE, "mri", simulate)
    monkeypatch.setitem(cohort_module._SIMULATE, "ct", simulate_ct)
    return calls


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_cohort_is_read_without_its_references(tmp_path: Path, simulated: list[int]) -> None:
    images = write_cohort(tmp_path / "out", subjects=2, seed=5)
    cohort = Cohort.find([images])
    assert [subject.source for subject in cohort] == ["sub-001", "sub-002"]
    assert cohort.modalities == ("flair", "t1")
    assert not [path for path in images.rglob("*") if "seg" in path.name]
    reference = nib.load(tmp_path / "out" / "references" / "sub-002_seg.nii.gz")
    assert reference.get_data_dtype() == np.uint8
    assert np.asarray(reference.dataobj).sum() == 8
    image = nib.load(images / "sub-002" / "sub-002_flair.nii.gz")
    assert image.get_data_dtype() == np.int16
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)


def test_what_was_simulated_is_written_down(tmp_path: Path, simulated: list[int]) -> None:
    write_cohort(tmp_path / "out", subjects=2, seed=5)
    header, *rows = (tmp_path / "out" / "participants.tsv").read_text().splitlines()
    first = dict(zip(header.split("\t"), rows[0].split("\t"), strict=True))
    assert (first["participant_id"], first["lesions"], float(first["lesion_ml"])) == ("sub-001", "1", 0.008)
    parameters = json.loads((tmp_path / "out" / "parameters" / "sub-001.json").read_text())
    assert parameters["disease"]["volume_ml"] == PLAN.volume_ml
    description = json.loads((tmp_path / "out" / "phantom.json").read_text())
    assert (description["Version"], description["Seed"]) == (GENERATOR_VERSION, 5)


def test_files_do_not_tell_when_they_were_written(tmp_path: Path, simulated: list[int]) -> None:
    write_cohort(tmp_path, subjects=1)
    for path in tmp_path.rglob("*.nii.gz"):
        assert path.read_bytes()[4:8] == bytes(4)  # the time in the header of gzip


def test_subjects_do_not_depend_on_how_many_there_are(tmp_path: Path, simulated: list[int]) -> None:
    write_cohort(tmp_path / "one", subjects=1)
    write_cohort(tmp_path / "three", subjects=3)
    one, three = contents(tmp_path / "one"), contents(tmp_path / "three")
    del one["participants.tsv"]
    assert all(three[name] == content for name, content in one.items())


def test_finished_subjects_are_kept_and_unfinished_ones_made_again(tmp_path: Path, simulated: list[int]) -> None:
    out = tmp_path / "out"
    write_cohort(out, subjects=3)
    before = contents(out)
    (out / "parameters" / "sub-002.json").unlink()
    (out / "images" / "sub-002" / "sub-002_t1.nii.gz").write_bytes(b"half")
    simulated.clear()
    seen: list[str] = []
    write_cohort(out, subjects=3, progress=seen.append)
    assert simulated == [1]
    assert seen == ["sub-001", "sub-002", "sub-003"]
    assert contents(out) == before


@pytest.mark.parametrize("version", [GENERATOR_VERSION, GENERATOR_VERSION + 1])
def test_phantom_of_another_seed_or_generator_is_not_touched(
    tmp_path: Path, simulated: list[int], monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    out = tmp_path / "out"
    write_cohort(out, subjects=1, seed=0)
    before = contents(out)
    monkeypatch.setattr(cohort_module, "GENERATOR_VERSION", version)
    with pytest.raises(BadInputError, match="another phantom"):
        write_cohort(out, subjects=1, seed=0 if version > GENERATOR_VERSION else 1)
    assert contents(out) == before


def test_ct_and_mri_do_not_share_a_folder(tmp_path: Path, simulated: list[int]) -> None:
    images = write_cohort(tmp_path / "out", subjects=2, modality="ct")
    assert Cohort.find([images]).modalities == ("ct",)
    before = contents(tmp_path / "out")
    with pytest.raises(BadInputError, match="another phantom"):
        write_cohort(tmp_path / "out", subjects=2)
    assert contents(tmp_path / "out") == before


def test_folder_with_something_else_is_not_touched(tmp_path: Path, simulated: list[int]) -> None:
    (tmp_path / "thesis.txt").write_text("do not lose")
    with pytest.raises(BadInputError, match="not empty"):
        write_cohort(tmp_path, subjects=1)
    assert list(contents(tmp_path)) == ["thesis.txt"]
    with pytest.raises(BadInputError, match="is a file"):
        write_cohort(tmp_path / "thesis.txt", subjects=1)


@pytest.mark.parametrize(("subjects", "seed"), [(0, 0), (1, -1)])
def test_impossible_cohorts_are_refused(tmp_path: Path, subjects: int, seed: int) -> None:
    with pytest.raises(UsageError):
        write_cohort(tmp_path / "out", subjects, seed)
    assert not (tmp_path / "out").exists()


def test_command_writes_the_cohort_and_says_where(tmp_path: Path, simulated: list[int]) -> None:
    app = typer.Typer()
    app.command()(phantom)
    result = CliRunner().invoke(app, [str(tmp_path / "out"), "--subjects", "2", "--seed", "9"])
    assert result.exit_code == 0
    assert str(tmp_path / "out" / "images") in result.stdout.replace("\n", "")
    assert json.loads((tmp_path / "out" / "phantom.json").read_text())["Seed"] == 9
    assert simulated == [0, 1]
    result = CliRunner().invoke(app, [str(tmp_path / "ct"), "--subjects", "1", "--modality", "ct"])
    assert result.exit_code == 0
    assert [path.name for path in (tmp_path / "ct" / "images").rglob("*.nii.gz")] == ["sub-001_ct.nii.gz"]
