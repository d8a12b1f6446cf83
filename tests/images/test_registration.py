"""Registration: a known movement between two contrasts and grids is found, and what plug-ins give is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cgckit.errors import BadInputError, PluginError, UsageError
from cgckit.images.grid import Grid
from cgckit.images.registration import Registration, angle, distance, register, resolve_registration
from cgckit.images.registration import rigid as module
from cgckit.images.registration.rigid import RigidRegistration
from cgckit.images.volume import Volume


def rigid(shift=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0)):
    """[4, 4]: a rotation vector in degrees about the origin, then a shift in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(turn, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def centred(shape, spacing, flip=False):
    affine = np.diag([*(np.array(spacing) * ((-1, 1, 1) if flip else (1, 1, 1))), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


FINE, SLICES = centred((48, 56, 48), (4.0, 4.0, 4.0)), centred((64, 72, 30), (3.0, 3.0, 6.0), flip=True)


def head(grid, contrast, pose=None):
    """A head of ellipsoids about the origin, moved by `pose`; `contrast`: of the scalp, the brain and what is in it."""
    voxels = np.indices(grid.shape).reshape(3, -1)
    world = grid.affine[:3, :3] @ voxels + grid.affine[:3, 3:]
    back = np.linalg.inv(np.eye(4) if pose is None else pose)
    x, y, z = (back[:3, :3] @ world + back[:3, 3:]).reshape(3, *grid.shape)

    def ball(radii, middle=(0, 0, 0)):
        parts = ((axis - at) / radius for axis, radius, at in zip((x, y, z), radii, middle, strict=True))
        return sum(part**2 for part in parts) < 1

    image = np.random.default_rng(0).normal(4, 1, grid.shape)
    image[ball((78, 95, 80))] = contrast[0]
    image[ball((70, 87, 72))] = 10
    image[ball((66, 83, 68))] = contrast[1]
    image[ball((10, 30, 14), (-16, 5, 8)) | ball((9, 26, 12), (17, 8, 8))] = contrast[2]
    places = np.random.default_rng(2)
    for number in range(24):  # folds, vessels and nuclei: what tells how the head is turned
        middle, radii = places.uniform(-38, 38, 3) * (1, 1.3, 1), places.uniform(6, 18, 3)
        image[ball(radii, middle)] = contrast[3] if number % 2 else contrast[2]
    return Volume.of(image + np.random.default_rng(1).normal(0, 1, grid.shape), grid.affine, "head")


FLAIR, T1 = (110, 80, 20, 150), (160, 100, 30, 60)


@pytest.mark.parametrize(
    ("shift", "turn"),
    [((0, 0, 0), (0, 0, 0)), ((6, -7, 4), (0, 0, 0)), ((-4, 5, 7), (6, -6, 5))],
    ids=["in place", "shifted", "shifted and turned"],
)
def test_a_known_movement_is_found_to_a_millimetre(shift, turn) -> None:
    pytest.importorskip("SimpleITK", reason="SimpleITK is not in this environment: cgckit[prepare] has it")
    pose = rigid(shift, turn)
    found = register(RigidRegistration(), head(FINE, FLAIR), head(SLICES, T1, pose))
    assert distance(found @ pose, FINE) < 1.0


def test_equal_images_give_equal_transforms() -> None:
    pytest.importorskip("SimpleITK", reason="SimpleITK is not in this environment: cgckit[prepare] has it")
    pair = head(FINE, FLAIR), head(SLICES, T1, rigid((3, 2, 1)))
    assert np.array_equal(*(register(RigidRegistration(), *pair) for _ in range(2)))


def test_a_movement_is_measured_in_mm_and_degrees() -> None:
    assert distance(rigid((3, 4, 0)), FINE) == pytest.approx(5)
    assert angle(rigid(turn=(0, 8, 6))) == pytest.approx(10)
    assert distance(np.eye(4), FINE) == angle(np.eye(4)) == 0


def test_without_its_library_the_file_and_the_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(BadInputError, match=r"^head: .* pip install 'cgckit\[prepare\]'"):
        RigidRegistration().align(head(FINE, FLAIR), head(FINE, T1))


@dataclass
class Fixed(Registration):
    """Gives what it is told to.

    Attributes:
        scale: of the first axis.
    """

    summary = "gives what it is told to"
    scale: float = 1.0
    matrix: np.ndarray | None = field(default=None, init=False, repr=False)

    def align(self, fixed, moving):
        fixed.array.flags.writeable = True
        fixed.array[:] = 0
        return np.diag([self.scale, 1, 1, 1]) if self.matrix is None else self.matrix


@pytest.mark.parametrize(
    "matrix",
    [np.eye(3), np.full((4, 4), np.nan), np.diag([2.0, 1, 1, 1]), np.diag([-1.0, 1, 1, 1]), np.eye(4)[[0, 1, 2, 0]]],
    ids=["3 x 3", "nan", "scaled", "mirrored", "projective"],
)
def test_what_is_no_rigid_transform_is_the_plugins_failure(matrix) -> None:
    plugin = Fixed()
    plugin.matrix = matrix
    with pytest.raises(PluginError, match=r"registration .* gave"):
        register(plugin, head(FINE, FLAIR), head(FINE, T1))


def test_a_plugin_may_spoil_the_images_that_it_is_given() -> None:
    fixed, moving = head(FINE, FLAIR), head(FINE, T1)
    register(Fixed(), fixed, moving)
    assert fixed.array.any()


def test_a_registration_is_taken_by_name_or_from_a_file(tmp_path: Path) -> None:
    assert isinstance(resolve_registration("rigid", ["bins=16"]), RigidRegistration)
    with pytest.raises(UsageError, match="nothing"):
        resolve_registration("nothing")
