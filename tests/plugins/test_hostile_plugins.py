"""Plug-ins that leave, spoil what they are given, or give what they must not: they are named, no other suffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cgckit.errors import CgckitError, PluginError
from cgckit.evaluation.metric import Metric
from cgckit.evaluation.pair import Pair
from cgckit.evaluation.scoring import score
from cgckit.images.brain import BrainExtractor, extract_brain
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort
from cgckit.images.preparation import Preparation
from cgckit.images.volume import Volume
from cgckit.options import options_of
from cgckit.pipeline.prior_maps import CohortCases
from cgckit.plugins import blame
from cgckit.priors.base import PRIORS, Prior, predict_checked
from cgckit.priors.fusion import FusionPrior
from cgckit.testing import check_brain, check_metric, check_prior, simulated_cases, simulated_heads
from cgckit.testing.rules import ContractError


class Leaving(BaseException):
    """No Exception, as some ways to leave are none."""


LEAVING = [SystemExit(0), GeneratorExit(), Leaving("away"), Leaving("two\nlines")]


@pytest.mark.parametrize("error", LEAVING, ids=lambda error: type(error).__name__)
def test_whatever_a_plugin_raises_is_its_failure(error: BaseException) -> None:
    with pytest.raises(PluginError, match=r"^prior x failed: ") as caught, blame("prior x failed"):
        raise error
    assert len(str(caught.value).splitlines()) == 1


def test_an_error_that_cannot_be_shown_is_named_by_its_kind() -> None:
    class Shy(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(PluginError, match=r"failed: Shy$"), blame("failed"):
        raise Shy


def test_the_users_interrupt_and_cgckits_own_errors_pass() -> None:
    for error in (KeyboardInterrupt(), CgckitError("as it is")):
        with pytest.raises(type(error)) as caught, blame("failed"):
            raise error
        assert caught.value is error


# ---- where a plug-in's code runs before anything is asked of it

SOURCE = """
from __future__ import annotations
import sys
from dataclasses import dataclass, field
from cgckit import Prior

class Leaving(BaseException):
    pass

def leave(*_):
    raise {error}

{at_import}

class Meta(type(Prior)):
    def __call__(cls, *arguments, **options):
        return {call}

@dataclass
class Mine(Prior, metaclass=Meta):
    first: {annotation} = 1
    second: list = field(default_factory={factory})

    def __post_init__(self):
        {made}

    def predict(self, case):
        return case.brain.float()
"""
USUAL = {
    "at_import": "",
    "call": "super().__call__(*arguments, **options)",
    "annotation": "int",
    "factory": "list",
    "made": "pass",
}
PLACES = {
    "import": {"at_import": "leave()"},
    "attribute of the module": {"at_import": "def __getattr__(name): leave()", "made": "pass\nMine_ = Mine\ndel Mine"},
    "metaclass": {"call": "leave()"},
    "gives none": {"call": "None"},
    "annotation": {"annotation": "leave()"},
    "undefined annotation": {"annotation": "Nowhere"},
    "default": {"factory": "leave"},
    "__post_init__": {"made": "leave()"},
}


@pytest.mark.parametrize("error", ["SystemExit(0)", "Leaving('away')", "GeneratorExit"])
@pytest.mark.parametrize("place", PLACES)
def test_a_class_that_leaves_before_it_is_asked_is_named(tmp_path: Path, place: str, error: str) -> None:
    source = SOURCE
    for name, words in {**USUAL, **PLACES[place], "error": error}.items():
        source = source.replace(f"{{{name}}}", words)
    if place == "attribute of the module":
        source = source.replace("pass\nMine_ = Mine\ndel Mine", "pass") + "\ndel Mine\n"
    file = tmp_path / "mine.py"
    file.write_text(source)
    with pytest.raises(PluginError) as caught:
        PRIORS.resolve(f"{file}:Mine")
    assert "ine" in str(caught.value)  # the class, or its file
    assert len(str(caught.value).splitlines()) == 1


# ---- what it is given


@dataclass
class Spoiling(Prior):
    """Calls the brighter half of the image lesion, and leaves nothing of the image."""

    def predict(self, case: Case) -> Tensor:
        bright = ((case.image[0] > 0) & case.brain).float()
        case.image.fill_(7.0)
        case.brain.fill_(True)
        return bright


@dataclass
class Plain(Prior):
    """The same without harm."""

    def predict(self, case: Case) -> Tensor:
        return ((case.image[0] > 0) & case.brain).float()


def test_a_prior_that_spoils_its_input_spoils_nobody_elses() -> None:
    case = simulated_cases()[0]
    image, brain = case.image.clone(), case.brain.clone()
    expected = Plain().predict(case)
    assert torch.equal(predict_checked(Spoiling(), case).probability, expected)
    assert torch.equal(case.image, image)
    assert torch.equal(case.brain, brain)
    fused = predict_checked(FusionPrior((Spoiling(), Plain())), case).probability
    assert torch.equal(fused, expected)
    with pytest.raises(ValueError, match="read-only"):
        case.grid.affine[0, 0] = 5
    with pytest.raises(ContractError, match="image of sim1 was changed"):
        check_prior(Spoiling)


def test_a_prior_that_learns_gets_copies_of_cases_in_memory() -> None:
    case = simulated_cases()[0]
    image = case.image.clone()
    for given in CohortCases(Cohort.from_cases([case]), Preparation(BRAIN)):
        given.image.zero_()
    assert torch.equal(case.image, image)


@dataclass
class SpoilingBrain(BrainExtractor):
    """Finds what differs from the corner, and writes through torch, which does not know of read-only arrays."""

    def extract(self, volumes: Mapping[str, Volume]) -> np.ndarray:
        volume = next(iter(volumes.values()))
        found = volume.array > 0
        torch.from_numpy(volume.array).zero_()
        volume.header["descrip"] = b"mine"
        return found


BRAIN = SpoilingBrain()


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_a_brain_extractor_that_spoils_its_images_spoils_nobody_elses() -> None:
    head = simulated_heads()[0]
    before = {name: volume.copy() for name, volume in head.items()}
    assert extract_brain(BRAIN, head).any()
    for name, volume in head.items():
        np.testing.assert_array_equal(volume.array, before[name].array)
        assert volume.header == before[name].header
    with pytest.raises(ContractError, match="was changed"):
        check_brain(SpoilingBrain, simulated_heads()[:2])


def test_a_copy_of_a_volume_keeps_the_order_of_its_values() -> None:
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32))
    for layout in (array, np.ascontiguousarray(array)):
        volume = Volume.of(layout, np.eye(4), "flair")
        assert volume.copy().array.strides == volume.array.strides
        assert not volume.copy().array.flags.writeable


@dataclass
class SpoilingMetric(Metric):
    """Says nothing, and empties one of the arrays that all metrics share."""

    what: str = "prediction"

    def measure(self, pair: Pair) -> float:
        array = {
            "prediction": lambda: pair.prediction,
            "reference": lambda: pair.reference,
            "distances": lambda: pair.surface_distances.from_prediction,
            "labels": lambda: pair.predicted_parts.labels,
            "sizes": lambda: pair.reference_parts.sizes,
        }[self.what]()
        array[...] = 0
        return 0.0


@dataclass
class SpoilingThroughTorch(Metric):
    """The same, where numpy does not notice."""

    def measure(self, pair: Pair) -> float:
        torch.from_numpy(pair.prediction).zero_()
        return 0.0


@dataclass
class Voxels(Metric):
    """Voxels of the prediction."""

    def measure(self, pair: Pair) -> float:
        return float(pair.prediction.sum())


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize(
    "metric",
    [
        SpoilingThroughTorch(),
        *(SpoilingMetric(what) for what in ("prediction", "reference", "distances", "labels", "sizes")),
    ],
)
def test_a_metric_that_spoils_the_masks_is_named_and_spoils_no_other(metric: Metric) -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[1:4, 1:4, 1:4] = True
    kept = mask.copy()
    with pytest.raises(PluginError, match="metric bad failed: ValueError"):
        score(mask, mask, (1, 1, 1), {"bad": metric})
    found = score(mask, mask, (1, 1, 1), {"bad": metric, "voxels": Voxels()}, forgiving=True)
    assert np.isnan(found["bad"])
    assert found["voxels"] == 27
    np.testing.assert_array_equal(mask, kept)
    with pytest.raises(ContractError):
        check_metric(lambda: metric)


# ---- what it gives


def giving(make: Callable[[Case], object]) -> Prior:
    return type("Giving", (Plain,), {"predict": lambda self, case: make(case)})()  # type: ignore[no-any-return]


def ones(case: Case) -> Tensor:
    return case.brain.float()


FAULTS: dict[str, tuple[Callable[[Case], object], str]] = {
    "none": (lambda case: None, "NoneType"),
    "sparse": (lambda case: ones(case).to_sparse(), "sparse_coo"),
    "sparse, another": (lambda case: ones(case)[0].to_sparse_csr(), "sparse_csr"),
    "meta": (lambda case: ones(case).to("meta"), "meta"),
    "whole numbers": (lambda case: ones(case).int(), "int32"),
    "switches": (lambda case: case.brain, "bool"),
    "complex": (lambda case: ones(case).to(torch.complex64), "complex64"),
    "double": (lambda case: ones(case).double(), "float64"),
    "gradient": (lambda case: ones(case).requires_grad_(), "gradient"),
    "parameter": (lambda case: torch.nn.Parameter(ones(case)), "gradient"),
    "NaN": (lambda case: ones(case) * torch.nan, "outside [0, 1]"),
    "infinite": (lambda case: ones(case) * torch.inf, "outside [0, 1]"),
    "a number": (lambda case: torch.tensor(0.5), "()"),
    "one axis more": (lambda case: ones(case)[None], "(1, 36, 44, 35)"),
    "no voxel": (lambda case: torch.zeros(0), "(0,)"),
    "leaves": (lambda case: (_ for _ in ()).throw(SystemExit(0)), "SystemExit: 0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_map_is_named_in_one_line(fault: str) -> None:
    make, word = FAULTS[fault]
    case = simulated_cases()[0]
    for prior in (giving(make), FusionPrior((Plain(), giving(make)))):
        with pytest.raises(PluginError) as caught:
            predict_checked(prior, case)
        message = str(caught.value)
        assert "prior Giving" in message
        assert word in message
        assert len(message.splitlines()) == 1
    with pytest.raises(ContractError):
        check_prior(lambda: giving(make), [case])


def test_a_note_becomes_one_line_of_text() -> None:
    found = predict_checked(giving(lambda case: ones(case)), simulated_cases()[0])
    assert found.note == ""
    from cgckit.priors.base import Prediction

    prior = giving(lambda case: Prediction(ones(case), "one\ntwo\u2028three \udcff"))
    assert predict_checked(prior, simulated_cases()[0]).note == "one two three ?"


def test_options_whose_defaults_cannot_be_made_are_named() -> None:
    def leave() -> list[int]:
        raise Leaving("away")

    @dataclass
    class Odd:
        size: list[int] = field(default_factory=leave)

    with pytest.raises(PluginError, match="Odd: its options cannot be read"):
        options_of(Odd)
