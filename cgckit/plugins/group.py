"""`Group`: one kind of plug-in: which there are, and from the words of a user to an object."""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from cgckit.errors import CgckitError, PluginError, UsageError
from cgckit.options import check_fields, options_of, read_values, read_words, to_json
from cgckit.options.fields import require_all
from cgckit.plugins.blame import blame, describe_error
from cgckit.plugins.loading import NAME, import_class, split_file
from cgckit.plugins.registered import Registered, settle, target_of
from cgckit.plugins.source import source_hash


class Plugin:
    """What all plug-ins have in common. Subclasses are dataclasses, whose fields are the options (`cgckit.options`)."""

    summary: ClassVar[str] = ""
    """One line for `cgckit plugins list`."""

    def __post_init__(self) -> None:
        """Check the options; a subclass with a `__post_init__` of its own calls this one."""
        check_fields(self, type(self).__name__)


T = TypeVar("T", bound=Plugin)
K = TypeVar("K", bound=type[Plugin])


class Group(Generic[T]):
    """The plug-ins of one entry-point group, cgckit's own among them.

    A class is imported when it is asked for, so that a plug-in that cannot be imported breaks no other.

    Args:
        base: the class that they are subclasses of; an abstract one, which is no `type[T]` to a type checker.
        entry_points: name of the group, for instance "cgckit.priors".
        noun: what messages call one of them.
        forms: which other words may name one, for messages.
    """

    def __init__(self, base: Any, entry_points: str, noun: str, forms: str = "FILE.py:Class") -> None:
        self.base: type = base
        self.entry_points, self.noun, self.forms = entry_points, noun, forms
        self.found: dict[tuple[str, ...], dict[str, Registered[T]]] = {}
        self.at_run_time: dict[str, Registered[T]] = {}

    def installed(self) -> dict[str, Registered[T]]:
        """All that are registered, by name, sorted; those registered at run time included.

        Never raises: a broken plug-in is an entry whose `error` says what is wrong.
        """
        path = tuple(sys.path)
        if path not in self.found:  # scanning takes a while, and what was imported is remembered
            self.found = {path: self._discover()}
        return dict(sorted({**self.found[path], **self.at_run_time}.items()))

    def _discover(self) -> dict[str, Registered[T]]:
        claims: dict[str, list[importlib.metadata.EntryPoint]] = {}
        for entry in importlib.metadata.entry_points(group=self.entry_points):
            claims.setdefault(entry.name, []).append(entry)
        return {name: settle(self.noun, name, entries, self.require) for name, entries in claims.items()}

    def require(self, value: object, origin: str) -> type[T]:
        """Return `value` if it is a usable class of this group; TypeError, naming `origin`, if it is not."""
        usable: Any = value
        if not (isinstance(value, type) and issubclass(value, self.base)):
            raise TypeError(f"{origin} is not a subclass of cgckit.{self.base.__name__}")
        if inspect.isabstract(value):
            missing = sorted(getattr(value, "__abstractmethods__", ()))
            raise TypeError(f"{origin} does not define {', '.join(missing)}")
        kind: type[T] = usable
        return kind

    def register(self, name: str) -> Callable[[K], K]:
        """Register a class under `name` for as long as this process runs; used as a decorator.

        Raises:
            UsageError: the name is not made of letters, digits, `-` and `_`, or belongs to another class.
            PluginError: what is decorated is no class of this group.
        """
        if not NAME.fullmatch(name):
            raise UsageError(f"a {self.noun} cannot be called {name!r}: use letters, digits, - and _")

        def decorate(kind: K) -> K:
            target = target_of(kind)
            try:
                required = self.require(kind, target)
            except TypeError as error:
                raise PluginError(str(error)) from None
            taken = self.installed().get(name)
            # The same class again is what happens when a cell of a notebook is run twice.
            if taken is not None and taken.target != target:
                raise UsageError(
                    f"the {self.noun} name {name!r} is taken by {taken.target} ({taken.package}): choose another"
                )
            self.at_run_time[name] = Registered(self.noun, name, target, "this process", lambda: required, self.require)
            return kind

        return decorate

    def find(self, name: str) -> Registered[T]:
        """Return what is registered as `name`; UsageError, with the closest name and the others, if nothing is."""
        installed = self.installed()
        if name in installed:
            return installed[name]
        close = difflib.get_close_matches(name, installed, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(
            f"there is no {self.noun} {name!r}: {hint}installed are {', '.join(installed) or 'none'}; "
            f"or give {self.forms}"
        )

    def load(self, words: str) -> type[T]:
        """The class that a registered name or `FILE.py:Class` stands for.

        Raises:
            UsageError: there is none.
            PluginError: it cannot be imported, or is of another kind.
        """
        located = split_file(words)
        if located is None:
            return self.find(words).load()
        found = import_class(*located)
        with blame(f"{self.noun} {words} cannot be used"):
            try:
                return self.require(found, words)
            except TypeError as error:
                raise PluginError(str(error)) from None

    def make(self, kind: type[T], label: str, values: Mapping[str, object]) -> T:
        """Make one; what its constructor has against a value is the user's mistake.

        Args:
            kind: the class.
            label: what the user calls it.
            values: its options, text or of their own type.

        Raises:
            UsageError: an unknown option, a bad value, or one that is missing.
            PluginError: it cannot be made.
        """
        owner, options = f"{self.noun} {label}", options_of(kind)
        read = read_values(owner, options, values)
        require_all(owner, options, read)
        with blame(f"{owner} cannot be made"):
            try:
                made: object = kind(**read)
            except CgckitError:
                raise
            except ValueError as error:
                raise UsageError(f"{owner}: {describe_error(error).partition(': ')[2]}") from None
            if not isinstance(made, self.base):
                raise TypeError(f"its class gives a {type(made).__name__}")
        usable: Any = made
        plugin: T = usable
        return plugin

    def take(self, plugin: object, options: Sequence[str] | Mapping[str, object] = ()) -> T:
        """Return what was given as an object; UsageError if it is none of this group, or options are given too."""
        usable: Any = plugin
        if isinstance(plugin, self.base):
            if options:
                raise UsageError(f"{self.noun} options belong to a {self.noun} that is given by name; set its fields")
            found: T = usable
            return found
        given = f"the class {plugin.__name__}" if isinstance(plugin, type) else f"a {type(plugin).__name__}"
        raise UsageError(f"{given} is no {self.noun}: give a name, or an object of a cgckit.{self.base.__name__}")

    def resolve(self, words: str, options: Sequence[str] | Mapping[str, object] = ()) -> T:
        """Make what the user names, with its options; errors as `load` and `make`."""
        label = words if split_file(words) is None else words.rpartition(":")[2]
        return self.make(self.load(words), label, read_words(options, f"{self.noun} option"))

    def registration(self, kind: type) -> Registered[T] | None:
        """Where a class is registered, if it is."""
        return next((entry for entry in self.installed().values() if entry.provides(kind)), None)

    def name(self, plugin: T) -> str:
        """The name that a plug-in is registered under, or its class's."""
        entry = self.registration(type(plugin))
        return type(plugin).__name__ if entry is None else entry.name

    def identity(self, plugin: T) -> dict[str, Any]:
        """What the results of a plug-in depend on besides what it is given, as plain JSON values.

        The hash of the source tells states of it apart that have one version, as while it is written.
        """
        entry = self.registration(type(plugin))
        return {
            "name": self.name(plugin),
            "class": target_of(type(plugin)),
            "package": None if entry is None else entry.package,
            "source": source_hash(type(plugin)),
            "options": to_json(plugin),
        }
