"""The contract of a prior: `check_prior`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from safetensors.torch import load, save
from torch import Tensor

from cgckit.errors import CgckitError
from cgckit.images.case import Case
from cgckit.plugins import describe_error
from cgckit.priors.base import Prediction, Prior, declaration_faults, predict_noted
from cgckit.priors.fusion import learns
from cgckit.testing.cases import simulated_cases
from cgckit.testing.rules import BrokenError, Rules, Verdict, judge, random_state, require, require_all, require_options

Make = Callable[[], Prior]


def check_prior(make: Make, cases: Sequence[Case] | None = None) -> None:
    """Check that a prior keeps the contract that `cgckit.refine` relies on.

    Args:
        make: makes a fresh, unfitted prior: the class itself, or a function that sets options.
        cases: to try it on; by default `simulated_cases()`.

    Raises:
        ContractError: naming the first rule that is broken.
    """
    require_all(prior_rules(make, cases))


def prior_rules(make: Make, cases: Sequence[Case] | None = None) -> Iterator[Verdict]:
    """What becomes of each rule of the contract."""
    return judge(_RULES, _Trial(make, simulated_cases() if cases is None else cases))


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
        with random_state(seed=1):
            require(prior.fit(self.cases) is prior, "fit must return self")
        return prior

    @cached_property
    def predictions(self) -> list[Prediction]:
        """What it says of each case."""
        with random_state(seed=2):
            return [predict_noted(self.fitted, case) for case in self.cases]

    @property
    def maps(self) -> list[Tensor]:
        """What it predicts for each case."""
        return [prediction.probability for prediction in self.predictions]

    def pairs(self) -> Iterator[tuple[Case, Tensor]]:
        """Each case, unspoilt, with its map."""
        return zip(self.originals, self.maps, strict=True)


def _check_options(trial: _Trial) -> None:
    """It is a dataclass derived from cgckit.Prior; each option has a default of the type it is annotated with"""
    prior = trial.make()
    require_options(prior, Prior)
    for fault in declaration_faults(type(prior)):
        raise BrokenError(fault)


def _check_fit_first(trial: _Trial) -> None:
    """Before fit, predict either works or says that fit is needed"""
    prior, case = trial.make(), trial.copies()[0]
    if not learns(prior):
        prior.predict(case)
        return
    try:
        prior.predict(case)
    except (CgckitError, RuntimeError, ValueError) as error:
        require("fit" in str(error).lower(), f"the error does not speak of fit: {error}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise BrokenError(f"{describe_error(error)}: raise a RuntimeError that says fit is needed") from error
    else:
        raise BrokenError(
            "predict works without fit although the class has one: raise a RuntimeError that says fit is needed, "
            "or have no fit"
        )


def _check_fit(trial: _Trial) -> None:
    """fit takes the cohort and returns the prior itself"""
    _ = trial.fitted


def _check_shape(trial: _Trial) -> None:
    """predict returns one value a voxel: a tensor of the brain's shape"""
    for case, found in trial.pairs():
        require(isinstance(found, Tensor), f"predict returned {type(found).__name__}, not a Tensor")
        expected = case.brain.shape
        require(found.shape == expected, f"{list(found.shape)} for a case of {list(expected)}")


def _check_dtype(trial: _Trial) -> None:
    """The map is float32, dense, on the CPU and without gradient"""
    for _, found in trial.pairs():
        dense = found.layout == torch.strided and found.device.type == "cpu"
        require(dense, f"the map is {str(found.layout).removeprefix('torch.')} on {found.device}")
        require(found.dtype == torch.float32, f"the map is {found.dtype}")
        require(not found.requires_grad, "the map wants a gradient: predict under torch.no_grad()")


def _check_finite(trial: _Trial) -> None:
    """The map has no NaN and no infinite value"""
    for case, found in trial.pairs():
        require(bool(torch.isfinite(found).all()), f"NaN or infinite values for {case.subject}")


def _check_range(trial: _Trial) -> None:
    """The map is within [0, 1]"""
    for case, found in trial.pairs():
        outside = int((torch.isfinite(found) & ((found < 0) | (found > 1))).sum())
        require(outside == 0, f"{outside} values outside [0, 1] for {case.subject}")


def _check_outside(trial: _Trial) -> None:
    """The map is 0 outside the brain"""
    for case, found in trial.pairs():
        require(not bool(found[~case.brain].any()), f"values outside the brain of {case.subject}")


def _check_input(trial: _Trial) -> None:
    """fit and predict leave the image and the brain mask as they are"""
    for found, before, after in zip(trial.maps, trial.originals, trial.cases, strict=True):
        for name in ("image", "brain"):
            same = torch.equal(getattr(before, name), getattr(after, name))
            require(same, f"the {name} of {before.subject} was changed")
        shared = found.untyped_storage().data_ptr() == after.image.untyped_storage().data_ptr()
        require(not shared, "the map is a view of the image: clone it")


def _check_determinism(trial: _Trial) -> None:
    """Asked again or fitted anew, in any order, whatever the global random state, it gives the same map and note"""
    cases = trial.copies()
    with random_state(seed=3):
        again = predict_noted(trial.fitted, cases[0])
        require(torch.equal(again.probability, trial.maps[0]), "asked again, it gives another map: seed its numbers")
        prior = trial.make().fit(cases)
        anew = [predict_noted(prior, case) for case in reversed(cases)][::-1]
    for case, first, second in zip(cases, trial.predictions, anew, strict=True):
        same = torch.equal(first.probability, second.probability)
        require(same, f"fitted anew, it gives another map for {case.subject}")
        require(first.note == second.note, f"asked in another order, it says something else of {case.subject}")
    require(again.note == trial.predictions[0].note, f"asked again, it says something else of {cases[0].subject}")


def _check_state(trial: _Trial) -> None:
    """state is a mapping of names to tensors; a fresh prior that loads it predicts the same, without fit"""
    state = trial.fitted.state()
    plain = isinstance(state, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )
    require(plain, "state must map names to tensors: nothing is pickled")
    fresh = trial.make()
    fresh.load_state(load(save({name: value.contiguous() for name, value in state.items()})))
    for case, expected in zip(trial.copies(), trial.maps, strict=True):
        found = predict_noted(fresh, case).probability
        require(torch.equal(found, expected), f"the map of {case.subject} differs after load_state")


_RULES: Rules[_Trial] = {
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
