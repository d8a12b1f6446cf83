"""`RegisteredPrior`: a name that `--prior` takes, and finding such names among installed packages."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from cgckit.errors import PluginError
from cgckit.plugins.specification import NAME, describe_error
from cgckit.priors.base import Prior

GROUP = "cgckit.priors"
"""The entry-point group."""

_OWN_PACKAGE = "cgckit"


@dataclass(frozen=True, eq=False)
class RegisteredPrior:
    """A name that `--prior` takes.

    Attributes:
        name: the name.
        target: the class, as `module:Class`.
        package: who brings it, with version.
        load_target: imports the class.
        conflict: why the name cannot be used although it is registered.
        ignored: packages that register the name too but lose against a built-in prior.
    """

    name: str
    target: str
    package: str
    load_target: Callable[[], object]
    conflict: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def error(self) -> str | None:
        """Why the prior cannot be used, in one line, or None; imports the class."""
        return self._outcome if isinstance(self._outcome, str) else None

    @property
    def summary(self) -> str:
        """The prior's own line about itself; empty if it cannot be used; imports the class."""
        return "" if isinstance(self._outcome, str) else summarise(self._outcome)

    def load(self) -> type[Prior]:
        """Return the class; PluginError if it cannot be used."""
        if isinstance(self._outcome, str):
            raise PluginError(f"prior {self.name} ({self.package}) cannot be used: {self._outcome}")
        return self._outcome

    def provides(self, prior: type[Prior]) -> bool:
        """Whether this is where `prior` is registered; imports nothing."""
        return self.target == target_of(prior) or self.__dict__.get("_outcome") is prior

    @cached_property
    def _outcome(self) -> type[Prior] | str:
        if self.conflict is not None:
            return self.conflict
        try:
            return require_prior_class(self.load_target(), self.target)
        # A module that leaves the interpreter while it is imported is as broken as one that raises.
        except (Exception, SystemExit) as error:
            return describe_error(error)


@functools.lru_cache(maxsize=4)
def discover(path: tuple[str, ...]) -> Mapping[str, RegisteredPrior]:
    """Read the entry points of the packages on `path`: the key of the cache, as scanning takes a while."""
    claims: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        claims.setdefault(entry.name, []).append(entry)
    return {name: _settle(name, entries) for name, entries in claims.items()}


def summarise(prior: type[Prior]) -> str:
    """Return a class's `summary`, or else the first line of its docstring."""
    return prior.summary or (inspect.getdoc(prior) or "").split("\n", 1)[0]


def require_prior_class(value: object, origin: str) -> type[Prior]:
    """Return `value` if it is a usable prior class; TypeError, naming `origin`, if it is not."""
    if not (isinstance(value, type) and issubclass(value, Prior)):
        raise TypeError(f"{origin} is not a subclass of cgckit.Prior")
    if inspect.isabstract(value):
        raise TypeError(f"{origin} does not define {', '.join(sorted(value.__abstractmethods__))}")
    return value


def target_of(prior: object) -> str:
    """Return where a class lives, as `module:Class`."""
    return f"{getattr(prior, '__module__', '?')}:{getattr(prior, '__qualname__', prior)}"


def _settle(name: str, claims: list[importlib.metadata.EntryPoint]) -> RegisteredPrior:
    """Decide who gets a name: a built-in prior keeps its own, and of two strangers neither does."""
    own = [entry for entry in claims if entry.dist is not None and entry.dist.name == _OWN_PACKAGE]
    winner = (own or claims)[0]
    others = tuple(sorted(_package(entry) for entry in claims if entry is not winner))
    conflict = None
    if not NAME.fullmatch(name):
        conflict = f"the name {name!r} cannot be used: a prior's name has letters, digits, - and _"
    elif others and not own:
        conflict = f"{', '.join(others)} registers the same name: uninstall one of them"
    return RegisteredPrior(name, winner.value, _package(winner), winner.load, conflict, ignored=others if own else ())


def _package(entry: importlib.metadata.EntryPoint) -> str:
    return "unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
