"""The starting network: what it is shown of a subject, and that it finds a lesion."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cgckit.cgc.pretrained import PretrainedPrior
from cgckit.errors import BadInputError
from cgckit.images.case import Case
from cgckit.lesion_evidence.evidence import mid_sagittal
from cgckit.phantom import simulate_subject
from cgckit.priors.resolve import resolve_prior
from cgckit.starting import SLOTS, WEIGHTS, StartingNetwork, slots, slots_of
from cgckit.testing import check_prior


def head(modalities: tuple[str, ...] = ("flair",)) -> Case:
    """A symmetric brain of white matter in a cortex at 2 mm, with two ventricles, and a bright ball on the right."""
    shape = tuple(size // 2 for size in (136, 170, 140))
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * 2 for n in shape), indexing="ij")
    radius = np.sqrt(sum((axis / half) ** 2 for axis, half in zip(axes, (64, 80, 66), strict=True)))
    brain = radius < 1
    image = np.where(radius < 0.86, 100.0, 118.0)
    ventricle = ((np.abs(axes[0]) - 14) / 7) ** 2 + (axes[1] / 30) ** 2 + ((axes[2] - 5) / 9) ** 2 < 1
    image[ventricle] = 30
    lesion = (axes[0] - 34) ** 2 + (axes[1] - 15) ** 2 + (axes[2] - 22) ** 2 < 15**2
    image[lesion] = 165
    image = (image + rng.normal(0, 4, shape)) * brain
    return Case.from_arrays(dict.fromkeys(modalities, image), affine=np.diag([2, 2, 2, 1]), brain=brain)


def test_it_finds_a_lesion_of_a_scan_that_it_was_never_trained_on():
    subject = simulate_subject(seed=5, index=3)
    case = Case.from_arrays(subject.images, affine=subject.grid.affine, brain=subject.brain)
    log_odds = StartingNetwork.load().log_odds(case)
    assert log_odds.shape == case.brain.shape
    assert log_odds.dtype == torch.float32
    assert (log_odds[~case.brain] == -20).all()
    found = case.to_native(np.asarray(log_odds > 0))
    assert 2 * (found & subject.lesion).sum() > 0.5 * (found.sum() + subject.lesion.sum())


def test_without_flair_the_first_image_that_has_no_slot_takes_its_place():
    assert slots_of(("flair", "t1", "t1ce", "t2")) == [0, 1, 2, 3]
    assert slots_of(("t2", "flair")) == [3, 0]
    assert slots_of(("ct",)) == [0]
    assert slots_of(("t1", "swi", "dwi")) == [1, 0, None]
    assert slots_of(("flair", "dwi")) == [0, None]
    assert slots_of(("t2",)) == [3]


def test_images_lie_in_their_slots_with_their_mirror_images_behind_them():
    case = head(("t2", "flair"))
    shown = slots(case, mid_sagittal(case)).numpy()
    assert shown.shape == (2 * len(SLOTS), *case.brain.shape)
    assert np.array_equal(shown[0], case.channel("flair").numpy())
    assert np.array_equal(shown[3], case.channel("t2").numpy())
    for slot in (1, 2, 5, 6):
        assert not shown[slot].any()
    flipped = shown[0][::-1]
    both = (flipped != 0) & (shown[4] != 0)
    assert both.mean() > 0.3
    assert np.abs(flipped - shown[4])[both].mean() < np.abs(shown[0] - shown[4])[both].mean() * 0.7


def test_ct_is_shown_in_robust_standard_deviations():
    case = head()
    ct = dataclasses.replace(case, image=case.image * 0.3 - 1, modalities=("ct",))
    inside = slots(ct, mid_sagittal(ct))[0][case.brain]
    assert inside.median().abs() < 0.01
    assert (inside - slots(case, mid_sagittal(case))[0][case.brain]).abs().median() < 0.05


def test_an_image_that_it_does_not_know_is_not_shown():
    case = head()
    more = dataclasses.replace(
        case, image=torch.cat([case.image, torch.randn_like(case.image) * case.brain]), modalities=("flair", "dwi")
    )
    shown = slots(more, mid_sagittal(more))
    assert torch.equal(shown[0], case.channel("flair"))
    assert not shown[1:4].any()


def test_as_a_prior_it_keeps_the_contract_and_has_its_name():
    check_prior(PretrainedPrior)
    assert isinstance(resolve_prior("pretrained"), PretrainedPrior)


def test_as_a_prior_it_says_what_the_network_says():
    case = head()
    starting = StartingNetwork.load()
    found = PretrainedPrior().predict(case)
    assert torch.equal(found, starting.log_odds(case).sigmoid() * case.brain)
    assert found.max() > 0.5


@pytest.mark.parametrize("damage", ["gone", "no tensors", "other tensors", "not finite"])
def test_weights_that_are_damaged_are_refused_in_one_line(tmp_path, damage):
    path = tmp_path / "starting.safetensors"
    state = StartingNetwork.load().network.state_dict()
    if damage == "no tensors":
        path.write_bytes(WEIGHTS.read_bytes()[:1000])
    elif damage == "other tensors":
        save_file({"a": torch.ones(3)}, path)
    elif damage == "not finite":
        save_file({name: value.clone() * torch.nan for name, value in state.items()}, path)
    with pytest.raises(BadInputError, match=r"starting\.safetensors") as caught:
        StartingNetwork.load(path)
    assert "\n" not in str(caught.value)
