"""Lesion evidence: robust scale, smoothing that stays in the brain, and the mirror comparison."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cgckit.images.case import Case
from cgckit.lesion_evidence.evidence import asymmetry, lesion_evidence, smooth, standardise
from cgckit.lesion_evidence.mirror import Plane

SPACING = (1.0, 1.0, 1.0)


def test_standardised_brain_has_median_0_and_mad_1() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(50, 7, (12, 13, 14)).astype(np.float32)
    brain = rng.random(image.shape) > 0.4
    inside = standardise(image, brain)[brain]
    assert np.median(inside) == pytest.approx(0, abs=1e-5)
    assert np.median(np.abs(inside)) == pytest.approx(1, rel=1e-5)


def test_smoothing_does_not_darken_the_edge_of_the_brain() -> None:
    brain = np.zeros((16, 16, 16), bool)
    brain[4:12, 4:12, 4:12] = True
    image = np.where(brain, 5, 0).astype(np.float32)
    np.testing.assert_allclose(smooth(image, brain, SPACING, 2.0), image, rtol=1e-5)


def test_smoothing_is_measured_in_mm() -> None:
    brain = np.ones((21, 21, 21), bool)
    impulse = np.zeros(brain.shape, np.float32)
    impulse[10, 10, 10] = 1
    blurred = smooth(impulse, brain, (1.0, 1.0, 3.0), 2.0)
    assert blurred[13, 10, 10] == pytest.approx(blurred[10, 10, 11], rel=0.05)


def brain_across(normal: tuple[float, float, float], offset: float, lesion: bool) -> tuple[np.ndarray, np.ndarray]:
    """A smooth brain that is its own mirror image across a plane, but for a lesion; 4 mm voxels."""
    unit = np.asarray(normal) / np.linalg.norm(normal)
    axes = np.ogrid[:40, :44, :38]
    x, y, z = ((axis + 0.5) * 4 for axis in axes)
    side = x * unit[0] + y * unit[1] + z * unit[2] - offset
    across = np.abs(side)
    y, z = y - side * unit[1], z - side * unit[2]  # of the foot on the plane: the same on both sides
    brain = (across / 62) ** 2 + ((y - 88) / 76) ** 2 + ((z - 76) / 60) ** 2 < 1
    image = 2 * np.sin(across / 9) * np.cos(y / 11) + np.sin(z / 8)
    if lesion:
        image = np.where((side - 25) ** 2 + (y - 88) ** 2 + (z - 76) ** 2 < 20**2, 9, image)
    return (image * brain).astype(np.float32), brain


@pytest.mark.parametrize("lesion", [False, True])
@pytest.mark.parametrize(("normal", "offset"), [((1, 0, 0), 80.0), ((1, 0.08, -0.05), 88.0)])
def test_the_plane_is_found_tilted_and_off_centre_in_spite_of_a_lesion(
    normal: tuple[float, float, float], offset: float, lesion: bool
) -> None:
    image, brain = brain_across(normal, offset, lesion)
    plane = Plane.find([image], brain, (4.0, 4.0, 4.0))
    unit = np.asarray(normal) / np.linalg.norm(normal)
    assert np.degrees(np.arccos(min(1.0, float(plane.normal @ unit)))) < 1.0
    middle = np.array([80.0, 88.0, 76.0])
    # A quarter of a voxel.
    assert plane.normal @ middle - plane.offset == pytest.approx(unit @ middle - offset, abs=1.0)


def test_reflection_does_not_depend_on_the_grid() -> None:
    plane = Plane(np.array([1.0, 0.0, 0.0]), 14.0)
    fine = np.zeros((40, 4, 4), np.float32)
    fine[4:6] = 1
    coarse = fine[::2, ::2, ::2]
    assert np.flatnonzero(plane.reflect(fine, SPACING)[:, 0, 0]).tolist() == [22, 23]
    assert np.flatnonzero(plane.reflect(coarse, (2.0, 2.0, 2.0))[:, 0, 0]).tolist() == [11]


UPRIGHT = Plane(np.array([1.0, 0.0, 0.0]), 21.0)


def test_asymmetry_is_positive_on_the_lesion_and_negative_opposite() -> None:
    brain = np.zeros((40, 20, 20), bool)
    brain[6:36, 2:18, 2:18] = True
    image = np.zeros(brain.shape, np.float32)
    image[8:14, 6:14, 6:14] = 10
    result = asymmetry(image, brain, SPACING, UPRIGHT)
    assert result[11, 10, 10] == 3
    assert result[41 - 11, 10, 10] == -1
    assert not result[~brain].any()


@pytest.mark.parametrize("slip", [0, 2])
def test_lesions_on_both_sides_are_no_asymmetry_even_a_little_out_of_place(slip: int) -> None:
    brain = np.ones((42, 32, 20), bool)
    image = np.zeros(brain.shape, np.float32)
    image[8:14, 11:19, 6:14] = 10
    image[28:34, 11 + slip : 19 + slip, 6:14] = 10
    assert np.abs(asymmetry(image, brain, SPACING, UPRIGHT)).max() < 0.1


def test_t2_adds_its_asymmetry_and_t1_does_not() -> None:
    rng = np.random.default_rng(0)
    flair = torch.from_numpy(rng.normal(size=(20, 12, 12)).astype(np.float32))
    other = torch.zeros_like(flair)
    other[2:6, 4:8, 4:8] = 50.0
    other += torch.from_numpy(rng.normal(size=flair.shape).astype(np.float32))
    brain = torch.ones(flair.shape, dtype=torch.bool)

    def evidence(name: str) -> np.ndarray:
        case = Case("x", torch.stack([flair, other]), brain, ("flair", name), SPACING)
        return lesion_evidence(case, smoothing=0, asymmetry_weight=1.0)

    assert evidence("t2")[4, 6, 6] > evidence("t1")[4, 6, 6] + 2
