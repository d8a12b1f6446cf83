"""`python -m benchmarks constants`: which numbers are found, how they are varied, and what is made of it."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import nibabel as nib
import numpy as np
import pytest
import torch

import cgckit
from benchmarks import constants
from benchmarks.constants.inspection import (
    BESIDE_ONE,
    IMAGES,
    LEFT_OUT,
    REFINEMENT,
    Constant,
    calls_noted,
    find_constants,
    holders,
    replaced,
)
from benchmarks.constants.measuring import PRIOR, REFINED, WITHOUT, Measuring, checked
from benchmarks.given import Given
from cgckit.cgc.settings import PRESETS
from cgckit.errors import UsageError
from cgckit.lesion_evidence import cores, ct, mirror, regions
from cgckit.priors.resolve import resolve_prior

QUICK = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "weight_fine=0"]


def parse(folder: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    constants.add_arguments(parser)
    quick = [word for setting in QUICK for word in ("--set", setting)]
    places = ["--results", str(folder / "results"), "--work", str(folder / "work"), "--name", "tiny"]
    scans = ["--cohort", str(folder / "scans"), "--references", str(folder / "scans-references")]
    return parser.parse_args([*quick, *places, *scans, "--prior", "gmm", "--steps", "2", *words])


def shrink(folder: Path) -> None:
    """Make every voxel of the cohort 1 mm large instead of 2: an eighth of the work."""
    for path in folder.rglob("*.nii.gz"):
        array = np.asarray(nib.load(path).dataobj)
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def lines(folder: Path) -> dict[str, dict]:
    _, *found = (folder / "results" / "constants-tiny.jsonl").read_text().splitlines()
    return {line["name"]: line for line in map(json.loads, found)}


def found(prior: str = "gmm", **options: bool) -> dict[str, Constant]:
    return {each.title: each for each in find_constants(resolve_prior(prior), PRESETS["light"], **options)}


@pytest.mark.parametrize(
    ("value", "bounded", "half", "double"),
    [
        (3.0, False, 1.5, 6.0),
        (-3.0, False, -1.5, -6.0),
        (5, False, 2, 10),
        (1, False, None, 2),
        ((1, 1, 1), False, None, (2, 2, 2)),
        ((-1.0, 3.0), False, (-0.5, 1.5), (-2.0, 6.0)),
        (np.float32(4), False, np.float32(2), np.float32(8)),
        (0.7, False, 0.35, 1.4),
        (0.7, True, 0.4, 0.85),
        (0.2, True, 0.1, 0.4),
        (0.5, True, 0.25, 1.0),
        (1.06, True, 1.03, 1.12),
    ],
)
def test_half_and_double_of_a_number(value: object, bounded: bool, half: object, double: object) -> None:
    constant = Constant("prior", "m", "N", value, bounded)  # type: ignore[arg-type]
    assert constant.half() == half
    assert constant.double() == double
    for varied in (constant.half(), constant.double()):
        assert varied is None or type(varied) is type(value)


@pytest.mark.parametrize("prior", ["gmm", "mumford-shah"])
def test_no_number_of_the_modules_is_forgotten(prior: str) -> None:
    kept = set(found(prior)) | set(LEFT_OUT)
    evidence = [f"cgckit.lesion_evidence.{path.stem}" for path in Path(regions.__file__).parent.glob("[a-z]*.py")]
    assert len(evidence) > 5
    for module in [*evidence, *IMAGES, *REFINEMENT, type(resolve_prior(prior)).__module__]:
        source = Path(import_module(module).__file__ or "").read_text()
        for name, value in vars(import_module(module)).items():
            own = re.search(rf"^(\w+, )*{name}(, \w+)*(: .*)? = ", source, re.MULTILINE)
            if name.lstrip("_").isupper() and own and isinstance(value, int | float | np.number):
                assert f"{module}.{name}" in kept


def test_options_and_settings_are_among_them_and_those_of_training_if_wanted() -> None:
    assert {"prior.floor", "prior.min_components", "settings.min_lesion", "settings.prior_reach"} <= set(found())
    assert "settings.temperature" not in found()
    training = found(training=True)
    assert training["settings.temperature"].kind == "training"
    assert training["settings.min_consent"].bounded
    assert not {"prior.seed", "settings.uncertainty_views", "settings.mirror", "settings.epochs"} & set(training)


def test_numbers_with_a_rule_of_their_own_are_still_there() -> None:
    for title in {*LEFT_OUT, *BESIDE_ONE}:
        module, _, name = title.rpartition(".")
        assert hasattr(import_module(module), name), title


def test_a_constant_is_another_wherever_it_was_imported_and_itself_again_after_an_error() -> None:
    enclosed = found()["cgckit.lesion_evidence.regions.ENCLOSED"]
    assert holders(enclosed) == [(regions.__name__, "ENCLOSED"), (cores.__name__, "ENCLOSED")]
    assert regions.ENCLOSED == cores.ENCLOSED == 0.9
    seen = []

    def fail() -> None:
        with replaced(enclosed, 0.8):
            seen.extend([regions.ENCLOSED, cores.ENCLOSED])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert seen == [0.8, 0.8]
    assert regions.ENCLOSED == cores.ENCLOSED == 0.9


def test_equal_names_elsewhere_stay_as_they_are() -> None:
    from cgckit.priors import gmm, phases

    with replaced(found()["cgckit.priors.gmm._DARKEST"], -6.0):
        assert (gmm._DARKEST, phases._DARKEST) == (-6.0, -3.0)


def test_modules_that_are_called_are_noted() -> None:
    before = sys.getprofile()
    with calls_noted() as called:
        regions.ball(2.0, (1.0, 1.0, 1.0))
    assert regions.__name__ in called
    assert not {ct.__name__, mirror.__name__} & called
    assert sys.getprofile() is before


@pytest.fixture(scope="module")
def measured(write_subjects: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Measuring, Path]:
    folder = tmp_path_factory.mktemp("measured")
    write_subjects(folder / "scans", 1)
    shrink(folder)
    measuring = Measuring(Given.of(parse(folder), "constants"))
    measuring.train()
    return measuring, folder


def test_with_all_as_it_is_the_figures_are_those_of_refine(measured: tuple[Measuring, Path]) -> None:
    measuring, folder = measured
    scores = cgckit.evaluate(measuring.given.work / "refined", folder / "scans-references", metrics="dice")
    dice = {row.map: round(row.scores["dice"], 6) for row in scores.rows}
    assert dice == {"prior": measuring.baseline[PRIOR]["case1"], "refined": measuring.baseline[REFINED]["case1"]}
    for title, maps in {"cgckit.priors.gmm._NODES": (PRIOR, WITHOUT), "settings.min_lesion": (REFINED,)}.items():
        constant = found()[title]
        again = measuring.vary(constant, constant.value)
        assert again == {map_: measuring.baseline[map_] for map_ in maps}


@pytest.mark.parametrize(
    ("title", "value", "maps"),
    [
        ("cgckit.priors.gmm._DARKEST", 3.0, {PRIOR, WITHOUT}),
        ("cgckit.images.working_grid._CLIP", (-1.0, 1.5), {PRIOR, WITHOUT}),
        ("prior.floor", 50.0, {PRIOR, WITHOUT}),
        ("cgckit.cgc.margin._DEPTH", 60.0, {REFINED}),
        ("settings.min_lesion", 1e6, {REFINED}),
    ],
)
def test_a_constant_reaches_what_it_shapes(
    measured: tuple[Measuring, Path], title: str, value: object, maps: set[str]
) -> None:
    measuring, _ = measured
    varied = measuring.vary(found()[title], value)  # type: ignore[arg-type]
    assert set(varied) == maps
    assert any(varied[map_] != measuring.baseline[map_] for map_ in maps)


def test_kept_log_odds_are_those_that_the_network_would_give(
    measured: tuple[Measuring, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring, _ = measured
    asked: list[None] = []
    infer = cgckit.cgc.inference.network_log_odds
    monkeypatch.setattr(cgckit.cgc.inference, "network_log_odds", lambda *a: asked.append(None) or infer(*a))
    kept = measuring.vary(found()["settings.prior_weight"], 0.25)
    assert not asked
    model = cgckit.load_model(measuring.given.work / "refined").with_settings({"prior_weight": 0.25})
    known = measuring._known["case1"]
    probability = model.segment(known.case, known.prior)
    assert kept[REFINED]["case1"] == pytest.approx(
        2 * ((probability >= 0.5) & known.reference).sum() / ((probability >= 0.5).sum() + known.reference.sum()),
        abs=1e-6,
    )
    asked.clear()
    measuring.vary(found()["settings.overlap"], 0.5)
    assert asked, "another overlap is another map"


def test_what_no_code_reads_for_these_scans_is_said_to_be_so(measured: tuple[Measuring, Path]) -> None:
    measuring, _ = measured
    matters = {title: measuring.matters(constant) for title, constant in found().items()}
    assert not any(matter for title, matter in matters.items() if title.startswith(ct.__name__))
    assert matters["cgckit.lesion_evidence.choice._LEVEL"]
    assert matters["cgckit.cgc.margin._DEPTH"]
    assert matters["prior.floor"]


def test_values_that_are_refused_or_fail_are_findings(measured: tuple[Measuring, Path]) -> None:
    measuring, _ = measured
    line = constants._measure(measuring, Constant("refinement", "settings", "overlap", 0.75))
    assert "overlap" in line["double"]["refused"]
    assert REFINED in line["half"]
    line = constants._measure(measuring, Constant("prior", "cgckit.lesion_evidence.evidence", "_PLANE_MM", 1e308))
    assert "Error: " in line["double"]["failed"]
    for wrong in (1.5, -0.5, np.nan):
        with pytest.raises(ValueError, match="no probability"):
            checked(torch.tensor([0.5, wrong]))


def test_a_setting_of_training_is_trained_with(measured: tuple[Measuring, Path]) -> None:
    measuring, _ = measured
    constant = found(training=True)["settings.learning_rate"]
    assert measuring.vary(constant, constant.value) == {REFINED: measuring.baseline[REFINED]}
    with pytest.raises(UsageError):
        measuring.vary(found(training=True)["settings.crop"], (20, 20, 20))


class Pretended:
    """A `Measuring` that takes no time."""

    prior = 0.5
    asked: ClassVar[list[str]] = []

    def __init__(self, given: Given) -> None:
        self.baseline = {map_: {"case1": self.prior} for map_ in (PRIOR, WITHOUT)}

    def train(self) -> None:
        self.asked.append("training")
        self.baseline[REFINED] = {"case1": 0.75}

    def matters(self, constant: Constant) -> bool:
        return not constant.title.startswith(ct.__name__)

    def vary(self, constant: Constant, value: object) -> dict[str, dict[str, float]]:
        self.asked.append(constant.name)
        return {map_: {"case1": 0.25} for map_ in ((REFINED,) if constant.kind == "refinement" else (PRIOR, WITHOUT))}


def test_lines_are_kept_taken_up_again_and_measured_again_where_the_constant_is_another(
    write_cohort: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cohort(2)
    monkeypatch.setattr(constants, "Measuring", Pretended)
    asked = Pretended.asked
    some = ("--subjects", "1", "--only", "choice._LEVEL,ct._UNIT")
    constants.run(parse(tmp_path, *some))
    first = lines(tmp_path)
    names = ["choice._LEVEL", "choice._LEVEL_WEIGHT", "ct._UNIT"]
    assert list(first) == ["baseline", *(f"cgckit.lesion_evidence.{name}" for name in names)]
    assert first["cgckit.lesion_evidence.ct._UNIT"]["nothing"] == "not reached"
    level = first["cgckit.lesion_evidence.choice._LEVEL"]
    assert (level["half"]["value"], level["double"]["value"]) == (1.25, 5.0)
    assert level["half"]["prior"] == {"case1": 0.25}
    assert asked == ["_LEVEL", "_LEVEL", "_LEVEL_WEIGHT", "_LEVEL_WEIGHT"], "no network is needed"
    table = (tmp_path / "results" / "constants-tiny.md").read_text()
    assert "| `lesion_evidence.choice._LEVEL` | 2.5 | -0.250 |" in table
    assert "Not reached with these scans and this prior: `lesion_evidence.ct._UNIT`" in table

    asked.clear()
    constants.run(parse(tmp_path, *some))
    assert (asked, lines(tmp_path)) == ([], first)
    monkeypatch.setattr("cgckit.lesion_evidence.choice._LEVEL_WEIGHT", 0.61)
    constants.run(parse(tmp_path, *some))
    assert asked == ["_LEVEL_WEIGHT"] * 2
    asked.clear()
    constants.run(parse(tmp_path, "--subjects", "1", "--only", "min_lesion"))
    assert asked == ["training", "min_lesion", "min_lesion"]
    assert lines(tmp_path)["baseline"][REFINED] == {"case1": 0.75}

    monkeypatch.setattr(Pretended, "prior", 0.6)
    with pytest.raises(SystemExit, match="measured with other code or threads"):
        constants.run(parse(tmp_path, "--subjects", "1", "--only", "_RIND_MM"))
    assert "cgckit.priors.lesion_rule._RIND_MM" not in lines(tmp_path)
    (tmp_path / "work" / "constants-tiny" / "refined").mkdir(parents=True)
    constants.run(parse(tmp_path, "--subjects", "1", "--only", "_RIND_MM", "--overwrite"))
    assert not any((tmp_path / "work").iterdir()), "a network of older code is not taken up"
    assert list(lines(tmp_path)) == ["baseline", "cgckit.priors.lesion_rule._RIND_MM"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(["--only", "_PHLOGISTON"], "_PHLOGISTON"), (["--prior", "gmm+mumford-shah"], "one prior at a time")],
)
def test_a_mistake_is_one_line(
    write_cohort: Callable[..., Path], tmp_path: Path, words: list[str], complaint: str
) -> None:
    write_cohort(1)
    with pytest.raises(SystemExit, match=complaint) as stopped:
        constants.run(parse(tmp_path, *words))
    assert "\n" not in str(stopped.value)


def test_what_matters_most_comes_first(tmp_path: Path) -> None:
    description = {
        "key": "k",
        "options": {"modalities": ["flair"], "prior": {"name": "gmm"}, "settings": {"steps": 5}, "seed": 0},
        "inputs": {"a": "", "b": ""},
    }
    dice = {"a": 0.5, "b": 0.7}

    def plus(change: float) -> dict[str, float]:
        return {name: value + change for name, value in dice.items()}

    def line(name: str, kind: str, value: object, **ways: object) -> dict[str, object]:
        return {"name": name, "kind": kind, "value": value, "commit": "c", **ways}

    measured = [
        {"name": "baseline", "commit": "c", PRIOR: dice, WITHOUT: dice, REFINED: dice},
        line("cgckit.a._A", "prior", 2.5, half={PRIOR: plus(0.0004), WITHOUT: dice}, double={"failed": "x"}),
        line("settings.b", "refinement", [1, 2], half={REFINED: plus(0.01)}, double={"refused": "x"}),
        line("cgckit.c._C", "prior", 1, double={PRIOR: plus(0.002), WITHOUT: plus(-0.3)}),
        line("cgckit.d._D", "prior", 7, nothing="not reached"),
    ]
    path = tmp_path / "constants-x.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in [description, *measured]))
    constants.write(tmp_path)
    text = path.with_suffix(".md").read_text()
    assert [row for row in text.splitlines() if row.startswith("|")][2:] == [
        "| `c._C` | 1 | the same | +0.002 | the same | -0.300 |",
        "| `settings.b` | (1, 2) |  |  | +0.010 | refused |",
        "| `a._A` | 2.5 | nothing | fails | nothing | fails |",
    ]
    assert "prior 0.600, without network 0.600, refined 0.600" in text
    assert "this prior: `d._D`" in text
