"""The contract of a prior as a test that anybody can call: `check_prior`.

Example:
    >>> from cgckit.testing import check_prior
    >>> def test_my_prior_keeps_the_contract():
    ...     check_prior(MyPrior)  # doctest: +SKIP
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from safetensors.torch import load, save
from scipy import ndimage
from torch import Tensor

from cgckit.arrays import Shape
from cgckit.errors import CgckitError
from cgckit.images.case import Case
from cgckit.images.grid import Grid
from cgckit.options.fields import REQUIRED, check, options_of
from cgckit.plugins.specification import describe_error
from cgckit.priors.base import Prior

Make = Callable[[], Prior]


class PriorContractError(AssertionError):
    """A prior broke the rule named `rule`."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"{rule}: {reason}")
        self.rule = rule


@dataclass(frozen=True)
class Outcome:
    """What became of one rule: `error` is None if the prior keeps it."""

    rule: str
    meaning: str
    error: str | None


def check_prior(make: Make, cases: Sequence[Case] | None = None) -> None:
    """Check that a prior keeps the contract that `cgckit.refine` relies on.

    Args:
        make: makes a fresh, unfitted prior: the class itself, or a function that sets options.
        cases: to try it on; by default `simulated_cases()`.

    Raises:
        PriorContractError: naming the first rule that is broken.
    """
    for outcome in check_rules(make, cases):
        if outcome.error is not None:
            raise PriorContractError(outcome.rule, outcome.error)


def check_rules(make: Make, cases: Sequence[Case] | None = None) -> Iterator[Outcome]:
    """Check rule by rule; a later rule is checked even if an earlier one is broken."""
    trial = _Trial(make, simulated_cases() if cases is None else cases)
    for rule, holds in _RULES.items():
        meaning = (holds.__doc__ or "").strip()
        error = None
        try:
            holds(trial)
        except _BrokenError as broken:
            error = str(broken)
        except Exception as failure:
            error = f"the prior raised {describe_error(failure)}"
        yield Outcome(rule, meaning, error)


def simulated_cases(seed: int = 0) -> tuple[Case, ...]:
    """Three small subjects, FLAIR and T1 at 4 mm, on grids of different shapes; the last one has no lesion.

    They are ellipsoidal brains with grey and white matter, ventricles and noise: enough to try a prior's
    interface, no test of its accuracy.
    """
    return (
        _simulate("sim1", (36, 44, 35), seed, lesion_mm=22.0),
        _simulate("sim2", (33, 40, 36), seed + 1, lesion_mm=16.0),
        _simulate("sim3", (34, 42, 34), seed + 2, lesion_mm=0.0),
    )


def _simulate(subject: str, shape: Shape, seed: int, lesion_mm: float) -> Case:
    spacing = 4.0
    random_state = np.random.default_rng(seed)
    axes = [(np.arange(size) - (size - 1) / 2) / (size / 2 - 2) for size in shape]
    position = np.stack(np.meshgrid(*axes, indexing="ij"))
    radius = np.sqrt((position**2).sum(axis=0))
    brain = radius < 1
    folds = ndimage.gaussian_filter(random_state.standard_normal(shape), 1.5)
    white = radius + 0.6 * folds / folds.std() * 0.2 < 0.75
    ventricle = np.sqrt((position[0] / 0.25) ** 2 + (position[1] / 0.4) ** 2 + (position[2] / 0.25) ** 2) < 1
    flair = np.where(white, -0.4, 0.6)
    t1 = np.where(white, 1.0, -0.5)
    flair[ventricle], t1[ventricle] = -3.0, -3.0
    if lesion_mm:
        centre = np.array([0.45, 0.1, 0.15])[:, None, None, None]
        extent = np.array(shape)[:, None, None, None] / 2 * spacing
        lesion = np.sqrt((((position - centre) * extent) ** 2).sum(axis=0)) < lesion_mm
        flair[lesion & brain], t1[lesion & brain] = 3.5, -1.0
    channels = [ndimage.gaussian_filter(channel, 0.5) for channel in (flair, t1)]
    image = np.stack([channel + 0.3 * random_state.standard_normal(shape) for channel in channels]) * brain
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-spacing * (size - 1) / 2 for size in shape]
    grid = Grid(shape, affine)
    return Case(
        subject=subject,
        image=torch.from_numpy(image.astype(np.float32)),
        brain=torch.from_numpy(brain),
        modalities=("flair", "t1"),
        spacing=(spacing, spacing, spacing),
        grid=grid,
        native=grid,
    )


class _BrokenError(Exception):
    """A rule is broken; the message says how."""


class _Trial:
    """A prior on trial: fitted and asked once, for several rules to look at what it did.

    Attributes:
        make: makes further priors.
        originals: the cases, which no prior ever sees.
        cases: copies of them, which the one on trial does.
    """

    def __init__(self, make: Make, cases: Sequence[Case]) -> None:
        self.make = make
        self.originals = cases
        self.cases = self.copies()

    def copies(self) -> list[Case]:
        """Further copies of the cases: a prior that changes its input must not spoil the next rule."""
        return [replace(case, image=case.image.clone(), brain=case.brain.clone()) for case in self.originals]

    @cached_property
    def fitted(self) -> Prior:
        """A prior that has seen the cases."""
        prior = self.make()
        with _random_state(seed=1):
            _require(prior.fit(self.cases) is prior, "fit must return self")
        return prior

    @cached_property
    def maps(self) -> list[Tensor]:
        """What it predicts for each case."""
        with _random_state(seed=2):
            return [self.fitted.predict(case) for case in self.cases]

    def pairs(self) -> Iterator[tuple[Case, Tensor]]:
        """Each case, unspoilt, with its map."""
        return zip(self.originals, self.maps, strict=True)


def _check_options(trial: _Trial) -> None:
    """It is a dataclass derived from cgckit.Prior; each option has a default of the type it is annotated with"""
    prior = trial.make()
    kind = type(prior)
    _require(isinstance(prior, Prior), f"{kind.__name__} is not a subclass of cgckit.Prior")
    # A subclass of a dataclass that is not decorated itself inherits fields, but its own are none.
    _require("__dataclass_fields__" in vars(kind), f"{kind.__name__} is not decorated with @dataclass")
    for option in options_of(kind):
        _require(option.default is not REQUIRED, f"{option.name} has no default")
        fits = True
        try:
            check(option.default, option.type)
        except ValueError:
            fits = False
        _require(fits, f"the default of {option.name} is {option.default!r}, not {option.type_name}")


def _check_fit_first(trial: _Trial) -> None:
    """Before fit, predict either works or says that fit is needed"""
    prior, case = trial.make(), trial.copies()[0]
    if not prior.requires_fit:
        prior.predict(case)
        return
    try:
        prior.predict(case)
    except (CgckitError, RuntimeError, ValueError) as error:
        _require("fit" in str(error).lower(), f"the error does not speak of fit: {error}")
    except Exception as error:
        raise _BrokenError(f"{describe_error(error)}: raise a RuntimeError that says fit is needed") from error
    else:
        raise _BrokenError("predict works without fit although requires_fit is set")


def _check_fit(trial: _Trial) -> None:
    """fit takes the cohort and returns the prior itself"""
    _ = trial.fitted


def _check_shape(trial: _Trial) -> None:
    """predict returns one value a voxel: a tensor of the brain's shape"""
    for case, found in trial.pairs():
        _require(isinstance(found, Tensor), f"predict returned {type(found).__name__}, not a Tensor")
        expected = case.brain.shape
        _require(found.shape == expected, f"{list(found.shape)} for a case of {list(expected)}")


def _check_dtype(trial: _Trial) -> None:
    """The map is float32, without gradient"""
    for _, found in trial.pairs():
        _require(found.dtype == torch.float32, f"the map is {found.dtype}")
        _require(not found.requires_grad, "the map wants a gradient: predict under torch.no_grad()")


def _check_finite(trial: _Trial) -> None:
    """The map has no NaN and no infinite value"""
    for case, found in trial.pairs():
        _require(bool(torch.isfinite(found).all()), f"NaN or infinite values for {case.subject}")


def _check_range(trial: _Trial) -> None:
    """The map is within [0, 1]"""
    for case, found in trial.pairs():
        outside = int((torch.isfinite(found) & ((found < 0) | (found > 1))).sum())
        _require(outside == 0, f"{outside} values outside [0, 1] for {case.subject}")


def _check_outside(trial: _Trial) -> None:
    """The map is 0 outside the brain"""
    for case, found in trial.pairs():
        _require(not bool(found[~case.brain].any()), f"values outside the brain of {case.subject}")


def _check_input(trial: _Trial) -> None:
    """fit and predict leave the image and the brain mask as they are"""
    for found, before, after in zip(trial.maps, trial.originals, trial.cases, strict=True):
        for name in ("image", "brain"):
            same = torch.equal(getattr(before, name), getattr(after, name))
            _require(same, f"the {name} of {before.subject} was changed")
        shared = found.untyped_storage().data_ptr() == after.image.untyped_storage().data_ptr()
        _require(not shared, "the map is a view of the image: clone it")


def _check_determinism(trial: _Trial) -> None:
    """Asked again or fitted anew, in any order, whatever the global random state, it gives the same map"""
    cases = trial.copies()
    with _random_state(seed=3):
        again = trial.fitted.predict(cases[0])
        _require(torch.equal(again, trial.maps[0]), "asked again, it gives another map: seed its random numbers")
        prior = trial.make().fit(cases)
        anew = [prior.predict(case) for case in reversed(cases)][::-1]
    for case, first, second in zip(cases, trial.maps, anew, strict=True):
        _require(torch.equal(first, second), f"fitted anew, it gives another map for {case.subject}")


def _check_state(trial: _Trial) -> None:
    """state is a mapping of names to tensors; a fresh prior that loads it predicts the same, without fit"""
    state = trial.fitted.state()
    plain = isinstance(state, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )
    _require(plain, "state must map names to tensors: nothing is pickled")
    fresh = trial.make()
    fresh.load_state(load(save({name: value.contiguous() for name, value in state.items()})))
    for case, expected in zip(trial.copies(), trial.maps, strict=True):
        _require(torch.equal(fresh.predict(case), expected), f"the map of {case.subject} differs after load_state")


_RULES: dict[str, Callable[[_Trial], None]] = {
    "options": _check_options,
    "fit-first": _check_fit_first,
    "fit": _check_fit,
    "shape": _check_shape,
    "dtype": _check_dtype,
    "finite": _check_finite,
    "range": _check_range,
    "outside": _check_outside,
    "input": _check_input,
    "determinism": _check_determinism,
    "state": _check_state,
}


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise _BrokenError(reason)


@contextmanager
def _random_state(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch, and put them back."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
