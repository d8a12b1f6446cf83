"""Each perturbation does to a scan what it says, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.robustness.perturbations import PERTURBATIONS, Scan, spread, victim
from cgckit.images.grid import Grid

SHAPE = (30, 34, 28)
EDGE = 2.0
CHANGED_MODALITIES = {"blurred-flair": {"flair"}, "corrupt": {"t2"}, "absent": {"t2"}, "none": set()}


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    axes = np.ogrid[tuple(slice(0, size) for size in SHAPE)]
    return sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) <= radius**2  # type: ignore[return-value]


@pytest.fixture
def scan() -> Scan:
    """A ball of brain with a lesion to the left, in front and below; the first axis runs from right to left."""
    generator = np.random.default_rng(3)
    brain, lesion = ball((14.5, 16.5, 13.5), 11), ball((19, 20, 11), 3)
    images = {
        name: ((100 + 60 * lesion + generator.normal(0, 8, SHAPE)) * brain).astype(np.float32)
        for name in ("flair", "t1", "t2")
    }
    return Scan(images, brain, lesion, Grid(SHAPE, np.diag([-EDGE, EDGE, EDGE, 1.0])))


def perturb(scan: Scan, name: str, seed: int = 0) -> Scan:
    return PERTURBATIONS[name].do(scan, np.random.default_rng(seed))


def centre_mm(mask: np.ndarray, grid: Grid) -> np.ndarray:
    return grid.affine[:3, :3] @ np.array(ndimage.center_of_mass(mask)) + grid.affine[:3, 3]


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_perturbed_scan_is_one_and_the_same_each_time(scan: Scan, name: str) -> None:
    before = {modality: image.copy() for modality, image in scan.images.items()}
    found, again = perturb(scan, name), perturb(scan, name)
    for modality, image in found.images.items():
        assert image.dtype == np.float32
        assert image.shape == found.grid.shape
        assert np.isfinite(image).all()
        np.testing.assert_array_equal(image, again.images[modality])
    assert found.brain.dtype == found.reference.dtype == np.bool_
    assert found.brain.shape == found.reference.shape == found.grid.shape
    assert found.reference.any()
    for modality, image in before.items():
        np.testing.assert_array_equal(scan.images[modality], image)


@pytest.mark.parametrize(
    "name", [name for name in PERTURBATIONS if name not in ("mirror", "rotate", "slices", "voxels", "eroded", "fat")]
)
def test_what_changes_images_alone_changes_those_it_says(scan: Scan, name: str) -> None:
    found = perturb(scan, name)
    changed = {
        modality for modality, image in scan.images.items() if not np.array_equal(found.images.get(modality), image)
    }
    assert changed == CHANGED_MODALITIES.get(name, set(scan.images))
    np.testing.assert_array_equal(found.brain, scan.brain)
    np.testing.assert_array_equal(found.reference, scan.reference)
    for image in found.images.values():
        assert not image[~scan.brain].any(), "what was stripped stays empty"


def test_left_and_right_are_exchanged_wherever_they_lie(scan: Scan) -> None:
    moved = replace(
        scan,
        images={name: image.transpose(1, 0, 2) for name, image in scan.images.items()},
        brain=scan.brain.transpose(1, 0, 2),
        reference=scan.reference.transpose(1, 0, 2),
        grid=Grid((34, 30, 28), scan.grid.affine[:, [1, 0, 2, 3]]),
    )
    for original in (scan, moved):
        found = perturb(original, "mirror")
        middle = centre_mm(original.brain, original.grid)
        expected = centre_mm(original.reference, original.grid)
        expected[0] = 2 * middle[0] - expected[0]
        np.testing.assert_allclose(centre_mm(found.reference, found.grid), expected, atol=1e-6)
        np.testing.assert_array_equal(found.images["t1"] != 0, found.brain)


def test_a_turned_head_is_turned_by_twelve_degrees_and_eight(scan: Scan) -> None:
    found = perturb(scan, "rotate")
    middle = centre_mm(scan.brain, scan.grid)
    before, after = (centre_mm(each.reference, each.grid) - middle for each in (scan, found))
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), abs=0.3 * EDGE)
    turn, tilt = np.deg2rad(12), np.deg2rad(8)
    candidates = []
    for a, b in ((turn, tilt), (turn, -tilt), (-turn, tilt), (-turn, -tilt)):
        up = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        front = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        candidates += [up @ front @ before, front @ up @ before]
    assert min(np.linalg.norm(after - candidate) for candidate in candidates) < 0.3 * EDGE
    assert spread(found.images["flair"], found.reference)[0] > spread(found.images["flair"], found.brain)[0] + 40


def test_noise_is_a_tenth_of_the_spread(scan: Scan) -> None:
    found = perturb(scan, "noise")
    for name, image in scan.images.items():
        noise = (found.images[name] - image)[scan.brain]
        assert noise.std() == pytest.approx(0.1 * spread(image, scan.brain)[1], rel=0.1)
    assert not np.array_equal(perturb(scan, "noise", 1).images["t1"], found.images["t1"])


@pytest.mark.parametrize(("name", "sign"), [("gamma-1.4", -1), ("gamma-0.7", 1)])
def test_gamma_keeps_order_and_ends_and_moves_what_is_between(scan: Scan, name: str, sign: int) -> None:
    before, after = scan.images["flair"][scan.brain], perturb(scan, name).images["flair"][scan.brain]
    assert (np.diff(after[np.argsort(before)]) >= -1e-3).all()
    assert after.min() == pytest.approx(before.min(), abs=0.01)
    assert np.percentile(after, 99.9) == pytest.approx(np.percentile(before, 99.9), rel=1e-3)
    assert sign * (np.median(after) - np.median(before)) > 5


def test_a_bias_field_is_smooth_and_reaches_thirty_per_cent(scan: Scan) -> None:
    found = perturb(scan, "bias")
    fields = []
    for name, image in scan.images.items():
        field = np.ones(SHAPE)
        field[scan.brain] = found.images[name][scan.brain] / image[scan.brain]
        inside = field[scan.brain]
        assert (inside.min(), inside.max()) == pytest.approx((0.7, 1.3), abs=1e-3)
        deep = ndimage.binary_erosion(scan.brain)
        steps = np.abs(np.diff(field, axis=0))[deep[1:] & deep[:-1]]
        assert steps.max() < 0.15
        fields.append(inside)
    assert np.corrcoef(fields[0], fields[1])[0, 1] < 0.9


@pytest.mark.parametrize(("name", "spacing"), [("slices", (2, 2, 5)), ("voxels", (2, 2, 2))])
def test_coarser_voxels_stay_where_they_were(scan: Scan, name: str, spacing: tuple[float, ...]) -> None:
    if name == "voxels":
        scan = replace(scan, grid=Grid(SHAPE, np.diag([-1.0, 1.0, 1.0, 1.0])))
    found = perturb(scan, name)
    assert found.grid.spacing == pytest.approx(spacing)
    for mask in ("brain", "reference"):
        before, after = (centre_mm(getattr(each, mask), each.grid) for each in (scan, found))
        np.testing.assert_allclose(after, before, atol=0.7)
        volume = [getattr(each, mask).sum() * np.prod(each.grid.spacing) for each in (scan, found)]
        assert volume[1] == pytest.approx(volume[0], rel=0.15)
    assert found.images["t1"][found.brain].mean() == pytest.approx(scan.images["t1"][scan.brain].mean(), rel=0.02)
    assert found.images["t1"][found.brain].min() > 50, "the rim is not diluted by what is outside"


def test_thick_slices_stay_as_they_are(scan: Scan) -> None:
    thick = replace(scan, grid=Grid(SHAPE, np.diag([2.0, 2.0, 6.0, 1.0])))
    found = perturb(thick, "slices")
    assert found.grid.matches(thick.grid)
    np.testing.assert_allclose(found.images["flair"], thick.images["flair"], atol=1e-3)


def test_an_eroded_brain_has_lost_its_rim_and_the_scans_with_it(scan: Scan) -> None:
    found = perturb(scan, "eroded")
    depth = ndimage.distance_transform_edt(scan.brain, sampling=EDGE)
    np.testing.assert_array_equal(found.brain, depth > 3)
    for image in found.images.values():
        np.testing.assert_array_equal(image != 0, found.brain)
    np.testing.assert_array_equal(found.reference, scan.reference)


def test_a_brain_that_fills_the_image_is_eroded_too(scan: Scan) -> None:
    found = perturb(replace(scan, brain=np.ones(SHAPE, bool)), "eroded")
    assert found.brain.any()
    assert not found.brain[0].any()
    assert not found.brain[..., -1].any()


def test_noise_takes_the_place_of_the_last_modality_and_shows_no_lesion(scan: Scan) -> None:
    image = perturb(scan, "corrupt").images["t2"]
    assert spread(image, scan.brain) == pytest.approx(spread(scan.images["t2"], scan.brain), rel=0.1)
    assert abs(image[scan.reference].mean() - image[scan.brain].mean()) < 5


def test_the_main_modality_is_never_the_victim() -> None:
    assert victim(["flair", "t1", "t2"]) == "t2"
    assert victim(["t1", "t2"]) == "t2"
    assert victim(["t1", "flair"]) == "t1"


def test_fat_lies_around_the_lower_third_outside_brain_and_lesion(scan: Scan) -> None:
    upside_down = replace(scan, grid=Grid(SHAPE, np.diag([-EDGE, EDGE, -EDGE, 1.0])))
    for original in (scan, upside_down):
        found = perturb(original, "fat")
        band = found.brain & ~scan.brain
        assert band.any()
        assert not (band & scan.reference).any()
        distance = ndimage.distance_transform_edt(~scan.brain, sampling=EDGE)
        assert distance[band].max() <= 4
        height = np.argwhere(band)[:, 2]
        assert (height.max() < 11) if original is scan else (height.min() > 16)
        median, deviation = spread(scan.images["flair"], scan.brain)
        assert found.images["flair"][band].mean() == pytest.approx(median + 6 * deviation, rel=0.05)
        assert found.images["t1"][band].mean() == pytest.approx(spread(scan.images["t1"], scan.brain)[0], rel=0.05)
        for name, image in scan.images.items():
            np.testing.assert_array_equal(found.images[name][~band], image[~band])


@pytest.mark.parametrize(
    ("modalities", "unfit"),
    [
        (["flair", "t1"], set()),
        (["flair"], {"corrupt", "absent"}),
        (["ct"], {"corrupt", "absent", "gamma-1.4", "gamma-0.7", "bias", "fat"}),
    ],
)
def test_what_cannot_befall_some_scans_says_why(modalities: list[str], unfit: set[str]) -> None:
    reasons = {name: each.unfit(modalities) for name, each in PERTURBATIONS.items()}
    assert {name for name, reason in reasons.items() if reason} == unfit
