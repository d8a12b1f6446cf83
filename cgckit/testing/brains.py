"""The contract of a brain extractor: `check_brain`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from scipy import ndimage

from cgckit.arrays import BoolArray
from cgckit.images.brain import BrainExtractor
from cgckit.images.volume import Volume
from cgckit.testing.rules import Rules, Verdict, judge, random_state, require, require_all, require_options

Images = Mapping[str, Volume]
Make = Callable[[], BrainExtractor]


def check_brain(make: Make, heads: Sequence[Images] | None = None) -> None:
    """Check that a brain extractor keeps the contract that cgckit relies on.

    Args:
        make: makes a fresh one: the class itself, or a function that sets options.
        heads: images to try it on; by default `simulated_heads()`.

    Raises:
        ContractError: naming the first rule that is broken.
    """
    require_all(brain_rules(make, heads))


def brain_rules(make: Make, heads: Sequence[Images] | None = None) -> Iterator[Verdict]:
    """What becomes of each rule of the contract."""
    return judge(_RULES, _Trial(make, simulated_heads() if heads is None else heads))


def simulated_heads(seed: int = 0) -> tuple[Images, ...]:
    """Two skull-stripped brains (FLAIR and T1, T1 alone) and a whole head (T1), at 4 mm, 130 to 180 mm long.

    They are ellipsoids of grey and white matter; the head has bone, scalp and noise around. Enough to try an
    extractor's interface, no test of its accuracy.
    """
    return (
        _simulate((36, 44, 35), seed, ("flair", "t1"), scalp=False),
        _simulate((33, 40, 36), seed + 1, ("t1",), scalp=False),
        _simulate((46, 54, 46), seed + 2, ("t1",), scalp=True),
    )


def _simulate(shape: tuple[int, int, int], seed: int, modalities: Sequence[str], *, scalp: bool) -> Images:
    draw = np.random.default_rng(seed)
    axes = [(np.arange(size) - (size - 1) / 2) / (size / 2 - 1) for size in shape]
    radius = np.sqrt((np.stack(np.meshgrid(*axes, indexing="ij")) ** 2).sum(axis=0))
    edge = 0.75 if scalp else 0.95
    folds = ndimage.gaussian_filter(draw.standard_normal(shape), 1.5)
    white = radius + 0.1 * folds / folds.std() < 0.7 * edge
    tissue = np.where(white, 120.0, 90.0) + 4 * draw.standard_normal(shape)
    head = np.where(radius < edge, tissue, 0.0)
    if scalp:
        head = np.where((radius >= 0.88) & (radius < 1), 140.0, head) + np.abs(2 * draw.standard_normal(shape))
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    return {name: Volume.of(head.astype(np.float32), affine, f"simulated {name}") for name in modalities}


class _Trial:
    """An extractor on trial, asked once for several rules to look at what it did."""

    def __init__(self, make: Make, heads: Sequence[Images]) -> None:
        self.make, self.originals = make, heads
        self.heads = self.copies()

    def copies(self) -> list[dict[str, Volume]]:
        return [
            {
                name: replace(volume, array=volume.array.copy(), header=volume.header.copy())
                for name, volume in head.items()
            }
            for head in self.originals
        ]

    @cached_property
    def masks(self) -> list[BoolArray]:
        """What it finds in each head."""
        extractor = self.make()
        with random_state(seed=1):
            return [extractor.extract(head) for head in self.heads]


def _check_options(trial: _Trial) -> None:
    """It is a dataclass derived from cgckit.BrainExtractor; each option has a default of its type and range"""
    require_options(trial.make(), BrainExtractor)


def _check_mask(trial: _Trial) -> None:
    """extract returns a boolean array on the images' grid"""
    for found, head in zip(trial.masks, trial.originals, strict=True):
        expected = next(iter(head.values())).array.shape
        require(isinstance(found, np.ndarray), f"extract returned {type(found).__name__}, not an array")
        require(
            found.dtype == np.bool_ and found.shape == expected, f"{found.dtype} {found.shape}, not bool {expected}"
        )


def _check_brain(trial: _Trial) -> None:
    """There is some brain in every head, and something that is none"""
    for number, found in enumerate(trial.masks, 1):
        require(bool(found.any()) and not bool(found.all()), f"all or nothing of head {number} is brain")


def _check_input(trial: _Trial) -> None:
    """extract leaves the images as they are"""
    _ = trial.masks
    for before, after in zip(trial.originals, trial.heads, strict=True):
        require(list(before) == list(after), "the images were exchanged")
        same = all(np.array_equal(before[name].array, after[name].array) for name in before)
        require(same, "an image was changed")
        require(all(before[name].header == after[name].header for name in before), "a header was changed")


def _check_determinism(trial: _Trial) -> None:
    """Asked again, in another order, whatever the global random state, it finds the same brain"""
    extractor = trial.make()
    with random_state(seed=2):
        anew = [extractor.extract(head) for head in reversed(trial.copies())][::-1]
    for number, (first, second) in enumerate(zip(trial.masks, anew, strict=True), 1):
        require(np.array_equal(first, second), f"another mask of head {number}: seed its random numbers")


_RULES: Rules[_Trial] = {
    "options": _check_options,
    "mask": _check_mask,
    "brain": _check_brain,
    "input": _check_input,
    "determinism": _check_determinism,
}
