"""`Arm`: one row of an experiment's table, and the arms of the paper's ablations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cgckit.errors import UsageError

if TYPE_CHECKING:
    from cgckit.cgc.settings import Settings

PRIOR, APPEARANCE, PLAIN, NETWORK, BOTH = "prior", "appearance", "plain", "network", "both"
ORACLE, SUPERVISED, NNUNET = "oracle", "supervised", "nnunet"

_NO_CONTRAST: Mapping[str, object] = {"weight_coarse": 0.0, "weight_fine": 0.0}
_EVERY_VOXEL: Mapping[str, object] = dict.fromkeys(
    ("untrusted_inner", "untrusted_outer", "untrusted_doubt", "prior_weight", "appearance_weight"), 0.0
)
# Parts of the crop that the paper's patches are: 12x12x4, 6x6x4 and 3x3x4 of the 24x24x8 that its encoder gives.
_PATCHES = {"patch-12x12x4": (2, 2, 2), "patch-6x6x4": (4, 4, 2), "patch-3x3x4": (8, 8, 2)}
_TEMPERATURES = {f"temperature-{value:g}": value for value in (0.07, 0.1, 0.2, 0.3, 0.7, 0.9)}

GROUPS: Mapping[str, tuple[str, ...]] = {
    "paths": (PRIOR, APPEARANCE, PLAIN, NETWORK, "coarse", "fine", BOTH),
    "patches": tuple(_PATCHES),
    "temperatures": tuple(_TEMPERATURES),
    "bounds": (ORACLE, SUPERVISED),
}
"""Names of the ablation's arms, by the part of the paper's tables that they belong to."""


@dataclass(frozen=True)
class Arm:
    """What is trained, on what, to be scored.

    Attributes:
        name: of the row.
        target: what the network is trained on: the "prior", or the "references", which is an upper bound that uses
            labels. Without a network, the "nothing" that is trained leaves the prior itself to be scored,
            "appearance" the prior with the subject's own appearance model, and "threshold" the prior cut where the
            subject's reference says, a bound too. "nnunet" is nnU-Net's own network, trained on the references.
        changes: settings that differ from the experiment's.
        epochs: of nnU-Net's training.
    """

    name: str
    target: Literal["nothing", "appearance", "threshold", "prior", "references", "nnunet"] = "prior"
    changes: Mapping[str, object] = field(default_factory=dict)
    epochs: int = 0

    @property
    def uses_labels(self) -> bool:
        """Whether labels reach its masks."""
        return self.target == "threshold" or self.learns_labels

    @property
    def learns_labels(self) -> bool:
        """Whether it is trained on references, and so to be scored on other subjects."""
        return self.target in ("references", "nnunet")

    @property
    def trained(self) -> bool:
        """Whether it has a network of cgckit's."""
        return self.target in ("prior", "references")


THE_PRIOR = Arm(PRIOR, "nothing")


def ablation(settings: Settings) -> tuple[Arm, ...]:
    """The arms of the paper's Tables 2 and 3 around `settings`, and the supervised bound of the same backbone.

    `prior` is P itself, `appearance` is P with the subject's own appearance model: what refinement gives without any
    network; `oracle` is P cut at the threshold with the best Dice, subject by subject. `plain` is plain self-training,
    the paper's backbone + P: trained on every voxel of P, and the network alone gives the result. `network` is
    `settings` without the two paths, which with the paper's preset is the same; `coarse` and `fine` add one of the
    paths; `both` is `settings` as they stand. Patches are the paper's shares of the crop (its 6x6x4 is a quarter by a
    quarter by a half of the encoder's grid), rounded to at least one voxel: smaller crops then have about as many
    patches to contrast as the paper's.
    """
    content = [size // 8 for size in settings.crop]
    sizes = {
        name: tuple(max(1, round(voxels / part)) for voxels, part in zip(content, parts, strict=True))
        for name, parts in _PATCHES.items()
    }
    return (
        THE_PRIOR,
        Arm(APPEARANCE, "appearance"),
        Arm(PLAIN, changes={**_NO_CONTRAST, **_EVERY_VOXEL}),
        Arm(NETWORK, changes=_NO_CONTRAST),
        Arm("coarse", changes={"weight_fine": 0.0}),
        Arm("fine", changes={"weight_coarse": 0.0}),
        Arm(BOTH),
        *(Arm(name, changes={"patch_size": size}) for name, size in sizes.items()),
        *(Arm(name, changes={"temperature": value}) for name, value in _TEMPERATURES.items()),
        Arm(ORACLE, "threshold"),
        Arm(SUPERVISED, "references", {**_NO_CONTRAST, **_EVERY_VOXEL}),
    )


def choose_arms(arms: Sequence[Arm], names: Sequence[str] | None) -> tuple[Arm, ...]:
    """Those of `arms` whose name or group is in `names`, or all if it is None.

    The prior is always among them: it is what the others are compared with.

    Raises:
        UsageError: a name that is neither an arm's nor a group's.
    """
    if names is None:
        return tuple(arms)
    known = {**{arm.name: (arm.name,) for arm in arms}, **GROUPS}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--arms: there is no {', '.join(unknown)}; choose from {', '.join(known)}")
    wanted = {name for group in names for name in known[group]}
    return tuple(arm for arm in arms if arm.name in wanted or arm == THE_PRIOR)
