"""Which priors there are, and from the words of a user to a `Prior`.

Priors are found on the entry-point group `cgckit.priors`, where cgckit's own are registered like anybody's. A
class is imported when it is asked for, so that a plug-in that cannot be imported breaks no other.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cgckit.errors import PluginError, UsageError
from cgckit.options.fields import options_of, read_options
from cgckit.plugins.entries import RegisteredPrior, discover, require_prior_class, target_of
from cgckit.plugins.specification import NAME, Specification, describe_error, import_class, read_specifications
from cgckit.priors.base import Prior
from cgckit.priors.fusion import FusionPrior

P = TypeVar("P", bound=type[Prior])


def installed_priors() -> dict[str, RegisteredPrior]:
    """Return all registered priors by name, sorted; those registered at run time included.

    Never raises: a broken plug-in is an entry whose `error` says what is wrong.
    """
    return dict(sorted({**discover(tuple(sys.path)), **_at_run_time}.items()))


def register_prior(name: str) -> Callable[[P], P]:
    """Register a `Prior` class under `name` for as long as this process runs.

    Example:
        >>> from dataclasses import dataclass
        >>> from cgckit import Prior, register_prior
        >>> @register_prior("nothing")
        ... @dataclass
        ... class Nothing(Prior):
        ...     def predict(self, case):
        ...         return 0.0 * case.image[0]

    Raises:
        UsageError: the name is not made of letters, digits, `-` and `_`, or belongs to another prior.
        PluginError: what is decorated is no prior.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"a prior cannot be called {name!r}: use letters, digits, - and _")

    def register(prior: P) -> P:
        target = target_of(prior)
        try:
            require_prior_class(prior, target)
        except TypeError as error:
            raise PluginError(str(error)) from None
        taken = installed_priors().get(name)
        # The same class again is what happens when a cell of a notebook is run twice.
        if taken is not None and taken.target != target:
            raise UsageError(f"the prior name {name!r} is taken by {taken.target} ({taken.package}): choose another")
        _at_run_time[name] = RegisteredPrior(name, target, "this process", lambda: prior)
        return prior

    return register


def find_prior(name: str) -> RegisteredPrior:
    """Return the registered prior `name`; UsageError, with the closest name and the others, if unknown."""
    installed = installed_priors()
    if name in installed:
        return installed[name]
    close = difflib.get_close_matches(name, installed, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UsageError(
        f"there is no prior {name!r}: {hint}installed are {', '.join(installed) or 'none'}; "
        "or give mask:PATTERN, FILE.py:Class or a+b"
    )


def resolve_prior(spec: str, options: Sequence[str] | Mapping[str, object] = ()) -> Prior:
    """Make the prior that the user asks for, with its options checked.

    Args:
        spec: a registered name, `mask:PATTERN`, `FILE.py:Class`, or several of these joined by `+`: the mean.
        options: `key=value` words, or a mapping whose values are text or of the option's own type. With
            several priors `name.key` addresses one of them; a bare key goes to the only one that has it.

    Raises:
        UsageError: an unknown prior or option, a bad value, or a key that several of the priors have.
        PluginError: the plug-in, or FILE.py, cannot be imported, or is no prior.
    """
    members = [(member, find_class(member)) for member in read_specifications(spec)]
    shares = _share_options(members, _option_mapping(options))
    priors = [_make(member, prior, share) for (member, prior), share in zip(members, shares, strict=True)]
    return priors[0] if len(priors) == 1 else FusionPrior(tuple(priors))


def find_class(member: Specification) -> type[Prior]:
    """Return the class that a specification names; errors as `resolve_prior`."""
    if member.file is None:
        return find_prior(member.name).load()
    try:
        return require_prior_class(import_class(member.file, member.name), member.text)
    except TypeError as error:
        raise PluginError(str(error)) from None


def prior_name(prior: Prior) -> str:
    """Return the name a prior is registered under, or its class's; members of a fusion are joined by `+`."""
    if isinstance(prior, FusionPrior):
        return "+".join(prior_name(member) for member in prior.members)
    entry = _registration(type(prior))
    return type(prior).__name__ if entry is None else entry.name


def prior_identity(prior: Prior) -> dict[str, Any]:
    """Return what a prior's maps depend on besides the images and `Prior.fingerprint`, as plain JSON values.

    The hash of the source tells states of a prior apart that have one version, as while it is written.
    """
    entry = _registration(type(prior))
    return {
        "name": prior_name(prior),
        "class": target_of(type(prior)),
        "package": None if entry is None else entry.package,
        "source": _source_hash(type(prior)),
        "options": {option.name: _plain(getattr(prior, option.name)) for option in options_of(type(prior))},
    }


_at_run_time: dict[str, RegisteredPrior] = {}


def _registration(prior: type[Prior]) -> RegisteredPrior | None:
    return next((entry for entry in installed_priors().values() if entry.provides(prior)), None)


def _option_mapping(options: Sequence[str] | Mapping[str, object]) -> dict[str, object]:
    if isinstance(options, Mapping):
        return dict(options)
    mapping: dict[str, object] = {}
    for word in [options] if isinstance(options, str) else options:
        key, equals, value = word.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"prior option {word!r}: write it as key=value")
        if key in mapping:
            raise UsageError(f"prior option {key} is given twice")
        mapping[key] = value.strip()
    return mapping


def _share_options(
    members: Sequence[tuple[Specification, type[Prior]]], options: Mapping[str, object]
) -> list[dict[str, object]]:
    """Give each option to the member it is meant for."""
    names = [member.name for member, _ in members]
    shares: list[dict[str, object]] = [
        {} if member.pattern is None else {"pattern": member.pattern} for member, _ in members
    ]
    for key, value in options.items():
        address, dot, field = key.rpartition(".")
        field = field.replace("-", "_")
        if dot:
            takers = [index for index, name in enumerate(names) if name == address]
        elif len(members) == 1:
            takers = [0]
        else:
            takers = [
                index
                for index, (_, prior) in enumerate(members)
                if field in (option.name for option in options_of(prior))
            ]
        if not takers:
            fault = f"is called {address}" if dot else "has it; `cgckit priors show NAME` lists their options"
            raise UsageError(f"prior option {key}: none of {', '.join(names)} {fault}")
        if len(takers) > 1:
            both = " and ".join(members[index][0].text for index in takers)
            raise UsageError(f"prior option {key} could be meant for {both}: write NAME.{field}=...")
        share = shares[takers[0]]
        if field in share:
            raise UsageError(f"prior option {key} is given twice")
        share[field] = value
    return shares


def _make(member: Specification, prior: type[Prior], values: Mapping[str, object]) -> Prior:
    """Make one prior; what its constructor has against a value is the user's mistake."""
    options = read_options(member.name, options_of(prior), values)
    try:
        return prior(**options)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"prior {member.name}: {describe_error(error).partition(': ')[2]}") from None
    except Exception as error:
        raise PluginError(f"prior {member.name} cannot be made: {describe_error(error)}") from error


def _source_hash(prior: type[Prior]) -> str | None:
    """Hash the Python files of the class's package, or its own file; None for a class typed in a session."""
    digest = hashlib.sha256()
    try:
        own = Path(inspect.getfile(prior))
        in_package = bool(getattr(sys.modules.get(prior.__module__), "__package__", ""))
        for file in sorted(own.parent.glob("*.py")) if in_package else [own]:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    except (OSError, TypeError):
        return None
    return digest.hexdigest()[:16]


def _plain(value: object) -> Any:
    if isinstance(value, Prior):
        return prior_identity(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
