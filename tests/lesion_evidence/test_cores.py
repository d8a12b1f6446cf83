"""Cores: cysts and open cavities join the lesion; ventricles, sulci and whatever has a twin do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cgckit.images.case import Case
from cgckit.lesion_evidence.cores import cores, views, with_cores

SHAPE = (72, 80, 64)
SPACING = (2.0, 2.0, 2.0)
MIDDLE = 36
FLUID, TISSUE, LESION = -5.0, 0.0, 6.0


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """Voxels within `radius` mm of a point, which is given in voxels."""
    axes = np.ogrid[tuple(slice(0, size) for size in SHAPE)]
    return sum((2 * (axis - at)) ** 2 for axis, at in zip(axes, centre, strict=True)) <= radius**2


BRAIN = ball((MIDDLE - 0.5, 40, 32), 62)
# Fluid between the halves, an uneven surface and one tissue brighter than the other: what the plane is found by.
FOLDS = np.sin(np.abs(np.arange(SHAPE[0]) - MIDDLE + 0.5) / 2.5)[:, None, None] * np.cos(np.arange(80) / 3)[:, None]
VENTRICLES = ball((MIDDLE - 7, 38, 32), 11) | ball((MIDDLE + 6, 38, 32), 11)


def subject(lesion: np.ndarray, fluid: np.ndarray, bright: float = LESION) -> Case:
    """FLAIR of a brain with a lesion, and fluid in it, besides its ventricles."""
    image = TISSUE + FOLDS + 0.2 * np.random.default_rng(0).standard_normal(SHAPE)
    image = np.where(lesion, bright, image)
    image = np.where(fluid | VENTRICLES, FLUID, image) * BRAIN
    return Case("c1", torch.from_numpy(image.astype(np.float32))[None], torch.from_numpy(BRAIN), ("flair",), SPACING)


def share(found: np.ndarray, wanted: np.ndarray) -> float:
    return float((found & wanted).sum() / wanted.sum())


TUMOUR = ball((54, 40, 34), 20)
CYST = ball((54, 40, 34), 13)


def test_a_cyst_is_filled_and_nothing_else() -> None:
    lesion = TUMOUR & ~CYST
    found = cores(subject(lesion, CYST), lesion)
    assert np.array_equal(found, CYST)


def test_a_cyst_that_the_lesion_leaves_open_is_filled_round_and_without_corners() -> None:
    """Lesion on all sides but one: a filling slice by slice, or of a box, would leave straight edges there."""
    lesion = TUMOUR & ~CYST
    lesion[:, :, 39:] = False
    found = cores(subject(lesion, CYST), lesion)
    assert share(found, CYST) > 0.8
    assert share(CYST | lesion | ball((54, 40, 34), 15), found) == 1, (
        "no farther than the fluid's own edge and the seam"
    )


def test_the_seam_between_core_and_lesion_is_closed() -> None:
    lesion = TUMOUR & ~ball((54, 40, 34), 16)
    seam = ball((54, 40, 34), 16) & ~CYST
    found = cores(subject(lesion, CYST), lesion)
    assert share(found, seam | CYST) == 1


def test_a_cavity_that_is_open_to_the_surface_is_filled() -> None:
    place = (62, 40, 32)
    cavity, rim = ball(place, 14) & BRAIN, ball(place, 21) & BRAIN
    assert (cavity & ~np.pad(BRAIN, 1)[2:, 1:-1, 1:-1]).any(), "it reaches the surface"
    lesion = rim & ~cavity
    found = cores(subject(lesion, cavity), lesion)
    assert share(found, cavity) > 0.9
    assert not (found & ~ball(place, 17)).any()


def test_ventricles_are_not_filled_even_if_lesion_surrounds_one() -> None:
    lesion = ball((MIDDLE + 6, 38, 32), 18) & ~VENTRICLES & (np.arange(SHAPE[0]) >= MIDDLE)[:, None, None]
    assert not cores(subject(lesion, np.zeros(SHAPE, bool)), lesion).any()


def test_a_ventricle_that_the_lesion_has_displaced_is_not_filled() -> None:
    moved = ball((MIDDLE + 8, 38, 33), 10)
    lesion = ball((MIDDLE + 8, 38, 33), 18) & ~moved & ~VENTRICLES
    case = subject(lesion, moved)
    left = torch.from_numpy(ball((MIDDLE + 6, 38, 32), 11) & ~moved & ~lesion)
    case = replace(case, image=torch.where(left, torch.tensor(TISSUE), case.image))
    assert not cores(case, lesion).any()


def test_fluid_on_the_midline_is_its_own_twin() -> None:
    third = ball((MIDDLE - 0.5, 60, 32), 8)
    lesion = ball((MIDDLE - 0.5, 60, 32), 16) & ~third
    assert not cores(subject(lesion, third), lesion).any()


def test_a_sulcus_beside_a_lesion_stays_as_it_is() -> None:
    sulcus = np.zeros(SHAPE, bool)
    sulcus[58:, 40:42, 20:44] = True
    sulcus &= BRAIN
    lesion = ball((56, 36, 32), 7)
    found = cores(subject(lesion, sulcus), lesion)
    assert share(found, sulcus) < 0.05


def test_a_core_of_neither_fluid_nor_lesion_is_filled_with_the_fluid_in_it() -> None:
    """Bleeding into a cyst: half of it looks like tissue."""
    upper = np.arange(SHAPE[2]) >= 34
    lesion = TUMOUR & ~CYST
    assert share(cores(subject(lesion, CYST & upper), lesion), CYST) > 0.9


def test_t2_tells_fluid_that_flair_does_not_suppress() -> None:
    lesion = TUMOUR & ~CYST
    lesion[:, :, 39:] = False
    grey = subject(lesion, np.zeros(SHAPE, bool))
    assert share(cores(grey, lesion), CYST) < 0.1
    t2 = torch.from_numpy(np.where(BRAIN & (CYST | VENTRICLES | TUMOUR), 9, 0.3 * FOLDS * BRAIN).astype(np.float32))
    image = torch.stack([torch.where(torch.from_numpy(CYST), torch.tensor(-1.0), grey.image[0]), t2])
    assert share(cores(replace(grey, image=image, modalities=("flair", "t2")), lesion), CYST) > 0.8


def test_ct_has_no_cores_but_holes() -> None:
    lesion = TUMOUR & ~CYST
    assert np.array_equal(cores(replace(subject(lesion, CYST), modalities=("ct",)), lesion), CYST)
    lesion[:, :, 39:] = False
    assert not cores(replace(subject(lesion, CYST), modalities=("ct",)), lesion).any()


def test_a_map_gets_its_cores_at_nine_tenths_and_keeps_the_rest() -> None:
    lesion = TUMOUR & ~CYST
    probability = torch.from_numpy(np.where(lesion, 0.7, 0.2).astype(np.float32))
    found = with_cores(probability, subject(lesion, CYST))
    assert found[torch.from_numpy(CYST)].unique().tolist() == pytest.approx([0.9])
    assert torch.equal(found[torch.from_numpy(~CYST)], probability[torch.from_numpy(~CYST)])
    empty = torch.zeros(SHAPE)
    assert torch.equal(with_cores(empty, subject(lesion, CYST)), empty)


def test_views_end_at_lesion_or_after_fluid_on_the_surface() -> None:
    brain = np.ones((7, 7, 7), bool)
    lesion, fluid = np.zeros_like(brain), np.zeros_like(brain)
    lesion[5] = True
    by_lesion, by_surface = views(lesion, fluid, brain)
    assert by_lesion[4, 3, 3] == pytest.approx(9 / 26), "the nine that go towards it"
    assert by_lesion[6, 3, 3] == pytest.approx(9 / 26), "from behind too"
    assert not by_surface[4, 3, 3]
    fluid[:, 3, 3] = True
    assert views(lesion, fluid, brain)[1][4, 3, 3] == pytest.approx(1 / 26), "straight back, all of it fluid"
