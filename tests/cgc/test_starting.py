"""The starting network: what it is shown of a subject, and that it finds a lesion."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from cgckit.cgc.starting import SLOTS, StartingNetwork, slots, slots_of
from cgckit.images.case import Case


def head(modalities: tuple[str, ...] = ("flair",), spacing: float = 2.0, seed: int = 0) -> tuple[Case, np.ndarray]:
    """A symmetric brain of white matter in a cortex, with fluid in two ventricles, and a bright ball on the right."""
    shape = tuple(round(size / spacing) for size in (136, 170, 140))
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * spacing for n in shape), indexing="ij")
    radius = np.sqrt(sum((axis / half) ** 2 for axis, half in zip(axes, (64, 80, 66), strict=True)))
    brain = radius < 1
    image = np.where(radius < 0.86, 100.0, 118.0)
    ventricle = ((np.abs(axes[0]) - 14) / 7) ** 2 + (axes[1] / 30) ** 2 + ((axes[2] - 5) / 9) ** 2 < 1
    image[ventricle] = 30
    lesion = (axes[0] - 34) ** 2 + (axes[1] - 15) ** 2 + (axes[2] - 22) ** 2 < 15**2
    image[lesion] = 165
    image = (image + rng.normal(0, 4, shape)) * brain
    images = {name: image if name != "t1" else (250 - image) * brain for name in modalities}
    return Case.from_arrays(images, affine=np.diag([spacing] * 3 + [1]), brain=brain), lesion


@pytest.fixture(scope="module")
def starting() -> StartingNetwork:
    return StartingNetwork.load()


@pytest.mark.parametrize("spacing", [2.0, 3.0])
def test_it_finds_a_lesion_that_it_was_never_trained_on(starting, spacing):
    case, lesion = head(spacing=spacing)
    log_odds = starting.log_odds(case)
    assert log_odds.shape == case.brain.shape
    assert log_odds.dtype == torch.float32
    assert (log_odds[~case.brain] == -20).all()
    found = case.to_native(np.asarray(log_odds > 0))
    assert 2 * (found & lesion).sum() > 0.6 * (found.sum() + lesion.sum())


def test_without_flair_the_first_image_that_has_no_slot_takes_its_place():
    assert slots_of(("flair", "t1", "t1ce", "t2")) == [0, 1, 2, 3]
    assert slots_of(("t2", "flair")) == [3, 0]
    assert slots_of(("ct",)) == [0]
    assert slots_of(("t1", "swi", "dwi")) == [1, 0, None]
    assert slots_of(("flair", "dwi")) == [0, None]
    assert slots_of(("t2",)) == [3]


def test_images_lie_in_their_slots_with_their_mirror_images_behind_them():
    case, _ = head(("t2", "flair"))
    shown = slots(case).numpy()
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
    case, _ = head()
    ct = dataclasses.replace(case, image=case.image * 0.3 - 1, modalities=("ct",))
    inside = slots(ct)[0][case.brain]
    assert inside.median().abs() < 0.01
    assert (inside - slots(case)[0][case.brain]).abs().median() < 0.05


def test_an_image_that_it_does_not_know_is_not_shown():
    case, _ = head()
    more = dataclasses.replace(
        case, image=torch.cat([case.image, torch.randn_like(case.image) * case.brain]), modalities=("flair", "dwi")
    )
    shown = slots(more)
    assert torch.equal(shown[0], case.channel("flair"))
    assert not shown[1:4].any()
