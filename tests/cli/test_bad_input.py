"""Users' mistakes on the real command line: the exit code, one line that names the fault, nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cgckit.errors import BadInputError

WriteCohort = Callable[..., Path]

QUICK = [
    *("--device", "cpu", "--quiet", "--set", "spacing=4", "--set", "crop=16x16x16", "--set", "widths=4x4x4x4"),
    *("--set", "projection=4", "--set", "batch=1", "--set", "steps=5"),
]

PRIORS = """
import torch
from dataclasses import dataclass
from cgckit import Prior

@dataclass
class Bright(Prior):
    def predict(self, case):
        return ((case.channel("flair") > 2.5) & case.brain).float()

@dataclass
class Nothing(Prior):
    def predict(self, case):
        return torch.zeros(case.brain.shape)

@dataclass
class Raising(Prior):
    def predict(self, case):
        raise IndexError("no such voxel\\nsecond line of it")

@dataclass
class TooLarge(Prior):
    def predict(self, case):
        return 2.0 * case.brain.float()
"""


@pytest.fixture
def priors(tmp_path: Path) -> Path:
    path = tmp_path / "priors.py"
    path.write_text(PRIORS)
    return path


@pytest.fixture
def refine(cgckit, priors, tmp_path):
    """`cgckit refine --strict` to tmp_path/out, with a prior that works unless another is given."""

    def call(*arguments: object, prior: object = f"{priors}:Bright", out: Path = tmp_path / "out"):
        return cgckit("refine", *arguments, "--prior", prior, "--out", out, "--strict", *QUICK)

    return call


def assert_one_line(ending, code: int, *words: str) -> None:
    """The command ended with `code` and one line on stderr that holds every word."""
    assert ending.code == code, ending.err
    lines = ending.err.splitlines()
    assert len(lines) == 1, ending.err
    assert lines[0].startswith("cgckit: ")
    for word in words:
        assert word in lines[0], lines[0]
    assert ending.out == ""


def images_in(folder: Path) -> list[str]:
    """Images and unfinished files anywhere in a folder."""
    return [path.name for path in folder.rglob("*") if path.suffix == ".gz" or path.name.startswith(".partial-")]


def flair_of(scans: Path, subject: str) -> Path:
    return scans / subject / f"{subject}_flair.nii.gz"


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    image = nib.load(path)
    array = change(np.asarray(image.dataobj).copy())
    nib.save(nib.Nifti1Image(array, image.affine if affine is None else affine), path)


def shift(path: Path) -> None:
    affine = nib.load(path).affine.copy()
    affine[0, 3] += 7
    rewrite(path, lambda array: array, affine)


def set_nan(array: np.ndarray) -> np.ndarray:
    array[20, 20, 18] = np.nan
    return array


def cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


# What the header tells is found in every subject before anything is done.
HEADER_FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no NIfTI": (lambda path: path.write_text("this is no image"), "not a readable NIfTI"),
    "empty file": (lambda path: path.write_bytes(b""), "not a readable NIfTI"),
    "cut within the header": (lambda path: cut(path, 0.0002), "not a readable NIfTI"),
    "2-D": (lambda path: rewrite(path, lambda array: array[:, :, 18]), "2-D"),
    "one slice": (lambda path: rewrite(path, lambda array: array[:, :, 18:19]), "2-D"),
    "several volumes": (lambda path: rewrite(path, lambda a: np.stack([a, a], -1)), "several volumes"),
    "another shape": (lambda path: rewrite(path, lambda array: array[:-1]), "different grids"),
    "another affine": (shift, "different grids"),
}
# What only the voxels tell is found when the subject is prepared, before any training.
VOXEL_FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated gzip": (lambda path: cut(path, 0.5), "cut short"),
    "NaN": (lambda path: rewrite(path, set_nan), "NaN"),
    "constant": (lambda path: rewrite(path, np.ones_like), "every voxel is 1"),
}


@pytest.mark.parametrize("fault", HEADER_FAULTS)
def test_a_file_whose_header_is_bad_is_found_before_anything_is_written(refine, write_cohort, tmp_path, fault):
    scans = write_cohort(3)
    spoil, words = HEADER_FAULTS[fault]
    spoil(flair_of(scans, "case3"))
    assert_one_line(refine(scans, "--prepared", "yes"), 3, "case3_flair.nii.gz", words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fault", VOXEL_FAULTS)
def test_a_file_whose_voxels_are_bad_leaves_no_image_behind(refine, write_cohort, tmp_path, fault):
    scans = write_cohort(1)
    spoil, words = VOXEL_FAULTS[fault]
    spoil(flair_of(scans, "case1"))
    assert_one_line(refine(scans), 3, str(flair_of(scans, "case1")), words)
    assert images_in(tmp_path / "out") == []


def test_once_the_bad_file_is_replaced_the_same_command_works(refine, write_cohort, tmp_path):
    scans, out = write_cohort(2), tmp_path / "out"
    good = flair_of(scans, "case2").read_bytes()
    rewrite(flair_of(scans, "case2"), set_nan)
    assert refine(scans).code == 3
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "failed"
    assert "case2_flair.nii.gz" in record["error"]
    assert "NaN" in (out / "cgckit.log").read_text().splitlines()[-1]
    flair_of(scans, "case2").write_bytes(good)
    assert refine(scans).code == 0
    assert json.loads((out / "run.json").read_text())["status"] == "complete"
    assert len([name for name in images_in(out) if name.endswith("_desc-cgc_mask.nii.gz")]) == 2


def test_what_a_failed_run_wrote_for_a_subject_that_is_left_out_now_is_removed(refine, write_cohort, tmp_path):
    scans = write_cohort(3)
    rewrite(flair_of(scans, "case3"), set_nan)
    assert refine(scans).code == 3
    shutil.rmtree(scans / "case3")
    shutil.rmtree(scans / "case2")
    assert refine(scans).code == 0
    assert {name.split("_")[0] for name in images_in(tmp_path / "out")} == {"sub-case1"}


def test_training_that_diverges_is_one_line_and_another_learning_rate_is_taken(refine, write_cohort, tmp_path):
    scans, rate = write_cohort(1), "--set=learning_rate="
    assert_one_line(refine(scans, f"{rate}1e30"), 1, "the loss became", "lower the learning rate")
    assert refine(scans, f"{rate}1e-3").code == 0


def test_a_run_that_failed_after_training_is_not_given_up(refine, write_cohort, tmp_path, monkeypatch):
    scans = write_cohort(1)
    with monkeypatch.context() as patch:
        patch.setattr("cgckit.pipeline.engine.Engine.write_refined", write_nothing)
        assert_one_line(refine(scans), 3, "disk is full")
    assert_one_line(refine(scans, "--seed", "1"), 2, "--overwrite")
    assert refine(scans).code == 0


def write_nothing(*arguments):
    raise BadInputError("the disk is full")


def test_bad_voxels_in_the_last_subject_end_the_run_before_training(refine, write_cohort, tmp_path):
    scans, out = write_cohort(2), tmp_path / "out"
    rewrite(flair_of(scans, "case2"), set_nan)
    assert_one_line(refine(scans), 3, "case2_flair.nii.gz", "NaN")
    written = images_in(out)
    assert written
    assert all(name.startswith("sub-case1_") for name in written)
    for path in out.rglob("*.nii.gz"):
        assert np.isfinite(nib.load(path).get_fdata()).all()
    assert not (out / "model").exists()
    assert not (out / "work" / "run" / "checkpoint.safetensors").exists()


def test_a_missing_file_is_named(cgckit, refine, write_cohort, tmp_path):
    scans, gone = write_cohort(1), tmp_path / "gone.nii.gz"
    table = tmp_path / "cohort.tsv"
    table.write_text(f"subject\tflair\nA\t{flair_of(scans, 'case1')}\nB\tnot-there.nii.gz\n")
    assert_one_line(refine(gone), 3, str(gone), "no such file")
    assert_one_line(refine(table), 3, "not-there.nii.gz", "line 3", "cohort.tsv")
    assert_one_line(refine(tmp_path / "empty.txt"), 3, "empty.txt")
    assert not (tmp_path / "out").exists()


def test_dicom_is_told_from_other_files(refine, tmp_path):
    folder = tmp_path / "study" / "series"
    folder.mkdir(parents=True)
    (folder / "README").write_text("no image")
    assert_one_line(refine(folder.parent), 3, str(folder.parent), "no image found")
    (folder / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(20))
    for given in (folder.parent, folder / "IM0001"):
        assert_one_line(refine(given), 3, str(given), "DICOM", "cgckit dicom")
    assert not (tmp_path / "out").exists()


def test_a_subject_that_lacks_a_modality_is_named(refine, write_cohort, tmp_path):
    scans = write_cohort(2)
    (scans / "case2" / "case2_t1.nii.gz").unlink()
    assert_one_line(refine(scans), 3, "case2", "t1", "--allow-missing")
    assert not (tmp_path / "out").exists()


def test_duplicate_subjects_are_named(refine, write_cohort, tmp_path):
    scans = write_cohort(2)
    rows = [f"anna\tcase{number}/case{number}_flair.nii.gz" for number in (1, 2)]
    (scans / "cohort.tsv").write_text("\n".join(["subject\tflair", *rows]))
    assert_one_line(refine(scans / "cohort.tsv"), 3, "duplicate subject", "'anna' has two rows")
    assert not (tmp_path / "out").exists()


def test_a_brain_mask_of_another_grid_is_named(refine, write_cohort, tmp_path):
    scans = write_cohort(1)
    mask = scans / "case1" / "case1_brain_mask.nii.gz"
    shutil.copy(flair_of(scans, "case1"), mask)
    shift(mask)
    assert_one_line(refine(scans), 3, str(mask), "brain mask")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spoil", [shift, lambda path: rewrite(path, lambda array: array[1:])])
def test_a_prior_file_of_another_grid_is_named(refine, write_cohort, tmp_path, spoil):
    scans, references = write_cohort(1), tmp_path / "scans-references"
    spoil(references / "case1_seg.nii.gz")
    ending = refine(scans, prior=f"mask:{references}/{{subject}}_seg.nii.gz")
    assert_one_line(ending, 3, str(references / "case1_seg.nii.gz"), "not on the grid", "case1")
    assert images_in(tmp_path / "out") == []


def test_a_prior_file_that_is_not_there_is_named(refine, write_cohort, tmp_path):
    scans, references = write_cohort(2), tmp_path / "scans-references"
    (references / "case2_seg.nii.gz").unlink()
    ending = refine(scans, prior=f"mask:{references}/{{subject}}_seg.nii.gz")
    assert_one_line(ending, 3, "{subject}_seg.nii.gz", "case2")
    assert not (tmp_path / "out").exists()


def test_prior_files_that_changed_make_another_run(refine, write_cohort, tmp_path):
    scans, mask = write_cohort(1), tmp_path / "scans-references" / "case1_seg.nii.gz"
    prior = f"mask:{mask.parent}/{{subject}}_seg.nii.gz"
    assert refine(scans, prior=prior).code == 0
    rewrite(mask, lambda array: np.roll(array, 1, 0))
    assert_one_line(refine(scans, prior=prior), 2, "--overwrite")
    assert refine(scans, "--overwrite", prior=prior).code == 0
    probability = next((tmp_path / "out").glob("sub-case1/anat/*seg-mask_label-L_probseg.nii.gz"))
    moved = np.asarray(nib.load(mask).dataobj) > 0
    assert ((nib.load(probability).get_fdata() > 0.5) == moved).mean() > 0.99


def test_an_output_that_cannot_be_written_is_named(refine, write_cohort, tmp_path):
    file = tmp_path / "a-file"
    file.write_text("kept")
    scans = write_cohort(1)
    for out in (file, file / "out"):
        assert_one_line(refine(scans, out=out), 3, str(out), "cannot be written")
    assert file.read_text() == "kept"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prior", "gmmm"], ["'gmmm'", "did you mean gmm", "mask", "mumford-shah"]),
        (["--prior", "mask:no-placeholder.nii.gz"], ["{subject}"]),
        (["--prior", "not-there.py:Mine"], ["not-there.py"]),
        (["--prior", "gmm", "--prior-option", "colour=red"], ["gmm", "'colour'", "its options are", "seed"]),
        (["--prior", "gmm", "--prior-option", "seed=red"], ["gmm", "seed", "'red'"]),
        (["--prior", "gmm", "--prior-option", "seed"], ["'seed'", "KEY=VALUE"]),
        (["--preset", "huge"], ["'huge'", "auto", "light", "paper"]),
        (["--set", "stepz=3"], ["'stepz'", "did you mean steps? `cgckit presets` lists all"]),
        (["--set", "quality=3"], ["no option 'quality': `cgckit presets` lists all"]),
        (["--set", "steps=many"], ["steps", "'many'"]),
        (["--set", "steps"], ["--set", "KEY=VALUE", "'steps'"]),
        (["--set", "crop=33x33x33"], ["crop", "multiples of 8"]),
        (["--device", "abacus"], ["'abacus'", "cuda"]),
    ],
    ids=lambda value: " ".join(value[-2:]),
)
def test_an_unknown_option_is_named_with_what_there_is(cgckit, write_cohort, tmp_path, arguments, words):
    out = tmp_path / "out"
    ending = cgckit("refine", write_cohort(1), "--out", out, "--quiet", *arguments)
    assert_one_line(ending, 2, *words)
    assert not out.exists()


def test_a_record_that_cgckit_did_not_write_is_not_touched(refine, write_cohort, tmp_path):
    scans, out = write_cohort(1), tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text('{"key": "of another run"}')
    for options in ([], ["--overwrite"]):
        assert_one_line(refine(scans, *options), 2, str(out / "run.json"), "was not written by cgckit")
    assert [path.name for path in out.iterdir()] == ["run.json"]


@pytest.mark.parametrize("command", ["refine", "prior"])
def test_a_prior_that_raises_is_named(cgckit, write_cohort, priors, tmp_path, command):
    out = tmp_path / "out"
    ending = cgckit(command, write_cohort(1), "--prior", f"{priors}:Raising", "--out", out, "--quiet")
    assert_one_line(ending, 5, "Raising", "case1", "IndexError: no such voxel")
    assert images_in(out) == []


def test_a_prior_that_breaks_its_contract_is_named(refine, write_cohort, priors, tmp_path):
    assert_one_line(refine(write_cohort(1), prior=f"{priors}:TooLarge"), 5, "TooLarge", "[0, 1]", "priors check")
    assert images_in(tmp_path / "out") == []


def test_a_prior_file_that_cannot_be_run_is_named(refine, write_cohort, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name\n")
    assert_one_line(refine(write_cohort(1), prior=f"{broken}:Mine"), 5, "broken.py", "nothing_of_this_name")
    assert not (tmp_path / "out").exists()


def test_priors_that_are_all_empty_end_the_run_without_masks(refine, write_cohort, priors, tmp_path):
    out = tmp_path / "out"
    assert_one_line(refine(write_cohort(2), prior=f"{priors}:Nothing"), 4, "case1", "case2", "--prior")
    assert not list(out.rglob("*desc-cgc_mask*"))
    assert not list(out.rglob(".partial-*"))
    log = (out / "cgckit.log").read_text()
    assert "case2: the prior is excluded from training" in log


def test_the_log_is_on_the_screen_unless_quiet(cgckit, write_cohort, priors, tmp_path):
    arguments = ["prior", write_cohort(1), "--prior", f"{priors}:Nothing", "--out", tmp_path / "out"]
    assert "the prior is excluded from training" in cgckit(*arguments).err
    assert cgckit(*arguments, "--quiet", "--overwrite").err == ""


@pytest.mark.parametrize("option", ["--model", "--out"])
def test_predict_names_a_bad_model_or_output(cgckit, write_cohort, tmp_path, option):
    nowhere = tmp_path / "nowhere"
    values = {"--model": nowhere, "--out": tmp_path / "out"}
    ending = cgckit("predict", write_cohort(1), *(word for pair in values.items() for word in pair), "--quiet")
    assert_one_line(ending, 3, str(nowhere))
    assert not (tmp_path / "out").exists()


def test_evaluate_names_a_missing_reference(cgckit, write_cohort, tmp_path):
    write_cohort(1)
    mask = tmp_path / "scans-references" / "case1_seg.nii.gz"
    assert_one_line(cgckit("evaluate", mask, tmp_path / "gone.nii.gz", "--quiet"), 3, "gone.nii.gz")


def test_the_installed_command_ends_with_the_code_and_one_line(tmp_path):
    """As above, from a process of its own: nothing that is imported or ends late adds a line."""
    image = tmp_path / "case1_flair.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((20, 20, 20), np.float32), np.eye(4)), image)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cgckit", "refine", image, "--out", out, "--quiet", "--device", "cpu"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert str(image) in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stdout == ""
    assert images_in(out) == []
