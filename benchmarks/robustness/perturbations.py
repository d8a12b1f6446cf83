"""`PERTURBATIONS`: what may befall a scan that was not taken or prepared as those that a method was tuned on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from nibabel.orientations import io_orientation
from numpy.random import Generator
from scipy import ndimage

from cgckit.arrays import AnyArray, BoolArray, FloatArray
from cgckit.images.grid import Grid, resample
from cgckit.images.working_grid import resample_inside
from cgckit.lesion_evidence.evidence import smooth

_MAD_TO_STD = 1.4826
_TURN, _TILT = np.deg2rad(12), np.deg2rad(8)
_NOISE = 0.1
_BIAS = 0.3
_SLICE_MM, _VOXEL_MM = 5.0, 2.0
_EROSION_MM, _FAT_MM, _BLUR_MM = 3.0, 4.0, 1.5
# Of the field: it has so many free values along each axis, so it varies as a coil's sensitivity does.
_FIELD_KNOTS = 4
_FAT_BRIGHTNESS = 6.0


@dataclass(frozen=True, eq=False)
class Scan:
    """One subject as it lies in its files.

    Attributes:
        images: [H, W, L] float32 by modality.
        brain: [H, W, L] bool.
        reference: [H, W, L] bool.
        grid: of all of them.
    """

    images: Mapping[str, FloatArray]
    brain: BoolArray
    reference: BoolArray
    grid: Grid

    def change(self, modality: str, image: AnyArray) -> Scan:
        """The scan with another image of that modality."""
        return replace(self, images={**self.images, modality: image.astype(np.float32)})

    def each(self, do: Callable[[FloatArray], AnyArray]) -> Scan:
        """The scan with every image changed in the same way."""
        return replace(self, images={name: do(image).astype(np.float32) for name, image in self.images.items()})

    def axis(self, world: int) -> tuple[int, int]:
        """Which axis of the arrays runs closest to a world axis (0 right, 1 front, 2 up), and its sign."""
        closest, signs = io_orientation(self.grid.affine).T
        axis = int(np.flatnonzero(closest == world)[0])
        return axis, int(signs[axis])


@dataclass(frozen=True)
class Perturbation:
    """One thing that may befall the scans of a cohort.

    Attributes:
        what: it does, in words.
        do: what it makes of a scan; the generator is the subject's own.
        unfit: why it cannot befall scans of these modalities, or None.
    """

    what: str
    do: Callable[[Scan, Generator], Scan]
    unfit: Callable[[Sequence[str]], str | None] = lambda _: None


def main_modality(modalities: Sequence[str]) -> str:
    """The modality on which lesions are bright: FLAIR, or the first where there is none."""
    return "flair" if "flair" in modalities else modalities[0]


def victim(modalities: Sequence[str]) -> str:
    """The modality that is corrupted or left out: the last but for the main one."""
    return [name for name in modalities if name != main_modality(modalities)][-1]


def spread(image: FloatArray, brain: BoolArray) -> tuple[float, float]:
    """Median and robust standard deviation (1.4826 MAD, or the plain one where that is 0) over the brain."""
    values = image[brain]
    median = float(np.median(values))
    return median, float(_MAD_TO_STD * np.median(np.abs(values - median)) or values.std())


def _mirror(scan: Scan, _: Generator) -> Scan:
    axis = scan.axis(0)[0]
    mirrored = scan.each(lambda image: np.flip(image, axis))
    return replace(mirrored, brain=np.flip(scan.brain, axis), reference=np.flip(scan.reference, axis))


def _rotate(scan: Scan, _: Generator) -> Scan:
    edges = np.asarray(scan.grid.spacing)
    about_up = _rotation(scan.axis(2)[0], _TURN)
    about_front = _rotation(scan.axis(1)[0], _TILT)
    matrix = (about_up @ about_front) * edges[None, :] / edges[:, None]
    centre = np.asarray(ndimage.center_of_mass(scan.brain))

    def turn(array: AnyArray, order: int) -> AnyArray:
        turned: AnyArray = ndimage.affine_transform(array, matrix, centre - matrix @ centre, order=order)
        return turned

    turned = scan.each(lambda image: turn(image, 1))
    brain, reference = (turn(mask.astype(np.uint8), 0) > 0 for mask in (scan.brain, scan.reference))
    return replace(turned, brain=brain, reference=reference)


def _rotation(axis: int, angle: float) -> AnyArray:
    """The matrix [3, 3] that turns about one axis of the array."""
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def _noise(scan: Scan, generator: Generator) -> Scan:
    for name, image in scan.images.items():
        noise = generator.normal(0, _NOISE * spread(image, scan.brain)[1], image.shape)
        # What was stripped stays empty.
        scan = scan.change(name, image + noise * (scan.brain | (image != 0)))
    return scan


def _gamma(power: float) -> Callable[[Scan, Generator], Scan]:
    def bend(scan: Scan, _: Generator) -> Scan:
        def bent(image: FloatArray) -> AnyArray:
            low, high = image[scan.brain].min(), np.percentile(image[scan.brain], 99.9)
            share = ((image - low) / (high - low)).clip(0)
            return np.where(scan.brain, low + (high - low) * share**power, image)

        return scan.each(bent)

    return bend


def _bias(scan: Scan, generator: Generator) -> Scan:
    for name, image in scan.images.items():
        knots = generator.normal(size=(_FIELD_KNOTS,) * 3)
        zoom = np.divide(image.shape, _FIELD_KNOTS)
        field = ndimage.zoom(knots.astype(np.float32), zoom, order=3, mode="nearest", grid_mode=True)
        inside = field[scan.brain]
        middle, reach = (inside.max() + inside.min()) / 2, (inside.max() - inside.min()) / 2
        factor = 1 + _BIAS * ((field - middle) / reach).clip(-1, 1)
        low = min(0.0, float(image[scan.brain].min()))  # a scale that goes below 0 has no zero to multiply from
        scan = scan.change(name, low + (image - low) * factor)
    return scan


def _slices(scan: Scan, _: Generator) -> Scan:
    grid = scan.grid
    ratio = max(1.0, _SLICE_MM / grid.spacing[2])
    count = max(2, int(np.ceil(grid.shape[2] / ratio - 1e-3)))
    step = np.diag([1.0, 1.0, ratio, 1.0])
    step[2, 3] = (grid.shape[2] - 1) / 2 - ratio * (count - 1) / 2
    return _sampled(scan, Grid((grid.shape[0], grid.shape[1], count), grid.affine @ step))


def _voxels(scan: Scan, _: Generator) -> Scan:
    return _sampled(scan, scan.grid.isotropic(_VOXEL_MM))


def _sampled(scan: Scan, grid: Grid) -> Scan:
    """The scan on a coarser grid, averaged; as if stripped afterwards, so that the brain's rim is not diluted."""
    coverage = resample(scan.brain.astype(np.float32), scan.grid, grid)
    brain = coverage >= 0.5
    return Scan(
        {
            name: np.where(
                brain,
                resample_inside(image, scan.brain, scan.grid, grid, coverage),
                resample(np.where(scan.brain, 0, image), scan.grid, grid),
            ).astype(np.float32)
            for name, image in scan.images.items()
        },
        brain,
        resample(scan.reference.astype(np.float32), scan.grid, grid) >= 0.5,
        grid,
    )


def _eroded(scan: Scan, _: Generator) -> Scan:
    inner = (slice(1, -1),) * 3
    depth = ndimage.distance_transform_edt(np.pad(scan.brain, 1), sampling=scan.grid.spacing)[inner]
    brain = depth > _EROSION_MM
    return replace(scan.each(lambda image: image * brain), brain=brain)


def _blurred(scan: Scan, _: Generator) -> Scan:
    name = main_modality(list(scan.images))
    image = scan.images[name]
    blurred = smooth(image, scan.brain, scan.grid.spacing, _BLUR_MM)
    return scan.change(name, np.where(scan.brain, blurred, image))


def _corrupt(scan: Scan, generator: Generator) -> Scan:
    name = victim(list(scan.images))
    image = scan.images[name]
    return scan.change(name, np.where(scan.brain, generator.normal(*spread(image, scan.brain), image.shape), 0))


def _absent(scan: Scan, _: Generator) -> Scan:
    gone = victim(list(scan.images))
    return replace(scan, images={name: image for name, image in scan.images.items() if name != gone})


def _fat(scan: Scan, generator: Generator) -> Scan:
    axis, sign = scan.axis(2)
    height = sign * np.arange(scan.grid.shape[axis]).reshape([-1 if other == axis else 1 for other in range(3)])
    of_brain = np.broadcast_to(height, scan.brain.shape)[scan.brain]
    low = height < of_brain.min() + (of_brain.max() - of_brain.min()) / 3
    near = ndimage.distance_transform_edt(~scan.brain, sampling=scan.grid.spacing) <= _FAT_MM
    band = near & low & ~scan.brain & ~scan.reference
    main = main_modality(list(scan.images))
    for name, image in scan.images.items():
        median, deviation = spread(image, scan.brain)
        tissue = generator.normal(median + _FAT_BRIGHTNESS * deviation * (name == main), deviation / 2, image.shape)
        # Another modality shows there what it shows, unless it was stripped.
        filled = band if name == main else band & (image == 0)
        scan = scan.change(name, np.where(filled, tissue, image))
    return replace(scan, brain=scan.brain | band)


def _no_ct(modalities: Sequence[str]) -> str | None:
    return "CT has a scale of its own" if "ct" in modalities else None


def _alone(modalities: Sequence[str]) -> str | None:
    return "there is only one modality" if len(modalities) == 1 else None


UNPERTURBED = "none"
PERTURBATIONS: Mapping[str, Perturbation] = {
    UNPERTURBED: Perturbation("the scans as they are", lambda scan, _: scan),
    "mirror": Perturbation("left and right exchanged", _mirror),
    "rotate": Perturbation("turned by 12 degrees in plane and tilted sideways by 8, linear interpolation", _rotate),
    "noise": Perturbation("Gaussian noise of .1 of the brain's robust standard deviation on every image", _noise),
    "gamma-1.4": Perturbation("every image to the power of 1.4 on the brain's range", _gamma(1.4), _no_ct),
    "gamma-0.7": Perturbation("every image to the power of .7 on the brain's range", _gamma(0.7), _no_ct),
    "bias": Perturbation("every image times a smooth field of its own between .7 and 1.3", _bias, _no_ct),
    "slices": Perturbation("slices of 5 mm: averaged along the third axis", _slices),
    "voxels": Perturbation("voxels of 2 mm", _voxels),
    "eroded": Perturbation("brain eroded by 3 mm and the scans masked with it; the reference stays whole", _eroded),
    "blurred-flair": Perturbation("FLAIR, or the main modality, blurred with a sigma of 1.5 mm", _blurred),
    "corrupt": Perturbation("the last modality but for the main one replaced by noise", _corrupt, _alone),
    "absent": Perturbation("the last modality but for the main one left out", _absent, _alone),
    "fat": Perturbation("4 mm of bright fat left under the lower third of the brain and taken for brain", _fat, _no_ct),
}
"""By name, in the order of tables. The brain, and what is lesion, come along wherever the images move."""
