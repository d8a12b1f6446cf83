"""Training crops: reproducible by index, fair to every subject, and true to what was written."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cgckit.cgc.crops import CropSampler, write_case, write_example
from cgckit.cgc.settings import Settings
from cgckit.images.case import Case
from cgckit.images.grid import Grid
from cgckit.images.preparation import resample_case

CROP = (16, 16, 16)


@pytest.fixture
def examples(tmp_path: Path) -> list[Path]:
    """Three subjects whose image is constant and equal to their number, so that a crop tells whose it is."""
    paths = []
    for number in (1, 2, 3):
        brain = torch.zeros(24, 28, 20, dtype=torch.bool)
        brain[2:-2, 2:-2, 2:-2] = True
        prior = torch.zeros(24, 28, 20)
        prior[4:8, 4:8, 4:8] = 1.0
        image = torch.full((2, 24, 28, 20), float(number)) * brain
        paths.append(tmp_path / f"{number}.safetensors")
        write_example(paths[-1], image, prior, brain, brain, CROP)
    return paths


def sampler(examples: list[Path], **changes: object) -> CropSampler:
    options = {"crop": CROP, "batch": 2, "lesion_share": 0.5, "augment": False, "seed": 0} | changes
    return CropSampler(examples, **options)  # type: ignore[arg-type]


def test_a_batch_has_the_promised_shapes(examples: list[Path]) -> None:
    image, prior, trusted = sampler(examples, augment=True)(0)
    assert image.shape == (2, 2, *CROP)
    assert prior.shape == trusted.shape == (2, *CROP)
    assert (image.dtype, prior.dtype, trusted.dtype) == (torch.float32, torch.float32, torch.bool)


def test_batches_depend_on_seed_and_index_alone(examples: list[Path]) -> None:
    first, second = sampler(examples, augment=True), sampler(examples, augment=True)
    second(0), second(5)
    for one, other in zip(first(3), second(3), strict=True):
        assert torch.equal(one, other)
    one, other = (sampler(examples[:1], batch=1, seed=seed) for seed in (0, 1))
    assert not all(torch.equal(one(index).prior, other(index).prior) for index in range(3))


def test_every_subject_is_visited_once_a_round(examples: list[Path]) -> None:
    draw = sampler(examples, batch=1)
    visits = [float(draw(index).image.max()) for index in range(9)]
    rounds = [visits[start : start + 3] for start in (0, 3, 6)]
    assert all(sorted(order) == [1.0, 2.0, 3.0] for order in rounds)
    assert len(set(map(tuple, rounds))) > 1, "each round has an order of its own"


def test_a_batch_goes_on_where_the_last_one_ended(examples: list[Path]) -> None:
    one, several = sampler(examples, batch=1), sampler(examples, batch=3)
    for index in range(3):
        batch = several(index).image.amax((1, 2, 3, 4)).tolist()
        assert batch == [float(one(3 * index + position).image.max()) for position in range(3)]


def test_lesion_share_steers_the_centres(examples: list[Path]) -> None:
    always = sampler(examples, lesion_share=1.0, batch=1, crop=(8, 8, 8))
    assert all(always(index).prior.max() == 1 for index in range(12))


def test_background_stays_zero_under_augmentation(examples: list[Path]) -> None:
    draw = sampler(examples, augment=True)
    for index in range(6):
        image, _, brain = draw(index)
        assert (image[~brain[:, None].expand_as(image)] == 0).all()


def test_modalities_change_their_contrast_one_by_one(examples: list[Path]) -> None:
    draw = sampler(examples, augment=True, batch=1)
    differences = [float((image[0, 0] - image[0, 1]).abs().mean()) for image in (draw(i).image for i in range(8))]
    assert max(differences) > 0.2  # noise alone, in half of the crops, stays below: its deviation is at most 0.15


def test_augmentation_moves_image_prior_and_trusted_voxels_together(tmp_path: Path) -> None:
    prior = (torch.rand(16, 16, 16) > 0.7).float()
    brain = torch.ones(16, 16, 16, dtype=torch.bool)
    brain[:3] = False
    path = tmp_path / "one.safetensors"
    write_example(path, (prior * 100 * brain)[None], prior * brain, brain, brain, CROP)
    draw = CropSampler([path], CROP, 1, 0.5, True, 0)
    mirrored = 0
    for index in range(8):
        image, label, inside = draw(index)
        assert ((image[:, 0] > 50) == (label > 0.5)).all()
        assert (label[~inside] == 0).all()
        mirrored += int(not torch.equal(inside[0], brain))
    assert 0 < mirrored < 8


def test_a_case_is_averaged_onto_the_networks_grid_inside_the_brain(tmp_path: Path) -> None:
    grid = Grid((20, 18, 22), np.eye(4))
    brain = torch.zeros(grid.shape, dtype=torch.bool)
    brain[3:17, 3:15, 3:19] = True
    case = Case("s", torch.ones(1, *grid.shape) * brain, brain, ("flair",), (1.0, 1.0, 1.0), grid, grid)
    target = torch.zeros(grid.shape)
    target[:8] = 1.0  # beyond the brain too
    path = tmp_path / "case.safetensors"
    write_case(path, case, target * brain, Settings(steps=1, spacing=2.0, crop=(16, 16, 16), patch_size=(1, 1, 1)))
    written = load_file(path)
    assert written["brain"].shape == written["prior"].shape == (16, 16, 16)
    inside = written["brain"].bool()
    coarse = resample_case(case, 2.0)
    assert inside.sum() == coarse.brain.sum()
    assert not written["prior"][~inside].any()
    assert written["prior"].sum() * 2**3 == pytest.approx(float((target * brain).sum()), rel=0.25)
    assert (written["image"][0][inside] == 1).all()


def test_subjects_smaller_than_a_crop_are_padded(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    brain = torch.ones(5, 16, 30, dtype=torch.bool)
    write_example(path, torch.ones(1, 5, 16, 30), torch.ones(5, 16, 30), brain, brain, CROP)
    written = load_file(path)
    assert written["brain"].shape == (16, 16, 30)
    assert written["brain"].sum() == brain.sum()
    assert CropSampler([path], CROP, 1, 1.0, True, 0)(0).image.shape == (1, 1, *CROP)


def test_a_prior_without_a_confident_voxel_still_gives_crops(tmp_path: Path) -> None:
    path = tmp_path / "faint.safetensors"
    brain = torch.ones(16, 16, 16, dtype=torch.bool)
    write_example(path, torch.ones(1, 16, 16, 16), torch.full((16, 16, 16), 0.3), brain, brain, CROP)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one at each crop would fill the log
        prior = CropSampler([path], CROP, 1, 0.7, False, 0)(0).prior
    assert np.allclose(prior, 0.3, atol=1e-3)
