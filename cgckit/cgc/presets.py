"""Settings of the CGC network, its objective and its training, and the presets that name useful sets of them."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cgckit.arrays import Shape
from cgckit.errors import UsageError


def _setting(default: Any, description: str) -> Any:
    return field(default=default, metadata={"help": description})


@dataclass(frozen=True)
class Settings:
    """Everything that shapes training and inference; each field can be overridden with `--set name=value`.

    The defaults are those of the `light` preset. Sizes are in voxels of the network's working grid unless they say
    otherwise; `patch_size` is in voxels of the encoder's grid, which is eight times coarser.
    """

    spacing: float = _setting(2.0, "edge of the network's working grid [mm]")
    crop: Shape = _setting((48, 48, 48), "training crop [voxels], multiples of 8")
    batch: int = _setting(2, "crops a step")
    steps: int = _setting(0, "optimiser steps; 0 derives them from epochs")
    epochs: int = _setting(0, "passes over the cohort, one crop a subject each; used where steps is 0")
    learning_rate: float = _setting(5e-3, "Adam's learning rate")
    schedule: Literal["constant", "cosine"] = _setting("cosine", "course of the learning rate")
    widths: tuple[int, int, int, int] = _setting((8, 16, 32, 64), "channels of the four levels, finest first")
    projection: int = _setting(64, "channels of the projection in front of the patchwise contrast")
    weight_coarse: float = _setting(1.0, "weight of the coarse-grained path; 0 switches it off")
    weight_fine: float = _setting(1.0, "weight of the fine-grained path; 0 switches it off")
    patch_size: Shape = _setting((1, 1, 1), "patch of the fine-grained path [voxels of the encoder's grid]")
    patch_threshold: float = _setting(0.1, "mean prior probability from which a patch is positive")
    temperature: float = _setting(0.2, "temperature of the patchwise contrast")
    scope: Literal["image", "batch"] = _setting("image", "whose patches are contrasted: one crop's or the batch's")
    untrusted_inner: float = _setting(1.0, "lesion voxels this near the prior's edge are not trained on [mm]")
    untrusted_outer: float = _setting(5.0, "other voxels this near the prior's edge are not trained on [mm]")
    untrusted_doubt: float = _setting(0.2, "voxels whose prior is nearer to 0.5 than this are not trained on")
    lesion_share: float = _setting(0.5, "share of crops that are centred on a voxel of the prior's lesion")
    augment: bool = _setting(True, "mirror, rescale and add noise to the crops")
    precision: Literal["auto", "float32"] = _setting("auto", "auto: bfloat16 where CUDA has it")
    overlap: float = _setting(0.25, "overlap of neighbouring windows at inference")
    prior_weight: float = _setting(0.5, "weight of the prior's log-odds beside the network's")
    prior_reach: float = _setting(20.0, "distance from its edge up to which the prior's log-odds grow [mm]")
    appearance_weight: float = _setting(1.0, "weight of the subject's own appearance model; 0 switches it off")
    min_lesion: float = _setting(50.0, "connected parts of the refined mask below this are dropped [mm^3]")
    min_consent: float = _setting(0.67, "share of a connected part that the network alone must call lesion; 0: none")
    fill_cores: bool = _setting(True, "count dark cores that the refined mask encloses as lesion")
    mirror: bool = _setting(True, "average the inference over left-right mirroring")
    uncertainty_views: int = _setting(0, "augmented views for a map of uncertainty, 8 for instance; 0 writes none")

    def __post_init__(self) -> None:
        positive = ("spacing", "batch", "learning_rate", "projection", "temperature", "prior_reach")
        problems = [f"{name} must be a number above 0" for name in positive if not 0 < getattr(self, name) < math.inf]
        for name, hint in typing.get_type_hints(Settings).items():
            allowed = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
            if allowed and getattr(self, name) not in allowed:
                problems.append(f"{name} must be {' or '.join(allowed)}")
        if any(size < 16 or size % 8 for size in self.crop):
            problems.append(f"crop must be multiples of 8 from 16 on, got {self.crop}")
        if any(size < 1 for size in self.patch_size):
            problems.append(f"patch_size must be positive, got {self.patch_size}")
        if any(8 * p > c for p, c in zip(self.patch_size, self.crop, strict=True)):
            problems.append(f"a patch of {self.patch_size} spans more than a crop of {self.crop}")
        if any(width < 1 for width in self.widths):
            problems.append(f"widths must be positive, got {self.widths}")
        if self.steps < 0 or self.epochs < 0 or self.steps + self.epochs == 0:
            problems.append("one of steps and epochs must be above 0")
        for name in (
            "weight_coarse",
            "weight_fine",
            "prior_weight",
            "appearance_weight",
            "untrusted_inner",
            "untrusted_outer",
            "min_lesion",
        ):
            if not 0 <= getattr(self, name) < math.inf:
                problems.append(f"{name} must not be negative")
        for name in ("patch_threshold", "lesion_share", "untrusted_doubt", "min_consent"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"{name} must lie in [0, 1]")
        if self.uncertainty_views < 0 or self.uncertainty_views == 1:
            problems.append("uncertainty_views must be 0, or 2 and more")
        if not 0 <= self.overlap < 1:
            problems.append("overlap must lie in [0, 1)")
        if problems:
            raise UsageError("settings: " + "; ".join(problems))

    def total_steps(self, cohort_size: int) -> int:
        """Optimiser steps for a cohort of that size."""
        return self.steps or max(1, round(self.epochs * cohort_size / self.batch))

    def override(self, values: Mapping[str, object]) -> Settings:
        """Return a copy with some values replaced; they are read as on the command line.

        Raises:
            UsageError: no such setting, or a value that is not of its type.
        """
        hints = typing.get_type_hints(Settings)
        parsed: dict[str, Any] = {}
        for name, value in values.items():
            if name not in hints:
                close = difflib.get_close_matches(name, hints, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise UsageError(f"unknown setting {name!r}: {hint}settings are {', '.join(hints)}")
            text = "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
            parsed[name] = _parse(name, text, hints[name])
        return dataclasses.replace(self, **parsed)

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """The inverse of `to_json`."""
        typed: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**typed)


def _parse(name: str, text: str, hint: Any) -> Any:
    """Read `text` as a value of the type `hint`; tuples as 6x6x4 or 6,6,4."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    try:
        if origin is tuple:
            parts = text.replace("x", ",").replace("-", ",").split(",")
            if len(parts) != len(arguments):
                raise ValueError
            return tuple(kind(part) for kind, part in zip(arguments, parts, strict=True))
        if origin is Literal:
            if text not in arguments:
                raise ValueError
            return text
        if hint is bool:
            return {"true": True, "false": False}[text.lower()]
        return hint(text)
    except (KeyError, ValueError):
        kind = " or ".join(map(str, arguments)) if origin is Literal else _describe(hint)
        raise UsageError(f"setting {name} takes {kind}, got {text!r}") from None


def _describe(hint: Any) -> str:
    if isinstance(hint, types.GenericAlias):
        count = len(typing.get_args(hint))
        return f"{count} numbers like {'x'.join(['8'] * count)}"
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(hint, str(hint))


PRESETS: dict[str, Settings] = {
    "light": Settings(steps=500),
    "paper": Settings(
        spacing=1.0,
        crop=(192, 192, 64),
        batch=2,
        epochs=400,
        learning_rate=1e-4,
        schedule="constant",
        widths=(32, 64, 128, 256),
        projection=128,
        patch_size=(6, 6, 4),
        untrusted_inner=0.0,
        untrusted_outer=0.0,
        untrusted_doubt=0.0,
        prior_weight=0.0,
        appearance_weight=0.0,
        min_lesion=0.0,
        min_consent=0.0,
        fill_cores=False,
        lesion_share=0.0,
        mirror=False,
    ),
}
"""`light`: a coarse working grid, small crops, patches of 16 mm, fixed steps. `paper`: Yu, Zhao et al., as far as they
tell; of augmentation they say nothing."""


def choose_preset(name: str, *, cohort_size: int) -> tuple[str, Settings]:
    """Resolve a preset's name; `auto` is `light` with 40 steps a subject for large cohorts, up to 4,000.

    So each scan is still seen. `auto` does not take `paper` however large the device: that is unmeasured, and a network
    of `light`'s size that copies its prior, as `paper`'s does, came out below the prior (README, `plain`).

    Args:
        name: "auto" or a preset.
        cohort_size: number of subjects to train on.

    Raises:
        UsageError: no such preset.
    """
    if name == "auto":
        light = PRESETS["light"]
        return "light", dataclasses.replace(light, steps=max(light.steps, min(40 * cohort_size, 4000)))
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}: choose auto, {', '.join(PRESETS)}")
    return name, PRESETS[name]
