"""`System`: a row of the paper's Table 1, as it is named and as it is told apart from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from cgckit.cgc.settings import Settings
from cgckit.errors import CgckitError, UsageError
from cgckit.experiments.arms import BOTH, NETWORK, NNUNET, PLAIN, PRIOR, SUPERVISED, Arm, ablation
from cgckit.experiments.published import BASELINES, Published, published
from cgckit.experiments.table_one import nnunet
from cgckit.options import options_of, read_words
from cgckit.priors.base import PRIORS
from cgckit.priors.specification import read_specifications

OURS, ALL, PAPER = "ours", "all", "paper"
BASELINES_PACKAGE = "cgckit-reconstruction"
_ARMS = (SUPERVISED, NNUNET, PRIOR, PLAIN, NETWORK, BOTH)
_LAST = ("mumford-shah", "gmm")
# What is trained on a prior, by the word before its name, as arms of the ablation.
_TRAINED = {PLAIN: PLAIN, NETWORK: NETWORK, OURS: BOTH}


@dataclass(frozen=True)
class System:
    """One row.

    Attributes:
        name: as it is asked for: `gmm`, a prior alone; `ours:gmm`, refined; `plain:gmm`, self-training: a network that
            copies the prior; `network:gmm`, refined without contrast; `supervised`; `nnunet:50`, nnU-Net trained for
            50 epochs.
        prior: words that name the prior; empty for what is trained on references.
        arm: the ablation's arm that it is, or `nnunet`.
        epochs: of nnU-Net.
    """

    name: str
    prior: str
    arm: str
    epochs: int = 0

    @classmethod
    def read(cls, name: str) -> System:
        """Read a name; UsageError if it names no prior, or no length of nnU-Net's training."""
        if name == SUPERVISED:
            return cls(name, "", SUPERVISED)
        word, _, rest = name.partition(":")
        if word == NNUNET:
            if rest not in map(str, nnunet.EPOCHS):
                lengths = ", ".join(map(str, nnunet.EPOCHS))
                raise UsageError(f"--rows {name}: say its epochs, as nnunet:50; nnU-Net has trainers of {lengths}")
            return cls(name, "", NNUNET, int(rest))
        arm, prior = (_TRAINED[word], rest) if word in _TRAINED else (PRIOR, name)
        read_specifications(prior)
        return cls(name, prior, arm)

    @property
    def title(self) -> str:
        """What the row is called in a table to read."""
        titles = {
            SUPERVISED: "supervised network (uses labels)",
            NNUNET: f"nnU-Net, {self.epochs} epoch{'s' * (self.epochs > 1)} (uses labels)",
            PLAIN: f"network + P from {self.prior}, no CGC",
            NETWORK: f"Ours (P from {self.prior}) without contrast",
            BOTH: f"Ours (P from {self.prior})",
        }
        return titles.get(self.arm, self.prior)

    @property
    def uses_labels(self) -> bool:
        """Whether it is trained on references."""
        return self.arm in (SUPERVISED, NNUNET)

    @property
    def absent(self) -> str | None:
        """What the row comes with, if the paper has it and this environment has not."""
        if self.arm == NNUNET and not nnunet.is_installed():
            return "not installed: comes with nnunetv2"
        if self.prior in BASELINES and self.prior not in PRIORS.installed():
            return f"not installed: comes with {BASELINES_PACKAGE}"
        return None

    def arm_of(self, settings: Settings) -> Arm:
        """The arm that is run, under the row's name."""
        if self.arm == NNUNET:
            return Arm(self.name, "nnunet", epochs=self.epochs)
        return next(replace(arm, name=self.name) for arm in ablation(settings) if arm.name == self.arm)

    def published(self, modalities: Sequence[str]) -> Published | None:
        """The paper's figures of the row, if it has one."""
        return published(self.prior or "gmm", modalities).get(self.arm)


def paper_systems() -> tuple[System, ...]:
    """The rows of the paper's Table 1, in its order."""
    refined = ["mumford-shah", f"{OURS}:mumford-shah", "gmm", f"{PLAIN}:gmm", f"{OURS}:gmm"]
    return tuple(map(System.read, [SUPERVISED, *BASELINES, *refined]))


def all_systems() -> tuple[System, ...]:
    """The rows of the paper's Table 1 and of every other installed prior, each prior also refined.

    A baseline that is not installed is not refined. Left out are `mask`, which says nothing without a pattern, and what
    is registered for this process alone.
    """
    installed = [name for name in PRIORS.installed() if name != "mask" and name not in PRIORS.at_run_time]
    others = [System.read(f"{word}{prior}") for prior in installed for word in ("", f"{OURS}:")]
    return in_order(tuple(dict.fromkeys((*paper_systems(), *others))))


def in_order(systems: Sequence[System]) -> tuple[System, ...]:
    """The rows in the paper's order: what uses labels, its baselines, other priors, Mumford-Shah and mixture."""
    seen = list(dict.fromkeys(system.prior for system in systems))

    def place(system: System) -> tuple[int, int, int, int]:
        for group, priors in ((1, BASELINES), (3, _LAST)):
            if system.prior in priors:
                return group, priors.index(system.prior), _ARMS.index(system.arm), 0
        group = 0 if system.uses_labels else 2
        return group, seen.index(system.prior), _ARMS.index(system.arm), system.epochs

    return tuple(sorted(systems, key=place))


def choose_systems(names: Sequence[str] | None) -> tuple[System, ...]:
    """The rows of these names, in their order; `all`, or None, and `paper` stand for several.

    Raises:
        UsageError: there is none, or a name that is none.
    """
    groups = {ALL: all_systems, PAPER: paper_systems}
    found: list[System] = []
    for name in [ALL] if names is None else [name.strip() for name in names]:
        found += groups[name]() if name in groups else [System.read(name)]
    if not found:
        raise UsageError("--rows: there is none; name priors, as gmm,ours:gmm, or all, or paper")
    return tuple(dict.fromkeys(found))


def share_options(priors: Sequence[str], options: Sequence[str] | Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """The options of each prior: `key=value` is for all that have it, `NAME.key=value` for one, in its place.

    Raises:
        UsageError: an option that none of them has.
    """
    shares: dict[str, dict[str, Any]] = {prior: {} for prior in priors}
    for key, value in sorted(read_words(options, "prior option").items(), key=lambda item: "." in item[0]):
        address, _, field = key.rpartition(".")
        takers = [prior for prior in priors if _takes(prior, address, field.replace("-", "_"))]
        if not takers:
            fault = f"is called {address}" if address else "has it"
            raise UsageError(
                f"prior option {key}: no prior of these rows {fault}; `cgckit priors show NAME` lists options"
            )
        for prior in takers:
            alone = len(read_specifications(prior)) == 1
            shares[prior][field if alone else key] = value
    return shares


def _takes(prior: str, address: str, field: str) -> bool:
    members = read_specifications(prior)
    if address:
        return any(member.name == address for member in members)
    with suppress(CgckitError):  # what cannot be loaded is told where it is needed
        return any(option.name == field for member in members for option in options_of(PRIORS.load(member.target)))
    return False
