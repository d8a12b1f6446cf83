"""What is written: names, headers equal to the inputs', equal bytes, nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

import cgckit
from cgckit import Case, Prior, __version__
from cgckit.atomic import TEMPORARY_PREFIX
from cgckit.derivatives import Derivatives, image_of, label_of, participant
from cgckit.errors import BadInputError
from cgckit.images.brain import CoarseSearch
from cgckit.images.cohort import Cohort
from cgckit.images.grid import Grid
from cgckit.images.preparation import prepare
from cgckit.images.volume import Volume

GEOMETRY = [
    "dim",
    "pixdim",
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
    "xyzt_units",
]


def turned(spacing, flip=(1, 1, 1)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (15, -10, 25), degrees=True).as_matrix() @ np.diag(
        np.multiply(spacing, flip)
    )
    affine[:3, 3] = (-30.25, 12.5, 41.0)
    return affine


def plain(spacing, flip=(1, 1, 1)):
    affine = np.diag([*np.multiply(spacing, flip), 1.0])
    affine[:3, 3] = (10.0, -20.0, 5.0)
    return affine


def make(affine, shape=(40, 44, 36), dtype=np.float32, **options):
    """A stripped brain: an ellipsoid of noise with a bright ball in it, as a NIfTI image."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    brain = sum(axis**2 for axis in axes) < 0.8
    array = np.where(brain, np.random.default_rng(0).uniform(80, 120, shape), 0)
    array[ball(affine, shape)] = 400
    array = array.astype(dtype)
    if options.get("fourth_axis"):
        array = array[..., None]
    kind = options.get("kind", nib.Nifti1Image)
    image = kind(array, affine)
    image.set_sform(affine, code=options.get("sform", 2))
    image.set_qform(options.get("qform_affine", affine), code=options.get("qform", 1))
    image.header.set_xyzt_units(*options.get("units", ("mm", "sec")))
    if "slope" in options:
        image.header.set_slope_inter(*options["slope"])
    return image


def ball(affine, shape):
    """Voxels within 7 mm of a point that lies off the middle of the image."""
    points = apply_affine(affine, np.stack(np.indices(shape), axis=-1))
    centre = apply_affine(affine, np.array(shape) * (0.6, 0.45, 0.55))
    return np.linalg.norm(points - centre, axis=-1) < 7


INPUTS = {
    "plain": make(plain((1, 1, 1))),
    "oblique": make(turned((1, 1, 1))),
    "left-handed": make(plain((1, 1, 1), flip=(-1, 1, 1))),
    "oblique and left-handed": make(turned((1.1, 0.9, 1.3), flip=(1, -1, 1))),
    "0.5 x 0.5 x 5 mm": make(plain((0.5, 0.5, 5)), shape=(90, 90, 12)),
    "int16 with slope and intercept": make(plain((1, 1, 1)), dtype=np.int16, slope=(0.25, -12)),
    "4-D with one volume": make(plain((1, 1, 1.5)), fourth_axis=True),
    "only a qform": make(turned((1, 1, 1)), sform=0, qform=1, units=("unknown", "unknown")),
    "only an sform": make(turned((1, 1, 1)), sform=4, qform=0),
    "qform unlike sform": make(turned((1, 1, 1)), sform=3, qform=1, qform_affine=plain((1, 1, 1))),
    "NIfTI-2": make(turned((1, 1, 1)), kind=nib.Nifti2Image),
}


@pytest.fixture(params=INPUTS)
def scan(request, tmp_path):
    """A folder with one subject, whose image has the header in question."""
    path = tmp_path / "scans" / "p_1" / "flair.nii.gz"
    path.parent.mkdir(parents=True)
    nib.save(INPUTS[request.param], path)
    return path


def raw_header(path):
    with gzip.open(path) as file:
        start = file.read(540)
    kind = nib.Nifti2Header if start[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nib.Nifti1Header
    return kind(start[: kind.template_dtype.itemsize], check=False)


def assert_same_geometry(written, given):
    one, other = nib.load(written), nib.load(given)
    assert type(one) is type(other)
    for field in GEOMETRY:
        np.testing.assert_array_equal(one.header[field], other.header[field], err_msg=field)
    assert one.shape == other.shape
    np.testing.assert_array_equal(one.affine, other.affine)
    np.testing.assert_array_equal(one.get_qform(), other.get_qform())
    assert one.header.get_zooms() == other.header.get_zooms()
    assert one.header.get_xyzt_units() == other.header.get_xyzt_units()


def test_headers_equal_the_inputs(scan, tmp_path):
    out = Derivatives.create(tmp_path / "out")
    volume = Volume.load(scan)
    probability = np.random.default_rng(1).random(volume.grid.shape, dtype=np.float32)
    mask = probability > 0.5
    written = {
        out.write_mask("p1", mask, scan): (np.uint8, mask),
        out.write_brain("p1", ~mask, scan): (np.uint8, ~mask),
        out.write_probability("p1", probability, scan): (np.float32, probability),
        out.write_prior_probability("p1", "gmm", probability / 2, scan): (np.float32, probability / 2),
    }
    assert len(written) == 4
    for path, (dtype, content) in written.items():
        assert_same_geometry(path, scan)
        image = nib.load(path)
        assert image.get_data_dtype() == dtype
        np.testing.assert_array_equal(np.asanyarray(image.dataobj).reshape(mask.shape), content)
        raw = raw_header(path)
        assert (raw["scl_slope"], raw["scl_inter"]) == (1, 0)
        assert (raw["cal_min"], raw["cal_max"]) == (0, 1)
        assert __version__ in str(raw["descrip"])


def test_what_is_found_on_the_working_grid_lands_where_it_is_in_the_world(scan, tmp_path):
    cohort = Cohort.find([tmp_path / "scans"])
    case = prepare(cohort[0], cohort.modalities, CoarseSearch())
    found = (case.image[0] > 5).numpy()  # the ball is far brighter than anything else
    out = Derivatives.create(tmp_path / "out")
    path = out.write_mask(cohort[0].label, case.to_native(found.astype(np.float32)) >= 0.5, scan)
    written = nib.load(path)
    mask = np.asanyarray(written.dataobj).reshape(written.shape[:3]).astype(bool)
    truth = ball(nib.load(scan).affine, mask.shape)
    centres = [apply_affine(nib.load(scan).affine, np.argwhere(array)).mean(axis=0) for array in (mask, truth)]
    voxel = np.linalg.norm(case.grid.spacing + case.native.spacing)
    assert np.linalg.norm(centres[0] - centres[1]) < voxel / 2
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.8


@dataclass
class BrightBall(Prior):
    """The ball: it is far brighter than anything else."""

    def predict(self, case: Case):
        return ((case.image[0] > 5) & case.brain).float()


@pytest.fixture(scope="module")
def refined(tmp_path_factory):
    """One whole run on a cohort in which each subject has another kind of header; its result is the prior's map."""
    scans = tmp_path_factory.mktemp("scans")
    for name, image in INPUTS.items():
        (scans / name).mkdir()
        nib.save(image, scans / name / "flair.nii.gz")
    settings = {"spacing": 4.0, "crop": (16, 16, 16), "widths": (4, 4, 4, 4), "projection": 4, "batch": 1}
    settings |= {"steps": 1, "mirror": False, "prior_weight": 1e3, "prior_reach": 1.0}
    result = cgckit.refine(scans, BrightBall(), tmp_path_factory.mktemp("out"), settings=settings, device="cpu")
    return scans, Derivatives(result.out)


@pytest.mark.parametrize("name", INPUTS)
def test_a_whole_run_gives_each_subject_the_header_of_its_own_scan(refined, name):
    scans, out = refined
    label = next(label for label, source in out.subjects().items() if source == name)
    scan = scans / name / "flair.nii.gz"
    prior, brain = out.prior_probability(label, "BrightBall"), out.brain_mask(label)
    written = [out.refined_mask(label), out.refined_probability(label), prior, brain]
    for path in written:
        assert_same_geometry(path, scan)
    image = nib.load(scan)
    truth = ball(image.affine, image.shape[:3])
    for path in written[:3]:
        found = nib.load(path).get_fdata().reshape(truth.shape) >= 0.5
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8
    inside = nib.load(brain).get_fdata().reshape(truth.shape) > 0
    stripped = image.get_fdata().reshape(truth.shape) != image.dataobj.inter
    assert (inside != stripped).mean() < 0.02


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_no_text_of_an_inputs_header_is_passed_on(tmp_path, kind):
    image = make(plain((1, 1, 1)), kind=kind)
    texts = [
        name for name in image.header if image.header[name].dtype.itemsize > 8 and image.header[name].dtype.kind == "S"
    ]
    assert {"descrip", "aux_file", "intent_name"} <= set(texts)
    for name in texts:
        image.header[name] = b"Jane Doe"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe, born 1950"))
    nib.save(image, tmp_path / "a.nii.gz")
    assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes()).count(b"Jane") == len(texts) + 1
    path = Derivatives(tmp_path).write_mask("p1", np.zeros(image.shape, bool), tmp_path / "a.nii.gz")
    assert b"Jane" not in gzip.decompress(path.read_bytes())


def test_equal_content_gives_equal_bytes(tmp_path):
    nib.save(make(plain((1, 1, 1))), tmp_path / "a.nii.gz")
    probability = np.random.default_rng(1).random((40, 44, 36), dtype=np.float32)
    paths = [
        Derivatives.create(tmp_path / name).write_probability("p1", probability, tmp_path / "a.nii.gz")
        for name in ("one", "other")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes()[3:8] == bytes(5)  # gzip: no flags, so no name, and no time


def test_an_array_of_another_shape_is_not_written(tmp_path):
    nib.save(make(plain((1, 1, 1))), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="shape"):
        Derivatives(tmp_path / "out").write_mask("p1", np.zeros((3, 3, 3), bool), tmp_path / "a.nii.gz")
    assert not (tmp_path / "out").exists()


def test_names_are_those_of_bids_derivatives(tmp_path):
    out = Derivatives(tmp_path)
    names = {
        out.refined_mask("p1"): "sub-p1_space-orig_label-L_desc-cgc_mask.nii.gz",
        out.refined_probability("p1"): "sub-p1_space-orig_label-L_probseg.nii.gz",
        out.prior_probability("p1", "mumford-shah"): "sub-p1_space-orig_seg-mumfordshah_label-L_probseg.nii.gz",
        out.brain_mask("p1"): "sub-p1_space-orig_desc-brain_mask.nii.gz",
    }
    for path, name in names.items():
        assert path == tmp_path / "sub-p1" / "anat" / name


def test_every_image_has_a_sidecar(tmp_path):
    source = tmp_path / "a.nii.gz"
    nib.save(make(plain((1, 1, 1))), source)
    out = Derivatives(tmp_path)
    empty = np.zeros((40, 44, 36), np.float32)
    expected = {
        out.write_mask("p1", empty, source): {"Type": "Lesion"},
        out.write_brain("p1", empty, source): {"Type": "Brain"},
        out.write_probability("p1", empty, source): {},
        out.write_prior_probability("p1", "a+b", empty, source): {"Prior": "a+b"},
    }
    for path, content in expected.items():
        sidecar = json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())
        assert sidecar == {**content, "SpatialReference": "orig", "Sources": ["a.nii.gz"]}
        assert image_of(path) == source


@pytest.mark.parametrize("bids", [True, False])
def test_sidecars_name_their_scans_wherever_the_folders_are_moved(write_cohort, tmp_path, bids):
    scans = tmp_path / "study" / "my scans"
    scans.parent.mkdir()
    write_cohort(2).rename(scans)
    if bids:
        (scans.parent / "dataset_description.json").write_text("{}")
    cohort = Cohort.find([scans])
    out = Derivatives.create(scans.parent / "derivatives" / "cgckit")
    out.write_description(cohort)
    scan = cohort[1].files["flair"]
    path = out.write_mask("case2", np.zeros(nib.load(scan).shape), scan)
    sidecar = json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())
    inside = "my scans/case2" if bids else "case2"
    assert sidecar["Sources"] == [f"bids:scans:{inside}/case2_flair.nii.gz"]
    assert image_of(path) == scan
    moved = tmp_path / "moved"
    shutil.copytree(out.root, moved)  # the results alone
    assert image_of(moved / path.relative_to(out.root)) == scan
    scans.parent.rename(tmp_path / "elsewhere")  # both
    there = tmp_path / "elsewhere"
    assert image_of(there / path.relative_to(scans.parent)) == there / scan.relative_to(scans.parent)


def test_a_session_has_a_folder_and_a_table_of_its_own(write_cohort, tmp_path):
    scans = write_cohort(3)
    for number, place in ((1, "P1/T1/P1_T1"), (2, "P1/T2/P1_T2"), (3, "P2/T1/P2_T1")):
        (scans / place).parent.mkdir(parents=True)
        (scans / f"case{number}/case{number}_flair.nii.gz").rename(scans / f"{place}_FLAIR.nii.gz")
        shutil.rmtree(scans / f"case{number}")
    cohort = Cohort.find([scans])
    out = Derivatives.create(tmp_path / "out")
    out.write_description(cohort)
    assert out.refined_mask(cohort[1].label) == (
        out.root / "sub-P1/ses-T2/anat/sub-P1_ses-T2_space-orig_label-L_desc-cgc_mask.nii.gz"
    )
    assert out.subjects() == {"P1_ses-T1": "P1_T1", "P1_ses-T2": "P1_T2", "P2_ses-T1": "P2_T1"}
    assert out.read_table("participants.tsv") == [
        {"participant_id": "sub-P1", "source": "P1"},
        {"participant_id": "sub-P2", "source": "P2"},
    ]
    rows = out.read_table("sub-P1/sub-P1_sessions.tsv")
    assert [row["session_id"] for row in rows] == ["ses-T1", "ses-T2"]
    assert label_of(participant("P1_ses-T2", "P1_T2")) == "P1_ses-T2"
    assert label_of({"participant_id": "sub-P1", "session_id": "n/a"}) == label_of(participant("P1", "x")) == "P1"


def test_the_description_names_the_generator(tmp_path):
    Derivatives(tmp_path).write_description(Cohort((), ()))
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["BIDSVersion"]
    assert description["GeneratedBy"] == [{"Name": "cgckit", "Version": __version__}]


def test_participants_lead_back_to_the_source_names(write_cohort, tmp_path):
    scans = write_cohort(2)
    (scans / "case1").rename(scans / "Case_1.a")
    out = Derivatives.create(tmp_path / "out")
    with pytest.raises(BadInputError, match=r"participants\.tsv"):
        out.subjects()
    (path,) = out.write_participants(Cohort.find([scans]))
    assert path.read_text().splitlines()[0] == "participant_id\tsource"
    assert out.subjects() == {"Case1a": "Case_1.a", "case2": "case2"}


@pytest.mark.parametrize("content", ["", "name\tage\nanna\t51\n", "participant_id\tsource\nsub-1\n"])
def test_participants_of_somebody_else_are_refused(tmp_path, content):
    (tmp_path / "participants.tsv").write_text(content)
    with pytest.raises(BadInputError, match=r"participants\.tsv"):
        Derivatives(tmp_path).subjects()


def test_tables_hold_all_columns_and_mark_what_is_missing(tmp_path):
    path = Derivatives(tmp_path).write_table(
        "summary.tsv", [{"a": 1, "b": None}, {"a": 0.123456789, "c": "two\twords"}, {"b": float("nan")}]
    )
    assert path.read_text() == "a\tb\tc\n1\tn/a\tn/a\n0.123457\tn/a\ttwo words\nn/a\tn/a\tn/a\n"


def test_json_is_written_as_people_read_it(tmp_path):
    path = Derivatives(tmp_path).write_json("a.json", {"name": "Zoë", "values": [1, 2.5]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "Zoë", "values": [1, 2.5]}


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for root in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(BadInputError) as caught:
            Derivatives.create(root)
        assert str(root) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(BadInputError, match="cannot be written"):
        Derivatives.create(tmp_path / "out")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    nib.save(make(plain((1, 1, 1))), tmp_path / "a.nii.gz")
    out = Derivatives.create(tmp_path / "out")
    before = out.write_mask("p1", np.zeros((40, 44, 36)), tmp_path / "a.nii.gz").read_bytes()
    files = sorted((tmp_path / "out").rglob("*"))

    def full_disk(image, stream):
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_stream", full_disk)
    with pytest.raises(BadInputError, match="No space left"):
        out.write_mask("p1", np.ones((40, 44, 36)), tmp_path / "a.nii.gz")
    assert out.refined_mask("p1").read_bytes() == before
    assert sorted((tmp_path / "out").rglob("*")) == files


def test_what_has_no_file_is_written_on_its_grid(tmp_path):
    affine = np.array([[0.0, -2, 0, 5], [1.5, 0, 0, -3], [0, 0, 3, 7], [0, 0, 0, 1]])
    grid = Grid((4, 5, 6), affine)
    mask = np.random.default_rng(0).random(grid.shape) > 0.5
    path = Derivatives.create(tmp_path).write_mask("p1", mask, grid)
    written = nib.load(path)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), mask)
    np.testing.assert_allclose(written.affine, affine)
    assert written.header.get_xyzt_units()[0] == "mm"
    assert "Sources" not in json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    with pytest.raises(BadInputError, match="images in memory"):
        image_of(path)


def test_what_a_killed_run_left_half_written_is_no_image(tmp_path: Path) -> None:
    out = Derivatives.create(tmp_path)
    whole = [out.prior_probability("01", "gmm"), out.refined_mask_on("01", "t1")]
    for path in whole:
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in (path.name, f"{TEMPORARY_PREFIX}{path.name}", path.name.replace("sub-01_", "sub-011_")):
            path.with_name(name).touch()
    assert out.prior_probabilities("01") == whole[:1]
    assert [path for path in out.files("01") if path.suffix == ".gz" and path.exists()] == whole
