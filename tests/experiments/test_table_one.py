"""The paper's Table 1 on small simulated heads: rows, resumption, failures, the picture."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import nibabel as nib
import numpy as np
import pytest
from scipy.stats import wilcoxon
from torch import Tensor

from cgckit.cgc.crops import CropSampler
from cgckit.cgc.settings import PRESETS
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError, UsageError
from cgckit.experiments.results import read_results
from cgckit.experiments.table_one import TableOne, picture, table1
from cgckit.experiments.table_one.systems import (
    System,
    choose_systems,
    in_order,
    paper_systems,
    share_options,
)
from cgckit.images.case import Case
from cgckit.pipeline import engine
from cgckit.priors.base import PRIORS, Prior
from cgckit.report.figure import PictureRow

QUICK = {"spacing": 4.0, "crop": (16, 16, 16), "widths": (4, 4, 4, 4), "projection": 4, "batch": 1, "steps": 3}
QUICK["starting_weight"] = 0.0
WriteCohort = Callable[..., Path]
FILE = """
from dataclasses import dataclass
from cgckit import Prior

@dataclass
class Bright(Prior):
    level: float = 2.5

    def predict(self, case):
        return ((case.channel("flair") > self.level) & case.brain).float()

class Broken(Prior):
    def predict(self, case):
        raise ValueError("out of ideas")
"""


class BrightFlair(Prior):
    """Everything that is far above the median in FLAIR."""

    def predict(self, case: Case) -> Tensor:
        return ((case.channel("flair") > 2.5) & case.brain).float()


class Learned(BrightFlair):
    """Notes whom it was fitted on."""

    calls: ClassVar[list[list[str]]] = []

    def fit(self, cases: Sequence[Case]) -> Learned:
        self.calls.append([case.subject for case in cases])
        return self


class Broken(Prior):
    """Fails until it is mended."""

    mended = False

    def predict(self, case: Case) -> Tensor:
        if not self.mended:
            raise ValueError("out of ideas")
        return case.brain.float() * (case.channel("flair") > 2.5)


@pytest.fixture(autouse=True)
def priors(monkeypatch: pytest.MonkeyPatch) -> None:
    """cgckit's own priors and those of this file, whatever else is installed."""
    own = {name: entry for name, entry in PRIORS.installed().items() if entry.package.startswith("cgckit ")}
    monkeypatch.setattr(PRIORS, "found", {tuple(sys.path): own})
    monkeypatch.setattr(PRIORS, "at_run_time", {})
    monkeypatch.setattr(Learned, "calls", [])
    monkeypatch.setattr(Broken, "mended", False)
    for name, kind in (("bright", BrightFlair), ("learned", Learned), ("broken", Broken)):
        PRIORS.register(name)(kind)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of subjects of each training."""
    calls: list[int] = []
    original = engine.train_network

    def record(examples, *arguments, **options):  # type: ignore[no-untyped-def]
        calls.append(len(examples))
        return original(examples, *arguments, **options)

    monkeypatch.setattr(engine, "train_network", record)
    return calls


def run(scans: Path, out: Path, rows: Sequence[str], **options: object) -> TableOne:
    references = scans.with_name(f"{scans.name}-references")
    return table1(scans, references, out, rows=rows, settings=QUICK, device="cpu", **options)  # type: ignore[arg-type]


def tables(out: Path) -> list[str]:
    return [(out / name).read_text() for name in ("table1.tsv", "table1.md")]


def test_the_papers_rows_stand_in_its_order() -> None:
    names = [system.name for system in paper_systems()]
    assert names == [
        *("supervised", "ae", "context-vae", "gmvae", "f-anogan", "bayesian-vae", "anovaegan", "amcons"),
        *("mumford-shah", "ours:mumford-shah", "gmm", "plain:gmm", "ours:gmm"),
    ]
    assert choose_systems(["paper", "ours:ae", "gmm"])[:-1] == paper_systems()


def test_all_rows_are_the_papers_and_every_installed_prior_alone_and_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [system.name for system in choose_systems(None)]
    assert [name for name in names if name in {system.name for system in paper_systems()}] == [
        system.name for system in paper_systems()
    ]
    assert {"aucseg", "ours:aucseg"} < set(names)
    assert "ours:ae" not in names, "it is not installed"
    assert not {"mask", "bright", "ours:bright"} & set(names)
    installed = dict(next(iter(PRIORS.found.values())))
    installed["ae"] = installed["theirs"] = replace(installed["gmm"], package="other 1.0")
    monkeypatch.setattr(PRIORS, "found", {tuple(sys.path): installed})
    names = [system.name for system in choose_systems(["all"])]
    assert names[names.index("ae") + 1] == "ours:ae"
    assert names.index("amcons") < names.index("theirs") < names.index("ours:theirs") < names.index("mumford-shah")


def test_rows_are_put_in_the_papers_order_whatever_order_they_were_measured_in() -> None:
    words = [
        "ours:gmm",
        "b",
        "ours:ae",
        "nnunet:5",
        "ours:mumford-shah",
        "gmm",
        "a",
        "supervised",
        "ours:b",
        "ae",
        "nnunet:1",
    ]
    names = [system.name for system in in_order([System.read(word) for word in words])]
    assert names[:5] == ["supervised", "nnunet:1", "nnunet:5", "ae", "ours:ae"]
    assert names[5:] == ["b", "ours:b", "a", "ours:mumford-shah", "gmm", "ours:gmm"]


def test_the_papers_rows_have_its_figures() -> None:
    for modalities, anogan, ours in ((["flair", "t1"], 0.4835, 0.8405), (["ct"], 0.4024, 0.6993)):
        figures = {system.name: system.published(modalities) for system in paper_systems()}
        assert all(figures.values())
        assert (figures["f-anogan"].dice, figures["ours:gmm"].dice) == (anogan, ours)
    assert figures["supervised"].dice == 0.7962
    mri = {system.name: system.published(["flair"]) for system in paper_systems()}
    assert (mri["ours:mumford-shah"].dice, mri["ours:mumford-shah"].dice_sd) == (0.7743, 0.1365)
    assert (mri["plain:gmm"].assd, mri["ae"].sensitivity) == (1.233, 0.4542)
    assert System.read("ours:ae").published(["flair"]) is None


def test_each_row_is_an_arm_of_the_ablation() -> None:
    light = PRESETS["light"]
    plain, ours, prior = (System.read(name).arm_of(light) for name in ("plain:gmm", "ours:gmm", "gmm"))
    assert light.override(ours.changes) == light
    assert light.override(plain.changes).weight_fine == light.override(plain.changes).untrusted_outer == 0
    assert not prior.trained
    assert [arm.name for arm in (plain, ours, prior)] == ["plain:gmm", "ours:gmm", "gmm"]


def test_an_option_goes_to_the_prior_that_is_named_or_to_all_that_have_it() -> None:
    shares = share_options(["gmm", "aucseg", "gmm+mumford-shah"], ["aucseg.seed=4", "seed=3", "aucseg.components=4"])
    assert shares["aucseg"] == {"seed": "4", "components": "4"}
    assert shares["gmm"] == shares["gmm+mumford-shah"] == {"seed": "3"}
    for word, named in (("colour=red", "has it"), ("ae.steps=3", "called ae")):
        with pytest.raises(UsageError, match=named):
            share_options(["gmm"], [word])


def test_rows_say_what_was_measured_and_what_the_paper_says(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans, out = write_cohort(3), tmp_path / "out"
    table = run(scans, out, ["supervised", "bright", "plain:bright", "ours:bright"], folds=None)
    assert table.failed == ()
    rows = {row.system.name: row for row in table.rows}
    assert [row.output.subjects for row in table.rows] == [3, 3, 3, 3]
    ours, plain = rows["ours:bright"].subjects, rows["plain:bright"].subjects
    gains = [ours[name]["dice"] - plain[name]["dice"] for name in ours]
    assert rows["plain:bright"].ours is not None
    assert rows["plain:bright"].ours.gain == pytest.approx(np.mean(gains))
    assert rows["plain:bright"].ours.p == pytest.approx(wilcoxon(gains).pvalue)
    assert rows["ours:bright"].ours is None
    lines = Derivatives(out).read_table("table1.tsv")
    assert [line["labels"] for line in lines] == ["yes", "no", "no", "no"]
    assert [line["paper_dice"] for line in lines] == ["0.9134", "n/a", "n/a", "n/a"]
    assert float(lines[1]["dice"]) == pytest.approx(rows["bright"].output.mean["dice"], abs=1e-6)
    markdown = (out / "table1.md").read_text()
    assert "| supervised network (uses labels) | " in markdown
    assert (
        "Ours: refined from bright; p: Wilcoxon signed-rank of Dice, two-sided, never below 0.25 for 3 subjects"
        in markdown
    )
    assert "| case3 | " in markdown
    assert (out / "table1.png").read_bytes().startswith(b"\x89PNG")
    _, outcomes = read_results(out / "results.jsonl")
    assert {outcome.prior.get("name") for outcome in outcomes} == {None, "bright"}
    assert str(tmp_path) not in (out / "results.jsonl").read_text(), "results are made to be shown"


def test_an_interrupted_table_goes_on_to_the_same(
    write_cohort: WriteCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[int]
) -> None:
    scans, rows = write_cohort(2), ["supervised", "bright", "plain:bright", "ours:bright"]
    run(scans, tmp_path / "whole", rows)
    original, drawn = CropSampler.__call__, 0

    def die(self: CropSampler, index: int) -> object:
        nonlocal drawn
        drawn += 1
        if drawn == 11:  # after two folds and one row of three steps each, in the last row's training
            raise KeyboardInterrupt
        return original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(CropSampler, "__call__", die)
        with pytest.raises(KeyboardInterrupt):
            run(scans, tmp_path / "out", rows)
    done = [outcome.arm for outcome in read_results(tmp_path / "out" / "results.jsonl")[1]]
    assert done == ["supervised", "supervised", "bright", "plain:bright"]
    trained.clear()
    run(scans, tmp_path / "out", rows)
    assert trained == [2]
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")
    trained.clear()
    run(scans, tmp_path / "out", rows)
    assert trained == [], "nothing is left"
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")


def test_a_row_that_fails_says_why_and_the_others_go_on_until_it_is_mended(
    write_cohort: WriteCohort, tmp_path: Path, trained: list[int]
) -> None:
    scans, rows = write_cohort(2), ["broken", "ours:broken", "bright", "ours:bright"]
    table = run(scans, tmp_path / "out", rows)
    assert table.failed == ("broken", "ours:broken")
    assert [row.output.subjects for row in table.rows] == [0, 0, 2, 2]
    lines, markdown = tables(tmp_path / "out")
    assert lines.count("out of ideas") == 2
    assert "Not measured: broken, ours:broken: " in markdown
    assert "| broken | not measured | - | - | - | - |" in markdown
    assert trained == [2]
    Broken.mended = True
    assert run(scans, tmp_path / "out", rows).failed == ()
    assert trained == [2, 2]


def test_what_is_not_installed_is_said_and_is_a_failure_only_if_it_was_asked_for(
    write_cohort: WriteCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tuple(map(System.read, ("gmvae", "bright")))
    monkeypatch.setattr("cgckit.experiments.table_one.systems.paper_systems", lambda: short)
    scans = write_cohort(2)
    table = run(scans, tmp_path / "out", ["paper"])
    assert table.failed == ()
    assert table.rows[0].remark == "not installed: comes with cgckit-reconstruction"
    assert table.rows[0].text()["paper: Dice"] == "0.4418"
    assert run(scans, tmp_path / "out", ["gmvae", "bright"]).failed == ("gmvae",)


def test_a_prior_that_needs_other_images_fails_alone(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans = write_cohort(2, modalities=("flair", "t1"))
    table = run(scans, tmp_path / "out", ["gmm", "learned"], modalities=["t1"])
    assert table.failed == ("gmm", "learned")
    assert "flair" in table.rows[0].remark


def test_one_subject_has_no_supervised_row(write_cohort: WriteCohort, tmp_path: Path) -> None:
    table = run(write_cohort(1), tmp_path / "out", ["supervised", "bright"])
    assert table.failed == ("supervised",)
    assert table.rows[1].output.subjects == 1
    with pytest.raises(UsageError, match="two persons"):
        run(tmp_path / "scans", tmp_path / "folds", ["supervised", "bright"], folds=2)


def test_folds_hold_every_subject_out_of_prior_and_training(
    write_cohort: WriteCohort, tmp_path: Path, trained: list[int]
) -> None:
    table = run(write_cohort(3), tmp_path / "out", ["learned", "ours:learned"], folds=3)
    assert [row.output.subjects for row in table.rows] == [3, 3]
    assert trained == [2, 2, 2]
    assert sorted(map(len, Learned.calls)) == [2, 2, 2], "fitted once for each fold, then kept"
    for outcome in read_results(tmp_path / "out" / "results.jsonl")[1]:
        assert len(outcome.scores) == (2 if outcome.arm.startswith("ours") else 1), "with the network alone"
    assert "held-out subjects, 3 folds" in table.heading


def test_other_options_are_another_row_and_the_folder_keeps_both(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans, file = write_cohort(2), tmp_path / "mine.py"
    file.write_text(FILE)
    rows = [f"{file}:Bright"]
    dice = []
    for level in ("2.5", "50", "2.5"):
        table = run(scans, tmp_path / "out", rows, prior_options=[f"level={level}"])
        dice.append(table.rows[0].output.mean["dice"])
    assert dice[0] == dice[2] > 0.5 > dice[1]
    assert len(read_results(tmp_path / "out" / "results.jsonl")[1]) == 2


def test_several_at_once_give_the_same_table(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans, file = write_cohort(2), tmp_path / "mine.py"
    file.write_text(FILE)
    rows = [f"{file}:Bright", f"ours:{file}:Bright", f"{file}:Broken"]
    tables_ = [run(scans, tmp_path / f"out{jobs}", rows, jobs=jobs) for jobs in (1, 2)]
    assert [table.failed for table in tables_] == [(f"{file}:Broken",)] * 2
    for one, other in zip(*(table.rows for table in tables_), strict=True):
        assert (one.system.name, one.subjects, one.remark) == (other.system.name, other.subjects, other.remark)


def test_the_picture_shows_every_measured_row_and_the_reference_chooses_the_slice(
    write_cohort: WriteCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[PictureRow] = []
    monkeypatch.setattr(picture, "draw_picture", lambda rows, path: drawn.extend(rows))
    scans = write_cohort(8)
    table = run(scans, tmp_path / "out", ["bright", "ae", "broken"])
    assert len(drawn) == 6
    assert [row.subject for row in (drawn[0], drawn[-1])] == ["case1", "case8"]
    for row in drawn:
        assert list(row.masks) == ["bright", "reference"]
        mask, reference = row.masks.values()
        dice = 2 * (mask & reference).sum() / (mask.sum() + reference.sum())
        assert dice == pytest.approx(table.rows[0].subjects[row.subject]["dice"])
        assert row.notes == {"bright": f"{dice:.2f}"}
    drawn.clear()
    for path in (tmp_path / "out" / "work" / "masks").rglob("*case1*"):
        path.unlink()
    run(scans, tmp_path / "out", ["bright"])
    assert [row.notes["bright"] for row in drawn[:2]] == ["(mask gone)", f"{dice_of(table, drawn[1].subject):.2f}"]


def dice_of(table: TableOne, subject: str) -> float:
    return table.rows[0].subjects[subject]["dice"]


def test_a_mistake_is_told_before_the_folder_is_taken(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans, out = write_cohort(2), tmp_path / "out"
    for rows, options, named in (
        (["gmn"], {}, "gmm"),
        ([""], {}, "no name"),
        (["bright"], {"prior_options": ["colour=red"]}, "colour"),
        (["bright"], {"jobs": 0}, "jobs"),
    ):
        with pytest.raises(UsageError, match=named):
            run(scans, out, rows, **options)
    assert not out.exists()


def test_a_label_that_no_reference_has_is_told(
    write_cohort: WriteCohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(write_cohort(2), tmp_path / "out", ["bright"], labels=[7])
    assert "no reference has a voxel of label 7" in caplog.text


def test_a_budget_in_epochs_is_told_as_epochs(write_cohort: WriteCohort, tmp_path: Path) -> None:
    scans = write_cohort(1)
    for budget in ({"steps": 3}, {"steps": 0, "epochs": 7}):
        settings = {**QUICK, **budget}
        table = table1(scans, f"{scans}-references", tmp_path / f"{budget}", rows=["bright"], settings=settings)
        assert ("3 steps" if budget["steps"] else "7 epochs") in table.heading


def test_a_reference_on_another_grid_ends_it_before_anything_is_measured(
    write_cohort: WriteCohort, tmp_path: Path, trained: list[int]
) -> None:
    scans = write_cohort(2)
    nib.save(
        nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), np.eye(4)), tmp_path / "scans-references" / "case2_seg.nii.gz"
    )
    with pytest.raises(BadInputError, match=r"case2_seg.*grid"):
        run(scans, tmp_path / "out", ["ours:bright"])
    assert trained == []


def test_a_row_without_paper_or_lesion_has_blanks() -> None:
    row = System.read("mine")
    assert row.published(["flair"]) is None
    assert math.isnan(System.read("gmm").published(["ct"]).assd)  # type: ignore[union-attr]
