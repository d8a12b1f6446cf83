"""`Registered`: a name that a plug-in is known by, and who brings it."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from cgckit.errors import PluginError
from cgckit.plugins.blame import describe_error
from cgckit.plugins.loading import NAME

T = TypeVar("T")

_OWN_PACKAGE = "cgckit"


@dataclass(frozen=True, eq=False)
class Registered(Generic[T]):
    """A name that a plug-in is registered under; its class is imported when it is asked for.

    Attributes:
        noun: what it is, for instance "prior".
        name: the name.
        target: the class, as `module:Class`.
        package: who brings it, with version.
        load_target: imports the class.
        require: returns what was imported if it is a class of the right kind, else raises TypeError.
        conflict: why the name cannot be used although it is registered.
        ignored: packages that register the name too but lose against cgckit's own.
    """

    noun: str
    name: str
    target: str
    package: str
    load_target: Callable[[], object]
    require: Callable[[object, str], type[T]]
    conflict: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def error(self) -> str | None:
        """Why it cannot be used, in one line, or None; imports the class."""
        return self._outcome if isinstance(self._outcome, str) else None

    @property
    def summary(self) -> str:
        """Its own line about itself; empty if it cannot be used; imports the class."""
        return "" if isinstance(self._outcome, str) else summarise(self._outcome)

    def load(self) -> type[T]:
        """Return the class; PluginError if it cannot be used."""
        if isinstance(self._outcome, str):
            raise PluginError(f"{self.noun} {self.name} ({self.package}) cannot be used: {self._outcome}")
        return self._outcome

    def provides(self, kind: type) -> bool:
        """Whether this is where `kind` is registered; imports nothing."""
        return self.target == target_of(kind) or self.__dict__.get("_outcome") is kind

    @cached_property
    def _outcome(self) -> type[T] | str:
        if self.conflict is not None:
            return self.conflict
        try:
            return self.require(self.load_target(), self.target)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whoever leaves the interpreter while imported is broken too
            return describe_error(error)


def settle(
    noun: str, name: str, claims: list[importlib.metadata.EntryPoint], require: Callable[[object, str], type[T]]
) -> Registered[T]:
    """Decide who gets a name: cgckit's own plug-in keeps it, and of two strangers neither gets it."""
    own = [entry for entry in claims if entry.dist is not None and entry.dist.name == _OWN_PACKAGE]
    winner = (own or claims)[0]
    others = tuple(sorted(_package(entry) for entry in claims if entry is not winner))
    conflict = None
    if not NAME.fullmatch(name):
        conflict = f"the name {name!r} cannot be used: a {noun}'s name has letters, digits, - and _"
    elif others and not own:
        conflict = f"{', '.join(others)} registers the same name: uninstall one of them"
    return Registered(
        noun, name, winner.value, _package(winner), winner.load, require, conflict, ignored=others if own else ()
    )


def summarise(kind: type) -> str:
    """Return a class's `summary`, or else the first line of its docstring."""
    return str(getattr(kind, "summary", "")) or (inspect.getdoc(kind) or "").split("\n", 1)[0]


def target_of(kind: object) -> str:
    """Return where a class lives, as `module:Class`."""
    return f"{getattr(kind, '__module__', '?')}:{getattr(kind, '__qualname__', kind)}"


def _package(entry: importlib.metadata.EntryPoint) -> str:
    return "unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
