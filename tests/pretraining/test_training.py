"""Pre-training: batches and runs that a seed decides, and an interrupted run that goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cgckit.nets.cgc_net import CGCOutput
from cgckit.pretraining import examples, training
from cgckit.pretraining.examples import Crops, CropSampler, Examples
from cgckit.pretraining.subject import SimulatedScan
from cgckit.pretraining.training import loss, pretrain
from cgckit.starting import CROP


def blob(seed: int, index: int) -> SimulatedScan:
    """Stands for a simulated subject: a box with a bright box in it, on all images."""
    shape = (50, 56, 44)  # one side shorter than a crop
    rng = np.random.default_rng([seed, index])
    brain, lesion = np.zeros(shape, bool), np.zeros(shape, np.float32)
    brain[4:-4, 4:-4, 4:-4] = True
    x, y, z = rng.integers(10, 20, 3)
    lesion[x : x + 14, y : y + 14, z : z + 14] = 1
    image = (rng.normal(0, 0.5, (4, *shape)) + 4 * lesion) * brain
    return SimulatedScan(image.astype(np.float32), image[:, ::-1].astype(np.float32) * brain, lesion, brain)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(examples, "simulate", blob)


def test_a_subject_is_simulated_once_and_read_as_it_was(tmp_path, monkeypatch):
    packed = Examples(tmp_path, seed=3)[2]
    scan = blob(3, 2)
    assert np.abs(packed[:4] / 17.0 - 5 - scan.image).max() < 0.03
    assert (packed[:8, ~scan.brain] == 85).all()  # exactly 0
    assert np.array_equal(packed[9] > 0, scan.brain)
    with monkeypatch.context() as patch:
        patch.setattr(examples, "simulate", None)
        assert np.array_equal(Examples(tmp_path, seed=3)[2], packed)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert np.array_equal(Examples(tmp_path, seed=3)[2], packed), "one that was damaged is simulated again"


def test_a_batch_depends_on_seed_and_index_alone(tmp_path):
    sampler = CropSampler(Examples(tmp_path, 0), subjects=3, steps=10, batch=2, seed=0)
    first = sampler(4)
    sampler(5)
    assert all(torch.equal(a, b) for a, b in zip(first, sampler(4), strict=True))
    assert not torch.equal(first.image, sampler(5).image)
    assert first.image.shape == (2, 8, *CROP)
    assert first.lesion.shape == first.brain.shape == (2, *CROP)


def test_subjects_are_taken_in_as_the_training_goes_on(tmp_path):
    sampler = CropSampler(Examples(tmp_path, 0), subjects=60, steps=20, batch=1, seed=0)
    sampler(0)
    assert all(int(path.stem.split("-")[1]) < 40 for path in tmp_path.glob("*.safetensors"))
    known = set()
    for index in range(15, 200):
        known |= {path.name for path in tmp_path.glob("*.safetensors")}
        sampler(index)
        if len(known) > 50:
            break
    assert len(known) > 50


def test_an_image_that_is_left_out_has_no_mirror_image():
    rng = np.random.default_rng(0)
    patterns, mirrored = set(), set()
    for _ in range(200):
        image = examples._varied(rng, rng.normal(0, 1, (8, 12, 12, 12)).astype(np.float32))
        present = [bool(channel.any()) for channel in image]
        patterns.add(tuple(present[:4]))
        mirrored.add(any(present[4:]))
        assert present[4:] == present[:4] or not any(present[4:])
        assert any(present[:4])
        assert np.abs(image).max() <= 10
    assert {(True, True, True, True), (True, False, False, False)} <= patterns
    assert any(not pattern[0] for pattern in patterns)
    assert mirrored == {True, False}


def test_nothing_lies_outside_the_brain(tmp_path):
    sampler = CropSampler(Examples(tmp_path, 0), subjects=2, steps=10, batch=1, seed=0)
    for index in range(10):
        crops = sampler(index)
        assert not crops.image[0][:, ~crops.brain[0]].any()


def test_a_field_of_view_that_ends_early_leaves_the_rest_as_it_is():
    rng = np.random.default_rng(0)
    for _ in range(20):
        whole = rng.normal(0, 1, (8, 12, 12, 12)).astype(np.float32)
        cut = whole.copy()
        examples._cut(rng, cut)
        gone = cut != whole
        assert (cut[gone] == -5).all()
        assert len(np.unique(np.nonzero(gone)[0])) == 1
        assert 4 * 144 <= gone.sum() < 6 * 144


def test_the_loss_is_least_where_the_output_is_right():
    lesion = torch.zeros(1, 16, 16, 16)
    lesion[:, 4:9, 4:9, 4:9] = 1
    crops = Crops(torch.zeros(1, 8, 16, 16, 16), lesion, torch.ones(1, 16, 16, 16, dtype=torch.bool))
    coarse = torch.zeros(1, 1, 2, 2, 2)
    right, wrong = (
        loss(CGCOutput(sign * 8 * (2 * lesion[:, None] - 1), coarse, torch.empty(0)), crops) for sign in (1, -1)
    )
    assert right["loss"] < wrong["loss"] - 5
    assert right["dice"] > 0.95
    outside = crops._replace(brain=lesion > 0)
    assert loss(CGCOutput(torch.full((1, 1, 16, 16, 16), 9.0), coarse, torch.empty(0)), outside)["dice"] > 0.95


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path, monkeypatch):
    options = {"subjects": 2, "steps": 4, "batch": 1, "seed": 1}
    whole = pretrain(tmp_path / "a", **options)
    monkeypatch.setattr(training, "_SAVE_EVERY", 2)

    def stop(index, scalars):
        if index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "b", **options, on_step=stop)
    taken = []
    resumed = pretrain(tmp_path / "b", **options, on_step=lambda index, scalars: taken.append(index))
    assert taken == [2, 3]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_training_finds_boxes(tmp_path):
    dice = []
    pretrain(tmp_path, subjects=2, steps=25, batch=1, seed=0, on_step=lambda _, s: dice.append(s["dice"]))
    assert np.mean(dice[-5:]) > np.mean(dice[:5]) + 0.1
