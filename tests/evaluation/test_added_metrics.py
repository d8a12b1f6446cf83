"""Metrics that other packages bring: found, chosen, shown, and reported if they are broken."""

from __future__ import annotations

import json
import logging
import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from cgckit import Metric, Pair, PluginError, UsageError, evaluate
from cgckit.cli.commands.evaluate import evaluate as command
from cgckit.evaluation import METRICS
from cgckit.evaluation.scoring import BUILT_IN, choose_metrics, score

JACCARD = """
    from dataclasses import dataclass
    from cgckit import Metric

    @dataclass
    class Jaccard(Metric):
        '''Common voxels by those of either.

        Attributes:
            power: of the result.
        '''
        title = "Jacc. [b]"
        power: float = 1.0

        def measure(self, pair):
            common = pair.common_voxels
            return (common / (pair.predicted_voxels + pair.reference_voxels - common)) ** self.power
"""

Install = Callable[[str, dict[str, str], str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make a package that registers metrics, as far as the import system can tell."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)

    def install(package: str, metrics: dict[str, str], source: str) -> None:
        module = package.replace("-", "_")
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        metadata = site / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{attribute}" for name, attribute in metrics.items()]
        (metadata / "entry_points.txt").write_text("\n".join(["[cgckit.metrics]", *lines]) + "\n")
        METRICS.found.clear()

    yield install
    METRICS.found.clear()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(site)):
            del sys.modules[name]


def cube(size: int) -> np.ndarray:
    mask = np.zeros((10, 12, 8), dtype=np.uint8)
    mask[1 : 1 + size, 1 : 1 + size, 1 : 1 + size] = 1
    return mask


@pytest.fixture
def masks(tmp_path: Path) -> tuple[Path, Path]:
    """Cubes of 3 and 0 voxels as predictions, of 4 and 3 as their references."""
    for folder, sizes in (("masks", (3, 0)), ("references", (4, 3))):
        (tmp_path / folder).mkdir()
        for subject, size in zip("ab", sizes, strict=True):
            nib.save(nib.Nifti1Image(cube(size), np.diag([2.0, 2, 2, 1])), tmp_path / folder / f"{subject}.nii.gz")
    return tmp_path / "masks", tmp_path / "references"


def run(*arguments: object, columns: int = 80):  # type: ignore[no-untyped-def]
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": str(columns)})


def test_the_built_in_metrics_are_registered_like_anybodys() -> None:
    own = [name for name, entry in METRICS.installed().items() if entry.package.startswith("cgckit ")]
    assert sorted(own) == sorted(BUILT_IN)
    assert list(choose_metrics())[: len(BUILT_IN)] == list(BUILT_IN)


def test_an_installed_metric_follows_the_built_in_ones_in_rows_means_and_files(
    install: Install, masks: tuple[Path, Path], tmp_path: Path
) -> None:
    install("stranger", {"jaccard": "Jaccard"}, JACCARD)
    result = evaluate(*masks)
    assert list(result.rows[0].scores) == [*BUILT_IN, "jaccard"]
    assert [row.scores["jaccard"] for row in result.rows] == [pytest.approx(27 / 64), 0]
    assert result.summary("mask").mean["jaccard"] == pytest.approx(27 / 128)
    result.write(tmp_path / "scores")
    header, first, _ = (tmp_path / "scores" / "evaluation.tsv").read_text().splitlines()
    assert dict(zip(header.split("\t"), first.split("\t"), strict=True))["jaccard"] == "0.421875"
    written = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    assert written["rows"][0]["jaccard"] == 27 / 64
    assert written["metrics"]["jaccard"] == {
        "unit": "",
        "direction": "higher",
        "options": {"power": 1.0},
        "package": "stranger 1.0",
    }
    assert written["metrics"]["assd"]["unit"] == "mm"


def test_the_command_shows_it_and_its_options(install: Install, masks: tuple[Path, Path]) -> None:
    install("stranger", {"jaccard": "Jaccard"}, JACCARD)
    shown = run(*masks, "--metric", "jaccard", "--metric", "dice", "--metric-option", "power=2")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    (header,) = [line for line in lines if "Dice" in line]
    assert header.split() == ["subject", "map", "Jacc.", "[b]", "Dice"]
    assert [line.split() for line in lines if line.startswith(" a ")] == [["a", "mask", "0.178", "0.593"]]
    assert "Jacc. [b] (power 2.0)" in shown.stdout


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_what_does_not_fit_goes_into_further_tables(install: Install, masks: tuple[Path, Path], columns: int) -> None:
    install("stranger", {"jaccard": "Jaccard"}, JACCARD)
    text = run(*masks, columns=columns).stdout
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= columns
    assert (text.count("2 subjects") == 1) == (columns == 200)
    values = [word for line in text.splitlines() if line.startswith(" a ") for word in line.split()[2:]]
    assert values == ["0.593", "0.422", "1.000", "1.18", "2.8", "1.00", "0.2", "0.5", "0.422"]


def test_a_broken_one_is_named_and_left_out_unless_it_is_asked_for(
    install: Install, masks: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    install("broken", {"broken": "Metric"}, "import no_such_module")
    install(
        "demanding", {"demanding": "Demanding"}, JACCARD.replace("Jaccard", "Demanding").replace("float = 1.0", "int")
    )
    assert tuple(evaluate(*masks).metrics) == BUILT_IN
    assert "broken (broken 1.0) cannot be used: ModuleNotFoundError" in caplog.text
    assert "demanding needs power=..." in caplog.text
    with pytest.raises(PluginError, match="broken"):
        evaluate(*masks, metrics="broken")
    with pytest.raises(UsageError, match="demanding needs power"):
        evaluate(*masks, metrics=["dice", "demanding"])
    chosen = evaluate(*masks, metric_options={"demanding.power": 2})
    assert tuple(chosen.metrics) == (*BUILT_IN, "demanding")


@pytest.mark.parametrize(
    "fault",
    [
        "raise ValueError('no idea')",
        "return 'good'",
        "return None",
        "raise SystemExit(1)",
        "raise GeneratorExit",
        "pair.prediction[:] = False",  # it is the same for all metrics
    ],
)
def test_one_that_fails_is_an_error_if_it_was_asked_for_and_else_has_no_value(
    install: Install, masks: tuple[Path, Path], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = JACCARD.replace("common = pair.common_voxels", fault)
    install("stranger", {"jaccard": "Jaccard"}, source)
    with pytest.raises(PluginError, match="metric jaccard failed: "):
        evaluate(*masks, metrics=["jaccard", "dice"])
    expected = evaluate(*masks, metrics=BUILT_IN)
    found = evaluate(*masks)
    assert "metric jaccard failed" in caplog.text
    # Where one mask is empty the rule for that gives the value.
    assert [value for row in found.rows if not math.isnan(value := row.scores["jaccard"])] == [0.0]
    for one, other in zip(found.rows, expected.rows, strict=True):
        assert {name: one.scores[name] for name in BUILT_IN} == other.scores


@pytest.mark.parametrize("fault", ["title = 5", "decimals = 'two'", "direction = 'sideways'", "one_empty = 'zero'"])
def test_one_that_tables_cannot_show_is_left_out_or_refused(
    install: Install, masks: tuple[Path, Path], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    install("stranger", {"jaccard": "Jaccard"}, JACCARD.replace("def measure", f"{fault}\n\n        def measure"))
    with pytest.raises(PluginError, match=f"metric jaccard: {fault.split()[0]} is "):
        evaluate(*masks, metrics=["jaccard"])
    assert tuple(evaluate(*masks).metrics) == BUILT_IN
    assert "left out" in caplog.text


def test_no_metric_takes_the_name_of_another_column(
    install: Install, masks: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    install("stranger", {"map": "Jaccard"}, JACCARD)
    assert tuple(evaluate(*masks).metrics) == BUILT_IN
    assert "no metric can be called map" in caplog.text
    for metrics in ("map", {"subject": Undecided()}):
        with pytest.raises(UsageError, match="no metric can be called"):
            evaluate(*masks, metrics=metrics)


def test_options_go_to_the_metric_that_they_are_meant_for(install: Install) -> None:
    install("stranger", {"jaccard": "Jaccard", "other": "Jaccard"}, JACCARD)
    assert choose_metrics("jaccard", ["power=2"])["jaccard"].power == 2
    chosen = choose_metrics(["jaccard", "other", "dice"], ["other.power=3"])
    assert (chosen["jaccard"].power, chosen["other"].power) == (1, 3)
    for word in ("power=2", "dice.power=2", "assd.power=2", "size=1"):
        with pytest.raises(UsageError, match="metric"):
            choose_metrics(["jaccard", "other", "dice"], [word])


def test_a_metric_of_ones_own_file_is_taken_by_its_class(tmp_path: Path, masks: tuple[Path, Path]) -> None:
    (tmp_path / "mine.py").write_text(textwrap.dedent(JACCARD))
    result = evaluate(*masks, metrics=[f"{tmp_path}/mine.py:Jaccard", "dice"])
    assert tuple(result.metrics) == ("Jaccard", "dice")


@dataclass
class Undecided(Metric):
    """Has no value for small predictions."""

    least: int = 30

    def measure(self, pair: Pair) -> float:
        return 1.0 if pair.predicted_voxels >= self.least else math.nan


def test_metrics_from_python_have_the_names_that_they_are_given(masks: tuple[Path, Path], tmp_path: Path) -> None:
    result = evaluate(*masks, metrics={"from 3": Undecided(3), "from 30": Undecided(30)})
    assert [row.scores["from 3"] for row in result.rows] == [1, 0]
    assert [math.isnan(row.scores["from 30"]) for row in result.rows] == [True, False]
    summary = result.summary("mask")
    assert (summary.mean["from 30"], summary.infinite["from 30"]) == (0, 0), "what has no value is left out"
    assert result.to_json()["rows"][0]["from 30"] is None
    assert result.to_json()["metrics"]["from 30"]["options"] == {"least": 30}


def test_every_metric_gets_the_same_pair_and_computes_distances_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = np.argwhere
    monkeypatch.setattr("cgckit.evaluation.pair.np.argwhere", lambda mask: asked.append(1) or original(mask))
    score(cube(3), cube(4), (1, 1, 1), choose_metrics(BUILT_IN))
    assert len(asked) == 2, "one search for each of the two surfaces"


def test_a_pair_is_cut_to_its_masks() -> None:
    pair = Pair.of(cube(2), cube(3), (1, 2, 3))
    assert pair.prediction.shape == pair.reference.shape == (3, 3, 3)
    assert (pair.predicted_voxels, pair.reference_voxels, pair.common_voxels) == (8, 27, 8)
    assert pair.voxel_ml == pytest.approx(0.006)
    assert Pair.of(cube(0), cube(0), (1, 1, 1)).prediction.shape == (10, 12, 8)


def test_no_log_line_is_written_where_all_is_well(masks: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    evaluate(*masks, metrics=BUILT_IN)
    assert caplog.text == ""
