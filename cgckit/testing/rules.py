"""Rules of a contract: each is a function whose docstring says what it asks, and that raises `BrokenError`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from cgckit.options import REQUIRED, options_of
from cgckit.plugins import Plugin, describe_error

T = TypeVar("T")
Rules = Mapping[str, Callable[[T], None]]


class ContractError(AssertionError):
    """A plug-in broke the rule named `rule`."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"{rule}: {reason}")
        self.rule = rule


class BrokenError(Exception):
    """A rule is broken; the message says how."""


@dataclass(frozen=True)
class Verdict:
    """What became of one rule: `error` is None if it is kept."""

    rule: str
    meaning: str
    error: str | None


def judge(rules: Rules[T], trial: T) -> Iterator[Verdict]:
    """Check rule by rule; a later rule is checked even if an earlier one is broken."""
    for rule, holds in rules.items():
        error = None
        try:
            holds(trial)
        except BrokenError as broken:
            error = str(broken)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            error = f"it raised {describe_error(failure)}"
        yield Verdict(rule, (holds.__doc__ or "").strip(), error)


def require_all(verdicts: Iterator[Verdict]) -> None:
    """Raise ContractError for the first rule that is broken."""
    for verdict in verdicts:
        if verdict.error is not None:
            raise ContractError(verdict.rule, verdict.error)


def require(holds: bool, reason: str) -> None:
    """Raise BrokenError unless the rule holds."""
    if not holds:
        raise BrokenError(reason)


def require_options(plugin: object, base: type[Plugin]) -> None:
    """Raise BrokenError unless a plug-in is a dataclass of that kind whose options have fitting defaults."""
    kind = type(plugin)
    require(isinstance(plugin, base), f"{kind.__name__} is not a subclass of cgckit.{base.__name__}")
    # A subclass of a dataclass that is not decorated itself inherits fields, but its own are none.
    require("__dataclass_fields__" in vars(kind), f"{kind.__name__} is not decorated with @dataclass")
    for option in options_of(kind):
        require(option.default is not REQUIRED, f"{option.name} has no default")
        try:
            option.fit(option.default)
        except ValueError as error:
            raise BrokenError(f"the default of {option.name}: {error}") from None


@contextmanager
def random_state(seed: int) -> Iterator[None]:
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
