"""The arms of the ablation, and the table that is made of outcomes."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from benchmarks import pipeline
from cgckit.cgc.settings import PRESETS
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError
from cgckit.evaluation.scoring import BUILT_IN
from cgckit.experiments.arms import GROUPS, ablation, choose_arms
from cgckit.experiments.plots import make_figure
from cgckit.experiments.published import published
from cgckit.experiments.results import OUTPUT, Outcome, Results, Scored, read_results
from cgckit.experiments.table import by_subject, tabulate

MEASURED = sorted(pipeline.RESULTS.rglob("pipeline-*.jsonl"))


def outcome(
    arm: str, dice: Sequence[float], seed: int = 0, assd: Sequence[float] = (), labels: bool = False
) -> Outcome:
    distances = assd or [1.0] * len(dice)
    scores = tuple(
        Scored(
            f"case{index}", OUTPUT, dict(zip(BUILT_IN, (value, 0.5, 0.5, distance, 2.0, 1.0, 3.0, 4.0), strict=True))
        )
        for index, (value, distance) in enumerate(zip(dice, distances, strict=True))
    )
    return Outcome(arm, labels, None, seed, f"{arm}-{seed}", {}, {}, {}, scores)


def test_the_paper_preset_gives_the_papers_patches_and_each_path_is_switched_by_itself() -> None:
    paper = PRESETS["paper"]
    arms = {arm.name: paper.override(arm.changes) for arm in ablation(paper)}
    assert {name: arms[name].patch_size for name in GROUPS["patches"]} == {
        "patch-12x12x4": (12, 12, 4),
        "patch-6x6x4": (6, 6, 4),
        "patch-3x3x4": (3, 3, 4),
    }
    weights = {name: (arms[name].weight_coarse, arms[name].weight_fine) for name in GROUPS["paths"][2:]}
    assert weights == {"plain": (0, 0), "network": (0, 0), "coarse": (1, 0), "fine": (0, 1), "both": (1, 1)}
    assert arms["plain"] == arms["network"], "the paper's network trusts every voxel"
    assert arms["both"] == arms["patch-6x6x4"] == arms["temperature-0.2"] == paper
    assert arms["temperature-0.07"].temperature == 0.07
    assert set(arms) == {name for group in GROUPS.values() for name in group}
    assert set(arms) - set(published("gmm", ["flair"])) == {"appearance", "oracle"}, "the paper has no such rows"
    assert [arm.name for arm in ablation(paper) if arm.uses_labels] == ["oracle", "supervised"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_ablated(preset: str) -> None:
    for arm in ablation(PRESETS[preset]):
        PRESETS[preset].override(arm.changes)


def test_what_copies_and_what_is_supervised_is_trained_on_every_voxel() -> None:
    light = PRESETS["light"]
    arms = {arm.name: light.override(arm.changes) for arm in ablation(light)}
    for name in ("plain", "supervised"):
        assert (arms[name].untrusted_inner, arms[name].untrusted_outer, arms[name].prior_weight) == (0, 0, 0)
        assert arms[name].appearance_weight == 0
    assert arms["network"].untrusted_outer == light.untrusted_outer > 0


def test_arms_are_chosen_by_name_and_group_and_the_prior_always() -> None:
    arms = ablation(PRESETS["light"])
    assert [arm.name for arm in choose_arms(arms, ["supervised", "patches", "fine"])] == [
        "prior",
        "fine",
        *GROUPS["patches"],
        "supervised",
    ]


def test_rows_have_means_spreads_and_paired_tests() -> None:
    prior = [0.5, 0.6, 0.7, 0.8, 0.4]
    gains = [0.01, 0.02, 0.03, 0.04, 0.05]
    better = [a + b for a, b in zip(prior, gains, strict=True)]
    worse = [a - 0.1 for a in prior]
    rows = tabulate(
        [
            outcome("mine", better),
            outcome("both", better),
            outcome("both", worse, seed=1),
            outcome("prior", prior, assd=[1, 2, 3, math.inf, math.inf]),
            outcome("supervised", better, labels=True),
        ],
        published("gmm", ["flair"]),
    )
    assert [row.arm for row in rows] == ["prior", "both", "supervised", "mine"]
    by_name = {row.arm: row for row in rows}
    first = by_name["prior"]
    assert first.output.mean["dice"] == pytest.approx(0.6)
    assert first.output.sd["dice"] == pytest.approx(math.sqrt(0.1 / 4))
    assert (first.output.mean["assd"], first.output.infinite["assd"]) == (2, 2)
    # Five gains of one sign: of 2^5 equally likely signs two are as extreme.
    assert by_name["mine"].versus["prior"].gain == pytest.approx(0.03)
    assert by_name["mine"].versus["prior"].p == pytest.approx(2 / 32)
    # Two seeds: subjects are averaged first; the seeds' means are .63 and .5.
    both = by_name["both"]
    assert both.subjects["case0"]["dice"] == pytest.approx((0.51 + 0.4) / 2)
    assert both.output.mean["dice"] == pytest.approx(0.565)
    assert both.seed_sd == pytest.approx(0.13 / math.sqrt(2))
    assert both.cells()["paper_dice"] == 0.8405
    assert by_name["supervised"].versus == {}


def test_equal_arms_and_one_subject_have_no_p() -> None:
    equal = tabulate([outcome("prior", [0.5, 0.6]), outcome("both", [0.5, 0.6])], {})
    assert [row.cells()["p_prior"] for row in equal] == [None, None]
    _, single = tabulate([outcome("prior", [0.5]), outcome("mine", [0.7])], {})
    assert single.cells()["p_prior"] is single.cells()["dice_sd"] is None
    assert single.cells()["gain_prior"] == pytest.approx(0.2)


def test_what_was_interrupted_before_all_subjects_were_scored_is_no_row() -> None:
    done = [outcome("prior", [0.5, 0.6]), outcome("both", [0.6, 0.7]), outcome("both", [0.1], seed=1)]
    rows = tabulate([*done, outcome("supervised", [0.9], labels=True)], {})
    assert [row.arm for row in rows] == ["prior", "both"]
    assert (rows[1].seeds, rows[1].output.mean["dice"]) == (1, pytest.approx(0.65))


def test_the_papers_figures_are_those_of_this_prior_and_these_images() -> None:
    for prior, modalities, dice in (
        ("gmm", ["flair", "t1"], (0.7585, 0.8405)),
        ("aucseg", ["flair"], (0.7585, 0.8405)),
        ("mumford-shah", ["flair"], (0.7156, 0.7743)),
        ("mumford-shah-net", ["flair"], (0.7156, 0.7743)),
        ("gmm", ["ct"], (0.6490, 0.6993)),
        ("mumford-shah", ["ct"], (0.5206, 0.5569)),
    ):
        figures = published(prior, modalities)
        assert (figures["prior"].dice, figures["both"].dice) == dice
    assert published("mask:{subject}.nii.gz", ["flair"]) == {}


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results = Results(path, {"key": "a"})
    added = [outcome("prior", [0.25, 0.5], assd=[1.5, math.inf]), outcome("both", [0.75, 1.0])]
    for item in added:
        results.add(item)
    assert read_results(path) == ({"key": "a"}, added)
    assert "Infinity" not in path.read_text()
    assert json.loads(path.read_text().splitlines()[1])["scores"][1]["assd"] is None
    again = Results(path, {"key": "a"})
    assert again.find("both-0", "both") == added[1]
    assert again.find("both-0", "temperature-0.2") == added[1], "an arm of equal settings has this outcome"
    assert again.find("other", "both") is None


def scored(arm: str, *scores: Mapping[str, float]) -> Outcome:
    """An outcome with these scores of case0, case1, ..."""
    return dataclasses.replace(
        outcome(arm, []), scores=tuple(Scored(f"case{index}", OUTPUT, values) for index, values in enumerate(scores))
    )


def test_rows_of_different_metrics_have_blanks(tmp_path: Path) -> None:
    old = outcome("prior", [0.5, 0.7])
    new = scored("both", {"dice": 0.6, "jaccard": 0.4, "gap": math.inf}, {"dice": 0.8, "jaccard": 0.6, "gap": 3.0})
    prior, both = tabulate([old, new], {})
    assert (prior.added, both.added) == ([], ["jaccard", "gap"])
    cells = both.cells()
    assert cells["mean_jaccard"] == 0.5
    assert (cells["mean_gap"], cells["sd_gap"], cells["infinite_gap"]) == (3, None, 1)
    assert cells["gain_prior"] == pytest.approx(0.1), "Dice is compared all the same"
    assert cells["assd_mm"] is cells["assd_infinite"] is cells["sensitivity"] is None
    assert (both.text()["ASSD [mm]"], both.text()["mean jaccard"]) == ("", "0.500 ± 0.141")
    assert both.text()["mean gap"] == "3.000 (1∞)"
    assert [row["both ASSD"] for row in by_subject([prior, both])] == ["", ""]
    assert [row["prior ASSD"] for row in by_subject([prior, both])] == ["1.00", "1.00"]
    table = Derivatives.create(tmp_path).write_table("table.tsv", [row.cells() for row in (prior, both)])
    header, *lines = (line.split("\t") for line in table.read_text().splitlines())
    assert [dict(zip(header, line, strict=True))["mean_jaccard"] for line in lines] == ["n/a", "0.5"]
    titles = [axis.get_title() for axis in make_figure([prior, both]).axes if axis.get_title()]
    assert titles == ["What each path adds"]


def test_scores_without_dice_have_no_gains() -> None:
    prior, both = tabulate([scored("prior", {"jaccard": 0.4}), scored("both", {"jaccard": 0.5})], {})
    assert both.cells()["dice"] is both.cells()["gain_prior"] is both.cells()["p_prior"] is None
    assert (prior.text()["Dice"], both.text()["over prior (p)"]) == ("", "")
    assert make_figure([prior, both]).axes


def test_a_metric_that_came_later_is_averaged_over_the_seeds_that_have_it() -> None:
    first = scored("both", {"dice": 0.5})
    second = dataclasses.replace(scored("both", {"dice": 0.7, "jaccard": 0.4}), seed=1)
    (row,) = tabulate([first, second], {})
    assert row.subjects["case0"] == {"dice": pytest.approx(0.6), "jaccard": 0.4}


def test_results_have_the_metrics_that_there_were_and_no_value_is_no_key(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl", {"key": "a"})
    results.add(outcome("prior", [0.5]))
    results.add(scored("both", {"dice": 0.6, "far": math.inf, "unknown": math.nan}))
    _, (old, new) = read_results(results.path)
    assert tuple(old.scores[0].scores) == BUILT_IN
    assert new.scores[0].scores == {"dice": 0.6, "far": math.inf}
    assert "NaN" not in results.path.read_text()


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_tables_of_old_results_are_as_they_were(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path)
    shutil.copy(path.with_suffix(".md"), tmp_path)
    pipeline.write(tmp_path)
    assert (tmp_path / path.with_suffix(".md").name).read_text() == path.with_suffix(".md").read_text()


def test_there_are_old_results_to_look_at() -> None:
    assert MEASURED


def test_bounds_are_drawn_as_no_arms_and_a_single_arm_is_drawn() -> None:
    names = ["prior", "oracle", "supervised", "temperature-0.1"]
    found = tabulate([outcome(name, [0.5, 0.7], labels=name in GROUPS["bounds"]) for name in names], {})
    figure = make_figure(found)
    assert "paper, its own data" not in figure.axes[0].get_legend_handles_labels()[1], "it has no figures here"
    ticks = [[tick.get_text() for tick in axis.get_xticklabels()] for axis in figure.axes[:2]]
    assert ticks == [["prior"], ["0.1"]]


@pytest.mark.parametrize("text", ["", "{}\n{}\n", "no json", "[]\n"])
def test_what_is_no_file_of_results_is_bad_input(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(BadInputError, match=r"results\.jsonl"):
        read_results(path)
    assert Results(path, {"key": "a"}, overwrite=True).outcomes == []


def test_the_figure_shows_each_arm_the_paper_and_the_bound() -> None:
    arms = [arm.name for arm in ablation(PRESETS["light"])]
    outcomes = [outcome(name, [0.5, 0.7], labels=name == "supervised") for name in arms]
    outcomes[0] = dataclasses.replace(outcomes[0], scores=outcome("prior", [0.0, 0.7], assd=[math.inf, 3.0]).scores)
    figure = make_figure(tabulate(outcomes, published("gmm", ["flair"])))
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["What each path adds", "Patch size", "Temperature"]
    first = next(axis for axis in figure.axes if axis.get_title() == titles[0])
    lines = {line.get_label(): list(line.get_ydata()) for line in first.get_lines()}
    assert lines["mean"] == pytest.approx([0.35, *[0.6] * 6])
    figures = published("gmm", ["flair"])
    paper = [figures[name].dice if name in figures else math.nan for name in GROUPS["paths"]]
    assert lines["paper, its own data"] == pytest.approx(paper, nan_ok=True)
    assert lines["supervised bound"] == pytest.approx([0.6, 0.6])
