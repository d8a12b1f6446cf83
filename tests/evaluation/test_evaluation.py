"""Pairing masks with references, scoring them, and what is written about it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cgckit.cli.commands.evaluate import evaluate as command
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError
from cgckit.evaluation import EvaluationResult, evaluate
from cgckit.images.cohort import Cohort
from cgckit.report import comparison
from cgckit.report.comparison import draw_evaluation

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (10, 12, 8)


def cube(size: int) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[1 : 1 + size, 1 : 1 + size, 1 : 1 + size] = 1
    return mask


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def dice_of_cubes(first: int, second: int) -> float:
    return 2 * min(first, second) ** 3 / (first**3 + second**3)


def dice(result: EvaluationResult) -> dict[tuple[str, str], float]:
    return {(row.subject, row.map): pytest.approx(row.scores["dice"]) for row in result.rows}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """An output folder with two subjects: the prior a cube of 4, the refined masks cubes of 3 and 2."""
    rng = np.random.default_rng(0)
    for subject in ("sub_1", "sub_10"):
        save(tmp_path / "scans" / subject / f"{subject}_flair.nii.gz", rng.random(SHAPE, dtype=np.float32) + 1)
    cohort = Cohort.find([tmp_path / "scans"])
    out = Derivatives.create(tmp_path / "out")
    out.write_participants(cohort)
    for subject, size in zip(cohort, (3, 2), strict=True):
        image = subject.files["flair"]
        # Just above and below one half, so that only a threshold there gives a cube of 4.
        out.write_prior_probability(subject.label, "gmm", np.where(cube(4), 0.51, 0.49), image)
        out.write_mask(subject.label, cube(size) > 0, image)
    return out.root


@pytest.fixture
def references(tmp_path: Path) -> Path:
    folder = tmp_path / "references"
    save(folder / "sub_1_seg.nii.gz", cube(3))
    save(folder / "sub_10_seg.nii.gz", cube(4))
    return folder


EXPECTED = {
    ("sub_1", "prior"): dice_of_cubes(4, 3),
    ("sub_1", "refined"): 1.0,
    ("sub_10", "prior"): 1.0,
    ("sub_10", "refined"): dice_of_cubes(2, 4),
}


def test_results_are_paired_with_a_folder_of_references_through_the_source_names(
    results: Path, references: Path
) -> None:
    result = evaluate(results, references)
    assert dice(result) == EXPECTED
    assert result.maps == ("prior", "refined")
    assert result.rows[0].reference == references / "sub_1_seg.nii.gz"


@pytest.mark.parametrize(
    "name", ["seg.nii.gz", "{subject}_seg.nii.gz", "{subject}-seg.nii.gz", "anat/{subject}_mask.nii"]
)
def test_references_may_lie_in_a_folder_for_each_subject(results: Path, tmp_path: Path, name: str) -> None:
    for subject, size in (("sub_1", 3), ("sub_10", 4)):
        folder = tmp_path / "labels" / subject
        save(folder / name.format(subject=subject), cube(size))
        save(folder / f"{subject}_flair.nii.gz", cube(6))
        save(folder / "brain_mask.nii.gz", cube(7))
    assert dice(evaluate(results, tmp_path / "labels")) == EXPECTED


def test_references_may_be_given_by_a_pattern(results: Path, tmp_path: Path) -> None:
    for subject, size in (("sub_1", 3), ("sub_10", 4)):
        save(tmp_path / "labels" / f"{subject}_expert.nii.gz", cube(size))
        save(tmp_path / "labels" / f"{subject}_seg.nii.gz", cube(6))
    assert dice(evaluate(results, tmp_path / "labels" / "{subject}_exp*.nii.gz")) == EXPECTED


def test_several_priors_are_scored_under_their_names(results: Path, references: Path, tmp_path: Path) -> None:
    for subject in Cohort.find([tmp_path / "scans"]):
        Derivatives(results).write_prior_probability(subject.label, "other-one", cube(1), subject.files["flair"])
    assert evaluate(results, references).maps == ("prior gmm", "prior otherone", "refined")


def test_several_predictions_are_scored_and_drawn_side_by_side(results: Path, references: Path, tmp_path: Path) -> None:
    save(tmp_path / "other" / "sub_1.nii.gz", cube(2))
    save(tmp_path / "other" / "sub_10.nii.gz", cube(4))
    result = evaluate([results, tmp_path / "other"], references)
    assert dice(result) == {
        **{(subject, f"out: {map_}"): value for (subject, map_), value in EXPECTED.items()},
        ("sub_1", "other: mask"): dice_of_cubes(2, 3),
        ("sub_10", "other: mask"): 1.0,
    }
    assert result.maps == ("out: prior", "out: refined", "other: mask")
    # A picture has one row for each subject, so its maps must follow each other.
    assert [row.subject for row in result.rows] == ["sub_1"] * 3 + ["sub_10"] * 3
    draw_evaluation(result, tmp_path / "both.png")
    assert (tmp_path / "both.png").stat().st_size > 1000
    with pytest.raises(BadInputError, match="once"):
        evaluate([results, results], references)


def test_one_mask_is_compared_with_one_file(tmp_path: Path) -> None:
    mask, reference = save(tmp_path / "a.nii.gz", cube(3)), save(tmp_path / "b.nii.gz", cube(4))
    result = evaluate(mask, reference)
    assert dice(result) == {("a", "mask"): dice_of_cubes(3, 4)}
    assert result.rows[0].scores["volume_ml"] == pytest.approx(27 * 8 / 1000)


def test_folder_and_pattern_of_masks_are_paired_by_name(tmp_path: Path, references: Path) -> None:
    for subject, size in (("sub_1", 3), ("sub_10", 2)):
        save(tmp_path / "masks" / f"{subject}_mask.nii.gz", cube(size))
    expected = {("sub_1", "mask"): 1.0, ("sub_10", "mask"): dice_of_cubes(2, 4)}
    assert dice(evaluate(tmp_path / "masks", references)) == expected
    assert dice(evaluate(tmp_path / "masks" / "{subject}_mask.nii.gz", references)) == expected
    assert dice(evaluate(tmp_path / "masks" / "*_1_mask.nii.gz", references)) == {("sub_1", "mask"): 1.0}


def test_repeated_placeholder_stands_for_one_name(tmp_path: Path, references: Path) -> None:
    save(tmp_path / "masks" / "sub_1" / "sub_1.nii.gz", cube(3))
    save(tmp_path / "masks" / "sub_1" / "sub_10.nii.gz", cube(1))
    result = evaluate(tmp_path / "masks" / "{subject}" / "{subject}.nii.gz", references)
    assert dice(result) == {("sub_1", "mask"): 1.0}


def test_one_subjects_own_folder_holds_its_reference(tmp_path: Path) -> None:
    mask = save(tmp_path / "masks" / "a.nii.gz", cube(2))
    for name in ("flair", "seg"):
        save(tmp_path / "a-scans" / f"{name}.nii.gz", cube(4))
    assert dice(evaluate(mask, tmp_path / "a-scans")) == {("a", "mask"): dice_of_cubes(2, 4)}
    save(tmp_path / "masks" / "b.nii.gz", cube(2))
    with pytest.raises(BadInputError, match="no reference of a, b"):
        evaluate(mask.parent, tmp_path / "a-scans")


def test_lesion_is_every_label_or_the_chosen_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labelled = cube(4) + 3 * cube(2)  # 1 around, 4 inside
    reference, mask = save(tmp_path / "r.nii.gz", labelled), save(tmp_path / "m.nii.gz", cube(2))
    assert dice(evaluate(mask, reference)) == {("m", "mask"): dice_of_cubes(2, 4)}
    assert dice(evaluate(mask, reference, labels=[4])) == {("m", "mask"): 1.0}
    assert dice(evaluate(mask, reference, labels=[1, 4])) == {("m", "mask"): dice_of_cubes(2, 4)}
    assert caplog.text == ""
    assert dice(evaluate(mask, reference, labels=[7])) == {("m", "mask"): 0.0}
    assert "label 7" in caplog.text


def test_means_are_over_finite_distances_with_the_others_counted(tmp_path: Path) -> None:
    for subject, size in (("a", 3), ("b", 4), ("c", 0)):
        save(tmp_path / "masks" / f"{subject}.nii.gz", cube(size))
        save(tmp_path / "refs" / f"{subject}.nii.gz", cube(3))
    result = evaluate(tmp_path / "masks", tmp_path / "refs")
    assert [row.scores["assd"] == math.inf for row in result.rows] == [False, False, True]
    summary = result.summary("mask")
    assert summary.subjects == 3
    dices, finite = [1.0, dice_of_cubes(4, 3), 0.0], [row.scores["assd"] for row in result.rows[:2]]
    assert summary.mean["dice"] == pytest.approx(np.mean(dices))
    assert summary.sd["dice"] == pytest.approx(np.std(dices, ddof=1))
    assert summary.mean["assd"] == pytest.approx(np.mean(finite))
    assert (summary.infinite["assd"], summary.infinite["dice"]) == (1, 0)
    with pytest.raises(KeyError, match="there are: mask"):
        result.summary("refined")


def test_files_hold_no_infinity(tmp_path: Path) -> None:
    result = evaluate(save(tmp_path / "m.nii.gz", cube(0)), save(tmp_path / "r.nii.gz", cube(3)))
    result.write(tmp_path / "scores")
    written = json.loads((tmp_path / "scores" / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert written["rows"][0]["assd"] is None
    assert written["summary"][0]["mean"]["assd"] is None
    assert written["summary"][0]["infinite"]["assd"] == 1
    header, row = (tmp_path / "scores" / "evaluation.tsv").read_text().splitlines()
    cells = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert (cells["subject"], cells["map"], cells["dice"], cells["hd95"]) == ("m", "mask", "0", "n/a")


def test_subject_without_reference_is_an_error_or_left_out(results: Path, references: Path) -> None:
    (references / "sub_1_seg.nii.gz").unlink()
    with pytest.raises(BadInputError, match=r"no reference of sub_1; .*--allow-missing"):
        evaluate(results, references)
    result = evaluate(results, references, allow_missing=True)
    assert {row.subject for row in result.rows} == {"sub_10"}
    assert result.missing == ("sub_1",)
    (references / "sub_10_seg.nii.gz").unlink()
    with pytest.raises(BadInputError, match="no reference of sub_1, sub_10"):
        evaluate(results, references, allow_missing=True)


@pytest.mark.parametrize("moved", ["shape", "affine"])
def test_grids_that_differ_are_refused_by_the_names_of_both_files(tmp_path: Path, moved: str) -> None:
    mask = save(tmp_path / "m.nii.gz", cube(3))
    affine = AFFINE.copy()
    affine[0, 3] += 1
    other = cube(3)[:, :, :-1] if moved == "shape" else cube(3)
    reference = save(tmp_path / "r.nii.gz", other, affine if moved == "affine" else AFFINE)
    with pytest.raises(BadInputError, match=r"m\.nii\.gz and .*r\.nii\.gz: different grids"):
        evaluate(mask, reference)


def test_ambiguous_references_are_refused(results: Path, references: Path, tmp_path: Path) -> None:
    save(references / "sub_1_other_seg.nii.gz", cube(2))
    with pytest.raises(BadInputError, match="several references of sub_1"):
        evaluate(results, references)
    with pytest.raises(BadInputError, match="one reference for several subjects"):
        evaluate(results, references / "sub_10_seg.nii.gz")


def test_ambiguous_masks_are_refused(tmp_path: Path, references: Path) -> None:
    save(tmp_path / "masks" / "sub_1_mask.nii.gz", cube(3))
    save(tmp_path / "masks" / "sub_1_seg.nii.gz", cube(3))
    with pytest.raises(BadInputError, match="several masks of sub_1"):
        evaluate(tmp_path / "masks", references)


def test_image_is_never_taken_for_a_reference(results: Path, tmp_path: Path) -> None:
    for subject in ("sub_1", "sub_10"):
        save(tmp_path / "raw" / f"{subject}_flair.nii.gz", cube(3))
    with pytest.raises(BadInputError, match="no reference"):
        evaluate(results, tmp_path / "raw")


def test_what_is_not_there_is_named(results: Path, references: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"nowhere: no such file"):
        evaluate(tmp_path / "nowhere", references)
    with pytest.raises(BadInputError, match=r"nowhere: no such file"):
        evaluate(results, tmp_path / "nowhere")
    with pytest.raises(BadInputError, match=r"empty: no mask found"):
        evaluate(tmp_path / "empty", references)
    for file in [*results.glob("sub-sub1/anat/*_mask.nii.gz"), *results.glob("sub-sub1/anat/*seg-gmm*.nii.gz")]:
        file.unlink()
    with pytest.raises(BadInputError, match="no mask of sub-sub1 yet"):
        evaluate(results, references)


def run(*arguments: object) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout


def test_command_prints_every_subject_and_the_means(results: Path, references: Path, tmp_path: Path) -> None:
    picture, scores = tmp_path / "scores" / "picture.png", tmp_path / "scores"
    code, text = run(results, references, "--out", scores, "--picture", picture)
    assert code == 0
    title, *lines = (line.split() for line in text.splitlines() if line.strip(" ─"))
    assert title[:2] == ["2", "subjects"]
    names = [[cell for cell in line if cell[0].isalpha()] for line in lines[1:]]
    assert names[:8] == [
        ["sub_1", "prior"],
        ["refined"],
        ["sub_10", "prior"],
        ["refined"],
        ["mean", "prior"],
        ["SD"],
        ["mean", "refined"],
        ["SD"],
    ]
    assert lines[1][2] == f"{dice_of_cubes(4, 3):.3f}"
    assert lines[5][2] == f"{(dice_of_cubes(4, 3) + 1) / 2:.3f}"
    assert max(map(len, text.splitlines())) <= 80
    assert sorted(path.name for path in scores.iterdir()) == ["evaluation.json", "evaluation.tsv", "picture.png"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_command_shows_what_is_infinite_and_what_has_no_spread(tmp_path: Path) -> None:
    code, text = run(save(tmp_path / "m.nii.gz", cube(0)), save(tmp_path / "r.nii.gz", cube(3)), "--label", 1)
    assert code == 0
    assert "inf" in text
    assert "- (1∞)" in text


def test_without_dice_a_picture_has_the_first_metric(
    results: Path, references: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(comparison, "draw_picture", lambda rows, path, title: drawn.append((rows, title)))
    draw_evaluation(evaluate(results, references, metrics=["volume_ml", "assd"]), tmp_path / "p.png")
    ((rows, title),) = drawn
    assert [row.notes for row in rows] == [{"prior": "0.51", "refined": "0.22"}, {"prior": "0.51", "refined": "0.06"}]
    assert title == "ml with the reference, mean: prior 0.5, refined 0.1"


def test_masks_from_elsewhere_cannot_be_drawn(tmp_path: Path) -> None:
    result = evaluate(save(tmp_path / "m.nii.gz", cube(2)), save(tmp_path / "r.nii.gz", cube(3)))
    with pytest.raises(BadInputError, match=r"m\.nii\.gz: no sidecar"):
        draw_evaluation(result, tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    ("scans", "references"),
    [
        ("P1/T{}/P1_T{}_FLAIR.nii.gz", "P1/T{}/P1_T{}_MASK.nii.gz"),
        ("P1/T{}/P1_T{}_FLAIR.nii.gz", "P1/T{}/mask.nii.gz"),
        ("sub-1/ses-{}/anat/sub-1_ses-{}_FLAIR.nii.gz", "sub-1/ses-{}/anat/sub-1_ses-{}_label-L_mask.nii.gz"),
        ("sub-1/ses-{}/anat/sub-1_ses-{}_FLAIR.nii.gz", "sub-1_ses-{}_mask.nii.gz"),
        ("P-1/week-0-{}/FLAIR.nii.gz", "P-1/week-0-{}/seg.nii.gz"),
    ],
)
def test_references_are_those_of_person_and_session(tmp_path: Path, scans: str, references: str) -> None:
    """Session 1 has cubes of 3, session 2 of 4: each is paired with its own."""
    rng = np.random.default_rng(0)
    for session, size in ((1, 3), (2, 4)):
        save(tmp_path / "scans" / scans.format(session, session), rng.random(SHAPE, dtype=np.float32) + 1)
        save(tmp_path / "references" / references.format(session, session), cube(size))
    cohort = Cohort.find([tmp_path / "scans"])
    out = Derivatives.create(tmp_path / "out")
    out.write_description(cohort)
    for subject, size in zip(cohort, (3, 4), strict=True):
        out.write_mask(subject.label, cube(size) > 0, subject.files["flair"])
    result = evaluate(out.root, tmp_path / "references")
    assert [row.scores["dice"] for row in result.rows] == [1, 1]


def test_a_reference_may_lie_deeper_than_the_subjects_folders(tmp_path: Path) -> None:
    for site, name in (("Utrecht", "0"), ("Singapore", "50")):
        save(tmp_path / "scans" / site / name / "pre/FLAIR.nii.gz", np.random.default_rng(0).random(SHAPE) + 1)
        save(tmp_path / "scans" / site / name / "wmh.nii.gz", cube(3))
    cohort = Cohort.find([tmp_path / "scans"])
    out = Derivatives.create(tmp_path / "out")
    out.write_description(cohort)
    for subject in cohort:
        out.write_mask(subject.label, cube(3) > 0, subject.files["flair"])
    assert [row.scores["dice"] for row in evaluate(out.root, tmp_path / "scans").rows] == [1, 1]
