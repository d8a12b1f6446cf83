"""`RigidRegistration`: mutual information, maximised by SimpleITK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar

import numpy as np

from cgckit.arrays import DoubleArray
from cgckit.errors import BadInputError
from cgckit.images.registration.plugin import Registration
from cgckit.images.volume import Volume
from cgckit.options import Range, at_least

# ITK's world runs to the left and the back, NIfTI's to the right and the front.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# From coarse to fine: the reference's smallest voxels are made about so large, and images smoothed by so many mm.
_EDGE_MM, _SMOOTH_MM = (4.0, 2.0), (3.0, 2.0)
# A coarse level has fewer voxels, of which it takes a larger share.
_SHARES = (16, 8)
# Where the direction turns, the step becomes so much shorter: half of it would be too short before a head is turned.
_STEP_MM, _ITERATIONS, _SHORTER = 2.0, 400, 0.9


@dataclass
class RigidRegistration(Registration):
    """The rotation and shift that maximise Mattes' mutual information, from coarse to fine, by SimpleITK.

    It begins both where the headers place the images and with the centres of the images on each other, and takes what
    fits better. One thread is at work, so that equal images give equal transforms.

    Source: Mattes et al., "PET-CT image registration in the chest using free-form deformations", IEEE Transactions on
    Medical Imaging 22(1), 2003.

    Attributes:
        bins: of the joint histogram, along each image.
        sampled: share of the reference's voxels that are looked at on the finest level.
        precision: length of the last step [mm].
    """

    summary: ClassVar[str] = "mutual information, by SimpleITK"

    bins: Annotated[int, at_least(8)] = 32
    sampled: Annotated[float, Range(0.001, 1)] = 0.05
    precision: Annotated[float, Range(0.0001, 0.5)] = 0.01

    @property
    def missing(self) -> str | None:
        """SimpleITK, if it is not installed."""
        return None if find_spec("SimpleITK") else "pip install 'cgckit[prepare]'"

    def align(self, fixed: Volume, moving: Volume) -> DoubleArray:
        """Return the transform [4, 4], see `Registration.align`.

        Raises:
            BadInputError: SimpleITK is not installed, or finds no overlap.
        """
        if self.missing:
            raise BadInputError(f"{moving.path}: registration needs SimpleITK, which is not installed: {self.missing}")
        import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so

        images = (_image(fixed), _image(moving))
        starts = [sitk.Euler3DTransform(), sitk.Euler3DTransform()]
        middle = _middle(fixed)
        for start, shift in zip(starts, (np.zeros(3), _middle(moving) - middle), strict=True):
            start.SetCenter(middle.tolist())
            start.SetTranslation(shift.tolist())
        finest = min(fixed.grid.spacing)
        with _one_thread(sitk):
            method = self._method(sitk, finest)
            try:
                method.SetInitialTransform(min(starts, key=lambda start: self._misfit(sitk, start, *images)), True)
                method.Execute(*images)
            except RuntimeError as error:
                reason = " ".join(str(error).split())[-200:]
                raise BadInputError(f"{moving.path}: cannot be aligned with {fixed.path} ({reason})") from None
        back = _LPS @ _matrix(method.GetInitialTransform()) @ _LPS
        return np.asarray(np.linalg.inv(back), dtype=np.float64)

    def _method(self, sitk: Any, finest: float) -> Any:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(self.bins)
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentagePerLevel([min(1.0, share * self.sampled) for share in _SHARES], 1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(_STEP_MM, self.precision, _ITERATIONS, _SHORTER)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([max(1, round(edge / finest)) for edge in _EDGE_MM])
        method.SetSmoothingSigmasPerLevel(_SMOOTH_MM)
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        return method

    def _misfit(self, sitk: Any, start: Any, fixed: Any, moving: Any) -> float:
        """Negative mutual information of the images as they begin; infinite if they do not overlap."""
        method = self._method(sitk, min(fixed.GetSpacing()))
        method.SetMetricSamplingPercentage(self.sampled, 1)
        method.SetInitialTransform(start)
        try:
            return float(method.MetricEvaluate(fixed, moving))
        except RuntimeError:
            return float("inf")


@contextmanager
def _one_thread(sitk: Any) -> Iterator[None]:
    """Sums are taken in one order: filters inside a registration follow nothing but the default of the process."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _image(volume: Volume) -> Any:
    import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so

    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T, dtype=np.float32))
    affine = _LPS @ volume.grid.affine
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetSpacing(volume.grid.spacing)
    image.SetDirection((affine[:3, :3] / volume.grid.spacing).ravel().tolist())
    return image


def _middle(volume: Volume) -> DoubleArray:
    """The centre of the field of view, in ITK's world."""
    centre = (np.array(volume.grid.shape) - 1) / 2
    middle: DoubleArray = (_LPS @ volume.grid.affine @ np.array([*centre, 1.0]))[:3]
    return middle


def _matrix(transform: Any) -> DoubleArray:
    """A rigid transform of ITK as a matrix [4, 4]."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis in range(3):
        matrix[:3, axis] = np.array(transform.TransformPoint(np.eye(3)[axis].tolist())) - matrix[:3, 3]
    return matrix
