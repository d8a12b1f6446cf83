"""`python -m benchmarks robustness`: what is measured, kept, taken up again and shown."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import cgckit
from benchmarks import robustness
from benchmarks.robustness.cohorts import write_perturbed
from cgckit.experiments.references import References
from cgckit.images.brain import resolve_brain
from cgckit.images.cohort import Cohort

QUICK = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "mirror=no"]
QUICK += ["appearance_weight=0", "prior_weight=0", "fill_cores=no", "weight_fine=0"]
BRIGHT = """
from dataclasses import dataclass
from cgckit import Prior

@dataclass
class Bright(Prior):
    level: float = 2.0

    def predict(self, case):
        return (case.channel("flair") > self.level).float() * case.brain
"""


def parse(folder: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    robustness.add_arguments(parser)
    quick = [word for setting in QUICK for word in ("--set", setting)]
    places = ["--results", str(folder / "results"), "--work", str(folder / "work"), "--name", "tiny"]
    scans = ["--cohort", str(folder / "scans"), "--references", str(folder / "scans-references")]
    (folder / "bright.py").write_text(BRIGHT)
    prior = ["--prior", f"{folder / 'bright.py'}:Bright"]
    return parser.parse_args([*quick, *places, *scans, *prior, "--steps", "2", *words])


def lines(folder: Path) -> dict[str, dict]:
    _, *found = (folder / "results" / "robustness-tiny.jsonl").read_text().splitlines()
    return {line["name"]: line for line in map(json.loads, found)}


def test_a_measurement_is_kept_taken_up_again_and_shown(
    write_cohort: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = write_cohort(2)
    robustness.run(parse(tmp_path, "--perturbations", "absent,none"))
    found = lines(tmp_path)
    assert list(found) == ["none", "absent"]
    assert found["absent"]["modality"] == "t1"
    for line in found.values():
        assert {name: set(scores) for name, scores in line["subjects"].items()} == {
            "case1": {"prior", "refined"},
            "case2": {"prior", "refined"},
        }
    # The unperturbed scans are no others than the cohort's own.
    out = tmp_path / "own"
    cgckit.compute_priors(scans, f"{tmp_path / 'bright.py'}:Bright", out)
    scores = cgckit.evaluate(out, tmp_path / "scans-references", metrics="dice")
    own = {row.subject: round(row.scores["dice"], 6) for row in scores.rows}
    assert own == {name: line["prior"] for name, line in found["none"]["subjects"].items()}

    refined: list[str] = []
    refine = cgckit.refine
    monkeypatch.setattr(cgckit, "refine", lambda *a, **k: refined.append(Path(a[2]).parent.name) or refine(*a, **k))
    robustness.run(parse(tmp_path, "--perturbations", "none,mirror,absent"))
    assert refined == ["mirror"], "what has a line is not measured again"
    assert {name: line for name, line in lines(tmp_path).items() if name != "mirror"} == found
    robustness.run(parse(tmp_path, "--perturbations", "mirror", "--overwrite"))
    assert refined == ["mirror", "mirror"]

    table = (tmp_path / "results" / "robustness-tiny.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows] == ["perturbation", "---", "none", "mirror", "absent"]

    with pytest.raises(SystemExit, match="other scans, options or versions"):
        robustness.run(parse(tmp_path, "--steps", "3", "--perturbations", "none"))
    assert lines(tmp_path).keys() == {"none", "mirror", "absent"}


def test_without_training_anew_the_network_of_the_unperturbed_scans_is_applied(
    write_cohort: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cohort(2)
    trained: list[str] = []
    refine = cgckit.refine
    monkeypatch.setattr(cgckit, "refine", lambda *a, **k: trained.append(Path(a[2]).parent.name) or refine(*a, **k))
    robustness.run(parse(tmp_path, "--perturbations", "mirror,absent", "--retrain", "no"))
    assert set(trained) == {"none"}
    line = lines(tmp_path)["mirror"]
    assert {frozenset(scores) for scores in line["subjects"].values()} == {frozenset({"prior", "refined"})}
    assert "no subject has modality t1" in lines(tmp_path)["absent"]["nothing"]
    assert "applied to the others" in (tmp_path / "results" / "robustness-tiny.md").read_text()


def test_what_cannot_be_done_or_fails_has_a_line_that_says_so(
    write_cohort: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(2)
    words = ["--modalities", "flair", "--prior-option", "level=100"]
    robustness.run(parse(tmp_path, "--perturbations", "none,corrupt", *words))
    found = lines(tmp_path)
    assert "only one modality" in found["corrupt"]["nothing"]
    assert "no subject has a usable prior" in found["none"]["nothing"]
    table = (tmp_path / "results" / "robustness-tiny.md").read_text()
    assert "| none | failed |" in table
    assert "| corrupt | left out |" in table


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--perturbations", "earthquake"], "there is no earthquake; choose from none, mirror"),
        (["--prior", "gmn"], "gmn"),
        (["--set", "colour=red"], "colour"),
        (["--references", "nowhere"], "nowhere"),
        (["--subjects", "0"], "at least one"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_done(
    write_cohort: Callable[..., Path], tmp_path: Path, words: list[str], complaint: str
) -> None:
    write_cohort(1)
    with pytest.raises(SystemExit, match=complaint) as stopped:
        robustness.run(parse(tmp_path, *words))
    assert "\n" not in str(stopped.value)
    assert not (tmp_path / "work").exists()


def test_perturbed_files_depend_on_seed_and_names_alone_and_are_whole(
    write_cohort: Callable[..., Path], tmp_path: Path
) -> None:
    scans = write_cohort(2)
    cohort = Cohort.find(scans)
    references = References.find(cohort, tmp_path / "scans-references")
    brain = resolve_brain("coarse")

    def write(folder: str, seed: int = 0, subjects: Cohort = cohort) -> dict[str, np.ndarray]:
        table, _ = write_perturbed(subjects, references, "noise", tmp_path / folder, brain=brain, seed=seed)
        return {path.name: nib.load(path).get_fdata() for path in table.parent.glob("*.nii.gz")}

    first = write("a")
    assert len(first) == 2 * 4
    (tmp_path / ".partial-b").mkdir()
    (tmp_path / ".partial-b" / "scans.tsv").write_text("half")
    again = write("b")
    alone = write("c", subjects=Cohort(cohort.subjects[1:], cohort.modalities))
    assert all(np.array_equal(values, again[name]) for name, values in first.items())
    assert all(np.array_equal(values, first[name]) for name, values in alone.items())
    assert not np.array_equal(write("d", seed=1)["sub-case1_t1.nii.gz"], first["sub-case1_t1.nii.gz"])
    (tmp_path / "a" / "sub-case1_t1.nii.gz").unlink()
    assert len(write("a")) == 2 * 4 - 1, "what is there is taken as it is"


def test_changes_and_the_worst_subject_are_counted_from_the_unperturbed_scans(tmp_path: Path) -> None:
    description = {
        "key": "k",
        "options": {
            "modalities": ["flair"],
            "prior": {"name": "gmm"},
            "settings": {"steps": 5},
            "seed": 0,
            "retrain": True,
        },
        "inputs": {"a": "", "b": ""},
    }
    scores = {"none": {"a": (0.5, 0.8), "b": (0.7, 0.9)}, "noise": {"a": (0.4, 0.7), "b": (0.6, 0.95)}}
    measured = [
        {
            "name": name,
            "what": "it does",
            "commit": "c",
            "subjects": {who: {"prior": p, "refined": r} for who, (p, r) in each.items()},
            "seconds": {},
        }
        for name, each in scores.items()
    ]
    path = tmp_path / "robustness-x.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in [description, *measured[::-1]]))
    robustness.write(tmp_path)
    rows = [line for line in path.with_suffix(".md").read_text().splitlines() if line.startswith("|")]
    assert rows[2:] == [
        "| none | 0.600 | 0.850 | +0.250 |  |  |",
        "| noise | 0.500 | 0.825 | +0.325 | -0.025 | -0.100 (a) |",
    ]
    path.write_text("\n".join(json.dumps(line) for line in [description, measured[1]]))
    robustness.write(tmp_path)
    assert "| noise | 0.500 | 0.825 | +0.325 |  |  |" in path.with_suffix(".md").read_text()
