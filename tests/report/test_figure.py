"""Pictures of images and masks."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from cgckit.errors import BadInputError
from cgckit.images.volume import Volume
from cgckit.report.figure import PictureRow, draw_picture, make_figure
from cgckit.report.view import COLOURS, AxialView, spread_levels

SHAPE = (30, 36, 20)


def head() -> tuple[np.ndarray, np.ndarray]:
    """A head that is bright at the right front, and a lesion there that is largest at level 13; RAS axes."""
    image = np.zeros(SHAPE, dtype=np.float32)
    image[6:24, 6:30, 3:18] = 50
    image[18:22, 24:28, 3:18] = 200
    mask = np.zeros(SHAPE, dtype=bool)
    mask[19:21, 25:27, 10:16] = True
    mask[18:22, 24:28, 13] = True
    return image, mask


def volume(tmp_path: Path, array: np.ndarray, axes: str = "RAS", spacing: tuple = (1.0, 1.0, 1.0)) -> Volume:
    """Write RAS data with other axes, and read it back."""
    image = nib.Nifti1Image(array, np.diag([*spacing, 1.0]))
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes))
    path = tmp_path / f"{axes}.nii.gz"
    nib.save(image.as_reoriented(turn), path)
    return Volume.load(path)


def turned(tmp_path: Path, mask: np.ndarray, axes: str) -> np.ndarray:
    return volume(tmp_path, mask.astype(np.uint8), axes).array > 0


def shown_where(picture: np.ndarray, colour: str) -> np.ndarray:
    """Pixels of nearly a colour."""
    wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.argwhere(np.abs(picture[..., :3] - wanted).max(axis=-1) < 0.12)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SLA"])
def test_right_and_front_are_the_same_whatever_the_file(tmp_path: Path, axes: str) -> None:
    image, mask = head()
    view, plain = AxialView(volume(tmp_path, image, axes)), AxialView(volume(tmp_path, image))
    shown = view.slice(13)
    np.testing.assert_array_equal(shown, plain.slice(13))
    np.testing.assert_array_equal(view.slice_of(turned(tmp_path, mask, axes), 13), plain.slice_of(mask, 13))
    assert plain.slice_of(mask, 13).sum() == 16
    np.testing.assert_array_equal(view.areas(turned(tmp_path, mask, axes)), plain.areas(mask))
    bright = np.argwhere(shown == 200).mean(axis=0)
    assert (bright > np.argwhere(shown > 0).mean(axis=0)).all()  # right, front


def test_ct_of_a_head_is_shown_in_the_window_of_brain_and_blood(tmp_path: Path) -> None:
    image, _ = head()
    units = np.where(image == 0, -1000, 35).astype(np.float32)
    units[image == 200] = 70  # blood
    units[6:24, 6:8, 3:18] = 1200  # bone
    shown = make_figure([PictureRow("a", volume(tmp_path, units), {"prior": image == 200})]).axes[0].images[0]
    assert shown.get_clim() == (0, 80)


def test_slice_is_where_the_last_mask_that_is_not_empty_is_largest(tmp_path: Path) -> None:
    image, mask = head()
    image += np.arange(SHAPE[2], dtype=np.float32) * (image > 0)
    other = np.zeros(SHAPE, dtype=bool)
    other[8:20, 8:20, 5] = True
    nothing = np.zeros(SHAPE, dtype=bool)
    scan = volume(tmp_path, image)
    for masks, level in (
        ({"prior": other, "reference": mask}, 13),
        ({"prior": other, "reference": nothing}, 5),
        ({"prior": nothing}, SHAPE[2] // 2),
    ):
        drawn = make_figure([PictureRow("a", scan, masks)]).axes[0].images[0].get_array()
        assert drawn.max() == 200 + level


def test_several_slices_share_a_mask_evenly() -> None:
    areas = [0, 0, 4, 4, 4, 0, 4, 0]
    assert spread_levels(areas, 4) == [2, 3, 4, 6]
    assert spread_levels(areas, 2) == [2, 4]
    assert spread_levels([0, 0, 7, 0], 3) == [2], "a slice is shown once"
    assert spread_levels([0] * 9, 3) == [1, 4, 7], "without a mask, the whole depth"


def test_head_fills_the_panel(tmp_path: Path) -> None:
    image, _ = head()
    shown = AxialView(volume(tmp_path, image)).slice(13)
    assert shown.shape[0] < SHAPE[0]
    assert (shown > 0).sum() == (image[:, :, 13] > 0).sum()


def test_each_mask_is_drawn_in_its_own_column_at_the_right_front(tmp_path: Path) -> None:
    image, mask = head()
    row = PictureRow("case", volume(tmp_path, image), {"prior": mask, "refined": mask}, {"prior": "0.50"})
    draw_picture([row, row], tmp_path / "p.png", title="two rows")
    picture = matplotlib.image.imread(tmp_path / "p.png")
    height, width = picture.shape[:2]
    for column, colour in enumerate(COLOURS[:2], start=1):
        place = shown_where(picture, colour)
        assert len(place) > 20
        third = (place[:, 1] / width * 3).astype(int)
        assert set(third) == {column}
        # To the right in its panel.
        assert (place[:, 1] / width * 3 - column).mean() > 0.5
    rows = shown_where(picture, COLOURS[0])[:, 0] / height
    assert rows.min() < 0.5 < rows.max()
    assert np.median(rows[rows < 0.5]) < 0.3  # to the front, at the top


def test_panels_are_marked_and_shown_as_seen_from_above(tmp_path: Path) -> None:
    image, mask = head()
    row = PictureRow("case", volume(tmp_path, image), {"refined": mask}, {"refined": "0.50"})
    plain, overlaid = make_figure([row]).axes
    assert (plain.get_title(), overlaid.get_title()) == ("case", "refined 0.50")
    left, right = sorted(plain.texts, key=lambda text: text.get_position()[0])
    assert (left.get_text(), right.get_text()) == ("L", "R")
    for panel in (plain, overlaid):
        assert panel.get_xlim()[0] < panel.get_xlim()[1]
        assert panel.get_ylim()[0] < panel.get_ylim()[1]  # rows of the array run to the front, so upwards
        assert all(drawn.origin == "lower" for drawn in panel.images)


def test_rows_may_lack_a_mask(tmp_path: Path) -> None:
    image, mask = head()
    scan = volume(tmp_path, image)
    rows = [PictureRow("a", scan, {"prior": mask, "refined": mask}), PictureRow("b", scan, {"prior": mask})]
    draw_picture(rows, tmp_path / "new" / "p.png")
    picture = matplotlib.image.imread(tmp_path / "new" / "p.png")
    assert (shown_where(picture, COLOURS[1])[:, 0] < picture.shape[0] / 2).all()


def test_voxels_that_are_no_cubes_are_not_squeezed(tmp_path: Path) -> None:
    image, mask = head()
    extents = []
    for spacing in ((1.0, 1.0, 1.0), (1.0, 2.0, 1.0)):
        row = PictureRow("a", volume(tmp_path, image, spacing=spacing), {"refined": mask})
        draw_picture([row], tmp_path / "p.png")
        place = shown_where(matplotlib.image.imread(tmp_path / "p.png"), COLOURS[0])
        down, across = np.ptp(place, axis=0)
        extents.append(down / across)
    assert extents[1] == pytest.approx(2 * extents[0], rel=0.25)  # a pixel more or less


def test_image_without_any_signal_is_drawn(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype=np.uint8), np.eye(4)), tmp_path / "z.nii.gz")
    scan = Volume.load(tmp_path / "z.nii.gz", allow_constant=True)
    draw_picture([PictureRow("a", scan, {"prior": np.zeros(SHAPE, dtype=bool)})], tmp_path / "p.png")
    assert (tmp_path / "p.png").exists()


def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    image, mask = head()
    scan = volume(tmp_path, image)
    with pytest.raises(ValueError, match="no row"):
        draw_picture([], tmp_path / "p.png")
    with pytest.raises(ValueError, match="not on the grid"):
        draw_picture([PictureRow("a", scan, {"prior": mask[1:]})], tmp_path / "p.png")
    with pytest.raises(BadInputError, match=r"p\.docx: not a format"):
        draw_picture([PictureRow("a", scan, {"prior": mask})], tmp_path / "p.docx")
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="cannot be written"):
        draw_picture([PictureRow("a", scan, {"prior": mask})], tmp_path / "file" / "p.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["RAS.nii.gz", "file"]
