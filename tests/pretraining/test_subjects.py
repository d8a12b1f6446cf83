"""Simulated subjects: what a network is trained on looks as a `Case` does, with the lesion where the reference says."""

from __future__ import annotations

import numpy as np
import pytest

from cgckit.lesion_evidence.mirror import Plane
from cgckit.pretraining import SimulatedScan, simulate
from cgckit.pretraining.body import depth_and_gap, draw_body, draw_pose
from cgckit.pretraining.disease import Growth, draw_growths, grow, pushes_of
from cgckit.pretraining.sampling import sample
from cgckit.pretraining.subject import _reflect


@pytest.fixture(scope="module")
def scans() -> list[SimulatedScan]:
    return [simulate(seed=0, index=index) for index in range(4)]


def test_a_subject_depends_on_seed_and_index_alone(scans):
    again = simulate(seed=0, index=1)
    assert np.array_equal(again.image, scans[1].image)
    assert np.array_equal(again.lesion, scans[1].lesion)
    assert simulate(seed=1, index=1).image.shape != again.image.shape or not np.array_equal(
        simulate(seed=1, index=1).image, again.image
    )


def test_images_are_normalised_as_those_of_a_case(scans):
    for scan in scans:
        assert scan.image.shape == scan.mirrored.shape == (4, *scan.brain.shape)
        assert 800 < scan.brain.sum() * 0.008 < 2500  # ml
        assert not scan.image[:, ~scan.brain].any()
        assert not scan.mirrored[:, ~scan.brain].any()
        for channel in scan.image:
            inside = channel[scan.brain]
            assert abs(np.median(inside)) < 0.05
            assert np.median(np.abs(inside - np.median(inside))) * 1.4826 == pytest.approx(1, abs=0.02)


def test_lesions_lie_in_the_brain_and_stand_out_on_flair(scans):
    brighter = []
    for scan in scans:
        assert not scan.lesion[~scan.brain].any()
        assert 0 <= scan.lesion.min() <= scan.lesion.max() <= 1
        lesion = scan.lesion > 0.5
        brighter.append(
            np.percentile(scan.image[0][lesion], 75) - np.percentile(scan.image[0][~lesion & scan.brain], 75)
        )
    assert np.median(brighter) > 0.5


def test_the_mirror_image_is_alike_but_for_the_lesion(scans):
    alike, differences = [], []
    for scan in scans:
        healthy = (scan.lesion < 0.01) & scan.brain & (scan.mirrored[1] != 0)
        alike.append(np.corrcoef(scan.image[1][healthy], scan.mirrored[1][healthy])[0, 1])
        lesion = (scan.lesion > 0.9) & (scan.mirrored[0] != 0)
        differences.append((scan.image[0][lesion] - scan.mirrored[0][lesion]).mean())
    assert np.median(alike) > 0.3
    assert np.abs(differences).max() > 1


def test_the_mirror_image_is_that_of_a_plane():
    class Still:
        """Draws no error of the plane."""

        def normal(self, mean, spread, size=None):
            return np.zeros(size) if size else 0.0

    image = np.random.default_rng(0).random((2, 20, 22, 24), dtype=np.float32)
    plane = Plane(np.array([0.98, 0.199, 0.0]) / np.linalg.norm([0.98, 0.199, 0.0]), 22.0)
    found = _reflect(Still(), image, plane)
    expected = np.stack([plane.reflect(channel, (2.0, 2.0, 2.0)) for channel in image])
    inside = (slice(None), slice(6, -6), slice(6, -6), slice(6, -6))
    assert np.allclose(found[inside], expected[inside], atol=1e-4)


def test_the_plane_of_a_pose_is_where_the_left_meets_the_right():
    pose = draw_pose(np.random.default_rng(0))
    body = draw_body(np.random.default_rng(1), pose)
    x = body.mni[0]
    # Away from the smooth bending, the plane's reflection changes the sign of x.
    reflected = pose.plane.reflect(x, (2.0, 2.0, 2.0))
    inside = body.depth > 10
    assert np.abs(x + reflected)[inside].mean() < 8
    shifted = Plane(pose.plane.normal, pose.plane.offset + 10).reflect(x, (2.0, 2.0, 2.0))
    assert np.abs(x + reflected)[inside].mean() < np.abs(x + shifted)[inside].mean()


def test_tissues_fill_every_voxel():
    body = draw_body(np.random.default_rng(0), draw_pose(np.random.default_rng(1)))
    assert np.allclose(body.gm + body.wm + body.csf, 1, atol=1e-5)
    assert 0.1 < body.gm[body.brain].mean() < 0.8


def test_a_lesion_has_about_the_planned_volume_and_its_parts_within_it():
    pose = draw_pose(np.random.default_rng(1))
    depth, _ = depth_and_gap(pose)
    deepest = np.unravel_index(int(depth.argmax()), depth.shape)
    centre = (int(deepest[0]) + 12, int(deepest[1]), int(deepest[2]))
    growth = Growth(centre, radius=8, solid=0.7, core=0.7, irregularity=0.2, infiltration=0.2, push=0.4)
    body = draw_body(np.random.default_rng(2), pose, pushes_of((growth,)))
    disease = grow(np.random.default_rng(3), body, (growth,))
    wanted = 4 / 3 * np.pi * 8**3
    assert 0.6 * wanted < (disease.whole > 0.5).sum() < 1.5 * wanted
    assert (disease.solid <= disease.whole + 1e-6).all()
    assert (disease.core <= disease.solid + 1e-6).all()
    assert 0 < disease.core.sum() < disease.solid.sum() < disease.whole.sum()


def test_a_lesion_with_mass_effect_pushes_tissue_away_from_its_centre():
    pose = draw_pose(np.random.default_rng(1))
    growth = Growth((25, 45, 45), radius=9, solid=1, core=0, irregularity=0.1, infiltration=0, push=0.5)
    still, moved = (draw_body(np.random.default_rng(2), pose, pushes) for pushes in ((), pushes_of((growth,))))
    centre = (slice(None), *growth.centre)
    assert np.allclose(still.mni[centre], moved.mni[centre])
    beside = (slice(None), 25, 45, 51)  # what lies here lay nearer to the centre
    before = np.linalg.norm(still.mni[beside] - still.mni[centre])
    assert np.linalg.norm(moved.mni[beside] - still.mni[centre]) < 0.8 * before
    assert np.allclose(still.mni[:, -1], moved.mni[:, -1], atol=0.5)


def test_planned_lesions_lie_within_the_brain():
    depth, gap = depth_and_gap(draw_pose(np.random.default_rng(0)))
    growths = [g for seed in range(40) for g in draw_growths(np.random.default_rng(seed), depth, gap)]
    assert 20 < len(growths) < 80
    assert all(depth[growth.centre] > 3 for growth in growths)
    assert {growth.solid == 0 for growth in growths} == {True, False}


def test_sampling_at_the_voxels_gives_the_map_and_between_them_the_mean():
    maps = np.random.default_rng(0).random((2, 4, 5, 6), dtype=np.float32)
    points = np.stack(np.meshgrid(*(np.arange(n) for n in (4, 5, 6)), indexing="ij")).astype(np.float32)
    assert np.allclose(sample(maps, points), maps, atol=1e-5)
    points[2] += 0.5
    assert np.allclose(sample(maps, points)[..., :-1], (maps[..., :-1] + maps[..., 1:]) / 2, atol=1e-5)
