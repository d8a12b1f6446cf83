"""Volumes in a page: what is left of them after cutting, averaging and rounding; and dots in a distribution."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cgckit.images.volume import Volume
from cgckit.report import embedding
from cgckit.report.distribution import HEIGHT, RADIUS, WIDTH, outliers, stacked_dots
from cgckit.report.maps import Maps


def maps(
    shape: tuple[int, int, int], affine: np.ndarray, path: Path = Path("scan.nii.gz"), **found: np.ndarray
) -> Maps:
    image = np.zeros(shape, np.float32)
    image[2:-2, 3:-3, 1:-1] = np.random.default_rng(0).uniform(50, 900, image[2:-2, 3:-3, 1:-1].shape)
    return Maps(Volume.of(image, affine, str(path)), found, None, None)  # type: ignore[arg-type]


def shown(embedded: embedding.Embedded, name: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(embedded["volumes"][name])))


def test_a_probability_is_lesion_in_the_page_where_it_is_in_the_file() -> None:
    probability = np.zeros((20, 20, 20), np.float32)
    probability[5:15, 5:15, 5:15] = np.random.default_rng(0).uniform(0, 1, (10, 10, 10))
    probability[5, 5, 5:9] = 0.5, np.nextafter(np.float32(0.5), np.float32(0)), 1.0, 0.0
    found = shown(embedding.embed(maps((20, 20, 20), np.eye(4), refined=probability)), "refined")
    levels = np.asarray(found.dataobj.get_unscaled())
    start = found.affine[:3, 3].astype(int)
    cut = probability[tuple(slice(s, s + n) for s, n in zip(start, levels.shape, strict=True))]
    np.testing.assert_array_equal(levels >= 128, cut >= 0.5)
    assert np.abs(found.get_fdata() - cut).max() <= 0.5 / 256 + 1e-6


def test_what_is_too_large_becomes_coarser_and_stays_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_MOST_VOXELS", 9000)
    affine = np.array([[0, -1.0, 0, 30], [0.9, 0, 0, -12], [0, 0, 2.0, 7], [0, 0, 0, 1]])
    lesion = np.zeros((41, 38, 20), np.float32)
    lesion[12:24, 10:22, 5:15] = 1
    embedded = embedding.embed(maps(lesion.shape, affine, refined=lesion))
    assert embedded["coarsened"] == (2, 2, 1), "the thick slices stay"
    found = shown(embedded, "refined")
    assert np.prod(found.shape) <= 9000
    weights = found.get_fdata() > 0.9
    centre = nib.affines.apply_affine(found.affine, np.argwhere(weights)).mean(axis=0)
    np.testing.assert_allclose(centre, nib.affines.apply_affine(affine, [17.5, 15.5, 9.5]), atol=1e-5)
    assert weights.sum() * 4 == lesion.sum()


def test_ct_is_shown_as_radiologists_look_at_brain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "is_head_in_hounsfield_units", lambda scan: True)
    found = shown(embedding.embed(maps((16, 16, 16), np.eye(4))), "image").get_fdata()
    assert (round(found.min()), round(found.max())) == (0, 80)


def test_outliers_are_beyond_tukeys_fences() -> None:
    values = {str(index): float(value) for index, value in enumerate([1, 2, 3, 4, 5, 6, 7, 8, 13.5, -4.6])}
    # Quartiles 1.5 steps in: 2.25 and 6.75; fences at -4.5 and 13.5.
    assert outliers(values) == {"9"}
    assert outliers({"a": 1.0}) == outliers({}) == outliers(dict.fromkeys("abc", 2.0)) == set()


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_dots_stay_in_the_drawing_and_in_order(count: int) -> None:
    values = dict(zip(map(str, range(count)), np.random.default_rng(0).normal(0, 1, count).tolist(), strict=True))
    dots = stacked_dots(values, set())
    assert [dot.value for dot in dots] == sorted(values.values())
    assert all(RADIUS <= dot.x <= WIDTH - RADIUS and RADIUS <= dot.y <= HEIGHT - RADIUS for dot in dots)
    assert [dot.x for dot in dots] == sorted(dot.x for dot in dots)
    assert len({(dot.x, dot.y) for dot in dots}) == count
