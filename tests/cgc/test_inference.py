"""Inference: windows agree with the whole, mirroring is symmetric, and the prior has its say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from cgckit.cgc import inference
from cgckit.cgc.inference import without_network
from cgckit.cgc.model import Model
from cgckit.cgc.settings import Settings
from cgckit.errors import BadInputError, UsageError
from cgckit.images.case import Case
from cgckit.images.grid import Grid

SETTINGS = Settings(
    steps=1,
    crop=(16, 16, 16),
    patch_size=(1, 1, 1),
    mirror=False,
    network_weight=1.0,
    starting_weight=0.0,
    appearance_weight=0.0,
    min_lesion=0.0,
    min_consent=0.0,
    fill_cores=False,
)


def starting_network(value: float) -> Callable[[Case], torch.Tensor]:
    """Stands for the starting network: log-odds of that value everywhere."""
    return lambda case: torch.full(case.brain.shape, value)


@pytest.fixture(autouse=True)
def witness_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "starting_log_odds", starting_network(-1.0))


class FirstChannel(nn.Module):
    """Stands for a network that reads each voxel alone: any window gives what the whole image would."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def segment(self, image: torch.Tensor) -> torch.Tensor:
        return image[:, :1] * self.scale


class LeftHalf(FirstChannel):
    """Finds lesion in the left half of any window, whatever the image."""

    def segment(self, image: torch.Tensor) -> torch.Tensor:
        output = torch.zeros_like(image[:, :1])
        output[:, :, : image.shape[2] // 2] = 1.0
        return output


def model(network: nn.Module, **changes: object) -> Model:
    return Model(network, dataclasses.replace(SETTINGS, **changes), ("flair",))  # type: ignore[arg-type]


def segment(model: Model, case: Case, prior: torch.Tensor | None = None) -> torch.Tensor:
    return inference.segment(model.network, model.settings, case, prior).probability


def uncertainty(model: Model, case: Case) -> torch.Tensor:
    return inference.uncertainty(model.network, model.settings, case)


def infer(model: Model, image: torch.Tensor) -> torch.Tensor:
    return inference.network_log_odds(model.network, model.settings, image)


def make_case(image: np.ndarray, spacing: float = 1.0) -> Case:
    grid = Grid(image.shape, np.diag([spacing] * 3 + [1.0]))  # type: ignore[arg-type]
    tensor = torch.from_numpy(image.astype(np.float32))[None]
    return Case("s", tensor, torch.ones(image.shape, dtype=torch.bool), ("flair",), (spacing,) * 3, grid, grid)


def test_windows_are_put_together_without_seams() -> None:
    image = torch.randn(1, 30, 41, 22)
    torch.testing.assert_close(infer(model(FirstChannel()), image), 2 * image[0])


def test_overlapping_windows_are_blended() -> None:
    image = torch.zeros(1, 32, 16, 16)
    apart, blended = (infer(model(LeftHalf(), overlap=overlap), image)[:, 8, 8] for overlap in (0.0, 0.5))
    assert set(apart.tolist()) == {0.0, 1.0}
    # Windows start at 0, 8 and 16. Where one ends and the next begins the first says 0 and the second 1, and that
    # counts more whose centre is nearer.
    for part in (blended[8:16], blended[16:24]):
        assert ((part > 0) & (part < 1)).all()
        assert (part.diff() > 0).all()


def test_an_image_smaller_than_a_window_is_segmented() -> None:
    image = torch.randn(1, 9, 16, 12)
    torch.testing.assert_close(infer(model(FirstChannel()), image), 2 * image[0])


@pytest.mark.parametrize("batch", [1, 2])
def test_no_window_goes_through_the_network_alone(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which PyTorch's convolutions on the CPU make several times the work."""
    network, sizes = FirstChannel(), []
    segment = network.segment
    monkeypatch.setattr(network, "segment", lambda windows: sizes.append(len(windows)) or segment(windows))
    image = torch.randn(1, 16, 16, 40)  # three windows
    torch.testing.assert_close(infer(model(network, batch=batch, overlap=0.25), image), 2 * image[0])
    assert set(sizes) == {2}


def test_mirroring_averages_left_and_right() -> None:
    one_sided = infer(model(LeftHalf()), torch.zeros(1, 16, 16, 16))
    assert one_sided[0, 0, 0] == 1
    assert one_sided[-1, 0, 0] == 0
    both = infer(model(LeftHalf(), mirror=True), torch.zeros(1, 16, 16, 16))
    assert torch.allclose(both, torch.full_like(both, 0.5))


@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_probability_lies_on_the_cases_grid_and_is_zero_outside_the_brain(spacing: float) -> None:
    case = make_case(np.random.default_rng(1).normal(size=(24, 20, 18)))
    brain = case.brain.clone()
    brain[:5] = False
    case = dataclasses.replace(case, brain=brain, image=case.image * brain)
    probability = segment(model(FirstChannel(), spacing=spacing), case)
    assert probability.shape == case.brain.shape
    assert (probability[~brain] == 0).all()
    assert ((probability > 0) & (probability < 1))[brain].all()


def test_the_prior_decides_where_the_network_is_less_certain() -> None:
    case = make_case(np.full((16, 16, 16), 0.5))  # the network's log-odds are 1
    prior = torch.zeros(case.brain.shape)
    prior[8:] = 1.0
    found = segment(model(FirstChannel(), spacing=1.0, prior_weight=0.2, prior_reach=12.0), case, prior) >= 0.5
    assert found[8:].all()
    # The prior says -0.2 * 3.89 at its edge and 0.1 less for each mm: up to 2 mm from it the network still wins.
    assert found[6:8].all()
    assert not found[:6].any()


def test_a_prior_of_no_weight_changes_nothing() -> None:
    case = make_case(np.random.default_rng(2).normal(size=(16, 16, 16)))
    alone = segment(model(FirstChannel(), spacing=1.0), case)
    with_prior = segment(model(FirstChannel(), spacing=1.0, prior_weight=0.0), case, torch.ones(case.brain.shape))
    torch.testing.assert_close(with_prior, alone)


@pytest.mark.parametrize("with_prior", [True, False])
def test_voxels_that_look_like_the_rest_of_the_lesion_join_it(with_prior: bool) -> None:
    image = np.random.default_rng(4).normal(-1.0, 0.05, size=(32, 16, 16))
    image[:16] += 1.3
    image[12:16] -= 0.4  # lesion that the network just misses
    case = make_case(image)
    prior = torch.zeros(case.brain.shape)
    prior[:12] = 1.0
    weights = {"prior_weight": 0.1, "prior_reach": 1e3}
    for appearance_weight, expected in ((0.0, False), (0.01, False), (1.0, True)):
        trained = model(FirstChannel(), spacing=1.0, appearance_weight=appearance_weight, **weights)
        found = segment(trained, case, prior if with_prior else None) >= 0.5
        assert found[1:11].all()
        assert bool(found[12:15].float().mean() > 0.5) == expected
        assert not found[18:].any()


def test_without_a_network_prior_and_appearance_decide() -> None:
    image = np.random.default_rng(5).normal(-1.0, 0.1, size=(32, 16, 16))
    image[:16] += 2.0
    case = make_case(image)
    prior = torch.zeros(case.brain.shape)
    prior[:14] = 1.0
    for appearance_weight, expected in ((0.0, False), (1.0, True)):
        settings = dataclasses.replace(SETTINGS, prior_weight=0.5, appearance_weight=appearance_weight)
        found = without_network(settings, case, prior) >= 0.5
        assert found[:14].all()
        assert bool(found[14].all()) == expected
        assert not found[17:].any()


@pytest.mark.parametrize("sure", [0.0, 1.0])
def test_a_prior_without_doubt_does_not_outvote_strong_evidence(sure: float) -> None:
    against = 6.0 if sure == 0 else -6.0
    case = make_case(np.full((16, 16, 16), against))  # the network's log-odds are 12 or -12
    found = segment(model(FirstChannel(), spacing=1.0), case, torch.full(case.brain.shape, sure))
    assert ((found > 0.5) == (against > 0)).all()


def test_uncertainty_is_the_deviation_over_views_half_of_them_mirrored() -> None:
    case = make_case(np.zeros((16, 16, 16)))
    brain = case.brain.clone()
    brain[:, :4] = False
    case = dataclasses.replace(case, brain=brain)
    deviation = uncertainty(model(LeftHalf(), spacing=1.0, uncertainty_views=2), case)
    # One view says 1 on the left and 0 on the right, the mirrored one the reverse; half of the difference is left.
    expected = (torch.tensor(1.0).sigmoid() - 0.5) / 2
    torch.testing.assert_close(deviation[brain], torch.full_like(deviation[brain], float(expected)))
    assert (deviation[~brain] == 0).all()


def test_a_network_that_hangs_on_brightness_is_uncertain_the_same_way_each_time() -> None:
    case = make_case(np.random.default_rng(3).normal(size=(16, 16, 16)))
    trained = model(FirstChannel(), spacing=1.0, uncertainty_views=6)
    deviation = uncertainty(trained, case)
    assert deviation.mean() > 0.01
    assert torch.equal(deviation, uncertainty(trained, case))


def test_specks_and_cores_are_settled_on_request() -> None:
    image = np.random.default_rng(0).normal(-1, 0.05, (40, 32, 32))
    image[3:19, 6:22, 6:22] = image[30, 28, 28] = 1.0
    image[7:15, 10:18, 10:18] = -2.0  # as dark as fluid
    case = make_case(image)
    for changes, expected in (
        ({}, 4096 - 512 + 1),
        ({"min_lesion": 2.0}, 4096 - 512),
        ({"fill_cores": True}, 4096 + 1),
    ):
        found = segment(model(FirstChannel(), spacing=1.0, **changes), case) >= 0.5
        assert int(found.sum()) == expected


def test_parts_of_the_prior_that_the_network_refuses_are_dropped_on_request() -> None:
    image = np.full((24, 16, 16), -1.0)
    image[2:8, 4:12, 4:12] = 1.0
    image[14, 4:12, 4:12] = 1.0  # a sixth of the prior's second part
    case = make_case(image)
    prior = torch.zeros(case.brain.shape)
    prior[2:8, 4:12, 4:12] = prior[14:20, 4:12, 4:12] = 1.0
    for min_consent, expected in ((0.0, 768), (0.1, 768), (0.5, 384)):
        trained = model(FirstChannel(), spacing=1.0, min_consent=min_consent)
        found = segment(trained, case, prior) >= 0.5
        assert int(found.sum()) == expected
        assert found[2:8, 4:12, 4:12].all()
    nothing = without_network(dataclasses.replace(SETTINGS, min_consent=0.5), case, prior)
    assert int((nothing >= 0.5).sum()) == 768, "no network, no veto"


def test_a_part_that_the_starting_network_confirms_is_kept_and_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((24, 16, 16), -1.0)
    image[2:8, 4:12, 4:12] = 1.0
    case = make_case(image)
    prior = torch.zeros(case.brain.shape)
    prior[2:8, 4:12, 4:12] = prior[14:20, 4:12, 4:12] = 1.0
    trained = model(FirstChannel(), spacing=1.0, min_consent=0.5)

    monkeypatch.setattr(inference, "starting_log_odds", starting_network(0.1))
    judged = inference.segment(trained.network, trained.settings, case, prior)
    assert int((judged.probability >= 0.5).sum()) == 768
    assert judged.doubted_ml == [pytest.approx(0.384)]
    heads = dataclasses.replace(case, modalities=("ct",))
    judged = inference.segment(trained.network, trained.settings, heads, prior)
    assert int((judged.probability >= 0.5).sum()) == 384, "it is no witness of CT"
    assert judged.doubted_ml == []


def test_the_starting_network_has_a_weight_of_its_own_and_none_on_ct(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(np.zeros((16, 16, 16)))
    monkeypatch.setattr(inference, "starting_log_odds", starting_network(2.0))
    for weight, modality, expected in ((0.25, "flair", 0.5), (1.0, "flair", 2.0), (1.0, "ct", 0.0)):
        found = segment(
            model(FirstChannel(), spacing=1.0, starting_weight=weight),
            dataclasses.replace(case, modalities=(modality,)),
        )
        torch.testing.assert_close(found.logit(), torch.full(case.brain.shape, expected))


def test_a_network_weighs_less_beside_a_prior_that_it_was_trained_on() -> None:
    case = make_case(np.full((16, 16, 16), 2.0))
    prior = torch.zeros(case.brain.shape)
    prior[4:8] = 1.0
    trained = model(FirstChannel(), spacing=1.0, network_weight=0.25)
    full = model(FirstChannel(), spacing=1.0)

    def log_odds(found: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(found).logit()

    beside, doubted = (trained.segment(case, prior, doubtful=doubtful) for doubtful in (False, True))
    difference = log_odds(doubted) - log_odds(beside)
    # As exact as log-odds of up to 10 are that have been float32 probabilities.
    torch.testing.assert_close(difference, torch.full(case.brain.shape, 0.75 * 4), rtol=0, atol=2e-3)
    np.testing.assert_array_equal(doubted, full.segment(case, prior))
    np.testing.assert_array_equal(trained.segment(case), full.segment(case))


def test_a_network_does_not_delete_what_the_prior_is_surest_of() -> None:
    image = np.full((24, 16, 16), -0.3)
    image[:10] = -0.5
    case = make_case(image)
    prior = torch.zeros(case.brain.shape)
    prior[2:8, 4:12, 4:12] = prior[14:17, 4:12, 4:12] = 1.0
    trained = model(FirstChannel(), spacing=1.0, min_consent=0.5)
    for doubtful in (False, True):
        kept = trained.segment(case, prior, doubtful=doubtful) >= 0.5
        assert kept[2:8, 4:12, 4:12].all() != doubtful


def test_a_dark_core_does_not_count_against_its_lesion() -> None:
    image = np.random.default_rng(0).normal(-1, 0.05, (40, 32, 32))
    image[3:19, 6:22, 6:22] = 1.0
    image[5:17, 8:20, 8:20] = -2.0  # as dark as fluid, and more than a third of what is filled
    image[30:33, 26:29, 26:29] = 1.0
    trained = model(FirstChannel(), spacing=1.0, min_consent=0.67, fill_cores=True)
    assert int((segment(trained, make_case(image)) >= 0.5).sum()) == 16**3 + 27


@pytest.mark.parametrize("weights", [{}, {"prior_weight": 0.0}, {"appearance_weight": 0.0}])
def test_without_a_network_what_nothing_speaks_of_stays_as_the_prior_has_it(weights: dict[str, float]) -> None:
    image = np.random.default_rng(0).normal(size=(48, 24, 24))
    image[4:12, 8:16, 8:16] += 6.0
    case = make_case(image)
    prior = torch.zeros(case.brain.shape)
    prior[4:12, 8:16, 8:16] = 0.9
    settings = dataclasses.replace(SETTINGS, **({"prior_weight": 0.5, "appearance_weight": 1.0} | weights))
    found = without_network(settings, case, prior) >= 0.5
    assert found[6:10, 10:14, 10:14].all()
    found[3:13, 7:17, 7:17] = False  # a voxel more or less at the edge is the appearance model's to say
    assert not found.any()
    nothing = dataclasses.replace(SETTINGS, prior_weight=0.0, appearance_weight=0.0)
    torch.testing.assert_close(without_network(nothing, case, prior), prior, atol=1e-5, rtol=0)


def test_a_model_segments_what_is_in_memory_on_its_own_grid() -> None:
    values = 100 + np.random.default_rng(0).uniform(-1, 1, size=(20, 22, 18))  # within 1.4 robust deviations
    values[4:9, 5:10, 6:12] = 110.0
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    case = Case.from_arrays({"flair": values}, affine=affine, brain=np.ones(values.shape))
    probability = model(FirstChannel(), spacing=2.0, crop=(16, 16, 16)).segment(case)
    assert (probability.shape, probability.dtype) == (values.shape, np.float32)
    # Bright voxels are lesion to this network, and lie where they did in the array that was given.
    inside = np.zeros(values.shape, bool)
    inside[5:8, 6:9, 7:11] = True
    assert (probability[inside] > 0.99).all()
    assert (probability[12:] < 0.99).all()


def test_a_model_refuses_other_modalities() -> None:
    case = dataclasses.replace(make_case(np.ones((16, 16, 16))), modalities=("t2",))
    with pytest.raises(BadInputError, match="has no flair; the model takes flair"):
        model(FirstChannel()).segment(case)
    with pytest.raises(BadInputError, match="a ndarray is no case: make one of images"):
        model(FirstChannel()).segment(np.ones((16, 16, 16)))  # type: ignore[arg-type]


def test_inference_settings_are_changed_without_the_network() -> None:
    trained = model(FirstChannel())
    changed = trained.with_settings({"min_lesion": "5"})
    assert (changed.settings.min_lesion, changed.settings.training) == (5.0, trained.settings.training)
    assert changed.network is trained.network
    with pytest.raises(UsageError, match="steps shapes the training"):
        trained.with_settings({"steps": 3})
    with pytest.raises(UsageError, match="the network is trained already"):
        trained.with_settings(Settings(steps=3))  # type: ignore[arg-type]
