"""From the words of a user to a `Prior`, and what it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from cgckit.errors import UsageError
from cgckit.options import options_of, read_words
from cgckit.priors.base import PRIORS, Prior
from cgckit.priors.fusion import FusionPrior
from cgckit.priors.specification import Specification, read_specifications

P = TypeVar("P", bound=type[Prior])


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
    return PRIORS.register(name)


def resolve_prior(spec: str | Prior, options: Sequence[str] | Mapping[str, object] = ()) -> Prior:
    """Make the prior that the user asks for, with its options checked, or take one as it is.

    Args:
        spec: a registered name, `mask:PATTERN`, `FILE.py:Class`, or several of these joined by `+`: the mean; or a
            prior.
        options: `key=value` words, or a mapping whose values are text or of the option's own type. With
            several priors `name.key` addresses one of them; a bare key goes to the only one that has it.

    Raises:
        UsageError: an unknown prior or option, a bad value, a key that several of the priors have, or what is no prior.
        PluginError: the plug-in, or FILE.py, cannot be imported, or is no prior.
    """
    if not isinstance(spec, str):
        return PRIORS.take(spec, options)
    members = [(member, PRIORS.load(member.target)) for member in read_specifications(spec)]
    shares = _share_options(members, read_words(options, "prior option"))
    priors = [PRIORS.make(kind, member.name, share) for (member, kind), share in zip(members, shares, strict=True)]
    return priors[0] if len(priors) == 1 else FusionPrior(tuple(priors))


def prior_name(prior: Prior) -> str:
    """Return the name a prior is registered under, or its class's; members of a fusion are joined by `+`."""
    if isinstance(prior, FusionPrior):
        return "+".join(prior_name(member) for member in prior.members)
    return PRIORS.name(prior)


def prior_identity(prior: Prior) -> dict[str, Any]:
    """Return what a prior's maps depend on besides the images and `Prior.fingerprint`, as plain JSON values."""
    identity = {**PRIORS.identity(prior), "name": prior_name(prior)}
    if isinstance(prior, FusionPrior):
        identity["options"] = {"members": [prior_identity(member) for member in prior.members]}
    return identity


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
            fault = f"is called {address}" if dot else "has it; `cgckit plugins show NAME` lists their options"
            raise UsageError(f"prior option {key}: none of {', '.join(names)} {fault}")
        if len(takers) > 1:
            both = " and ".join(members[index][0].text for index in takers)
            raise UsageError(f"prior option {key} could be meant for {both}: write NAME.{field}=...")
        share = shares[takers[0]]
        if field in share:
            raise UsageError(f"prior option {key} is given twice")
        share[field] = value
    return shares
