"""Settings of the CGC network: of its training, of its application, and the presets that name useful sets of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from typing_extensions import Self

from cgckit.arrays import Shape
from cgckit.errors import UsageError
from cgckit.options import (
    POSITIVE,
    SHARE,
    Range,
    check_fields,
    from_json,
    options_of,
    read_words,
    replace_fields,
    to_json,
)

# A step of the preset `paper` has 5e6 voxels.
_MOST_VOXELS = 2**27


class _Settings:
    """What all settings can do."""

    def __post_init__(self) -> None:
        check_fields(self, "settings")

    def override(self, values: Mapping[str, object]) -> Self:
        """Return a copy with some values replaced; text is read as on the command line.

        Raises:
            UsageError: no such setting, or a value that it does not take.
        """
        return replace_fields(self, _owner(type(self), values), values, "cgckit presets")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return to_json(self)

    @classmethod
    def from_json(cls, values: object) -> Self:
        """The inverse of `to_json`; UsageError for values that are none."""
        return from_json(cls, "settings", values)


@dataclass(frozen=True)
class TrainingSettings(_Settings):
    """What shapes the network and its training. The defaults are those of the `light` preset, but for `steps`.

    Sizes are in voxels of the network's working grid unless they say otherwise; `patch_size` is in voxels of the
    encoder's grid, which is eight times coarser.

    Attributes:
        spacing: edge of the network's working grid [mm]
        crop: training crop [voxels], multiples of 8
        batch: crops a step
        steps: optimiser steps; 0 derives them from epochs
        epochs: passes over the cohort, one crop a subject each; used where steps is 0
        learning_rate: Adam's learning rate
        schedule: course of the learning rate
        widths: channels of the four levels, finest first
        projection: channels of the projection in front of the patchwise contrast
        weight_coarse: weight of the coarse-grained path; 0 switches it off
        weight_fine: weight of the fine-grained path; 0 switches it off
        patch_size: patch of the fine-grained path [voxels of the encoder's grid]
        patch_threshold: mean prior probability from which a patch is positive
        temperature: temperature of the patchwise contrast
        scope: whose patches are contrasted: one crop's or the batch's
        untrusted_inner: lesion voxels this near the prior's edge are not trained on [mm]
        untrusted_outer: other voxels this near the prior's edge are not trained on [mm]
        untrusted_doubt: voxels whose prior is nearer to 0.5 than this are not trained on
        lesion_share: share of crops that are centred on a voxel of the prior's lesion
        augment: mirror, rescale and add noise to the crops
        precision: auto: bfloat16 where CUDA has it
    """

    spacing: Annotated[float, Range(0.5, 16)] = 2.0
    crop: Annotated[Shape, Range(16, 1024)] = (48, 48, 48)
    batch: Annotated[int, Range(1, 1024)] = 2
    steps: Annotated[int, Range(0, 1e7)] = 0
    epochs: Annotated[int, Range(0, 1e6)] = 0
    learning_rate: Annotated[float, POSITIVE] = 5e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    widths: Annotated[tuple[int, int, int, int], Range(1, 1024)] = (8, 16, 32, 64)
    projection: Annotated[int, Range(1, 1024)] = 64
    weight_coarse: Annotated[float, Range(0, 1e6)] = 1.0
    weight_fine: Annotated[float, Range(0, 1e6)] = 1.0
    patch_size: Annotated[Shape, Range(1, 128)] = (1, 1, 1)
    patch_threshold: Annotated[float, SHARE] = 0.1
    temperature: Annotated[float, Range(0.001, 1000)] = 0.2
    scope: Literal["image", "batch"] = "image"
    untrusted_inner: Annotated[float, Range(0, 1000)] = 1.0
    untrusted_outer: Annotated[float, Range(0, 1000)] = 5.0
    untrusted_doubt: Annotated[float, SHARE] = 0.2
    lesion_share: Annotated[float, SHARE] = 0.5
    augment: bool = True
    precision: Literal["auto", "float32"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(size % 8 for size in self.crop):
            raise UsageError(f"settings: crop must be multiples of 8, got {self.crop}")
        if self.batch * math.prod(self.crop) > _MOST_VOXELS:
            crops = f"{self.batch} crops of {'x'.join(map(str, self.crop))}"
            raise UsageError(f"settings: {crops} a step are {self.batch * math.prod(self.crop):.0e} voxels, too many")
        if any(8 * p > c for p, c in zip(self.patch_size, self.crop, strict=True)):
            raise UsageError(f"settings: a patch of {self.patch_size} spans more than a crop of {self.crop}")
        if self.steps + self.epochs == 0:
            raise UsageError("settings: one of steps and epochs must be above 0")

    def total_steps(self, cohort_size: int, processes: int = 1) -> int:
        """Optimiser steps for a cohort of that size, by processes that each draw a batch a step."""
        return self.steps or max(1, round(self.epochs * cohort_size / (self.batch * processes)))


@dataclass(frozen=True)
class InferenceSettings(_Settings):
    """What shapes the maps that a trained network gives. A change of it needs no training.

    Attributes:
        overlap: overlap of neighbouring windows at inference
        network_weight: weight of the network's log-odds beside a prior that it was trained on
        starting_weight: weight of the starting network's log-odds beside such a prior; it is not asked about CT
        prior_weight: weight of the prior's log-odds
        prior_reach: distance from its edge up to which the prior's log-odds grow [mm]
        appearance_weight: weight of the subject's own appearance model; 0 switches it off
        min_lesion: connected parts of the refined mask below this are dropped [mm^3]
        min_consent: share of a connected part that the network alone must call lesion; 0: none
        fill_cores: count dark cores that the refined mask encloses as lesion
        mirror: average the inference over left-right mirroring
        uncertainty_views: augmented views for a map of uncertainty, 2 or more, 8 for instance; 0 writes none
    """

    overlap: Annotated[float, Range(0, 0.9)] = 0.25
    network_weight: Annotated[float, Range(0, 1e6, open_low=True)] = 0.1
    starting_weight: Annotated[float, Range(0, 1e6)] = 0.25
    prior_weight: Annotated[float, Range(0, 1e6)] = 0.5
    prior_reach: Annotated[float, Range(0, 1000, open_low=True)] = 20.0
    appearance_weight: Annotated[float, Range(0, 1e6)] = 1.0
    min_lesion: Annotated[float, Range(0, 1e7)] = 50.0
    min_consent: Annotated[float, SHARE] = 0.67
    fill_cores: bool = True
    mirror: bool = True
    uncertainty_views: Annotated[int, Range(0, 1000)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.uncertainty_views == 1:
            raise UsageError("settings: uncertainty_views must be 0, or 2 and more")


@dataclass(frozen=True)
class Settings(InferenceSettings, TrainingSettings):
    """All settings: those of the training and those of the inference, each by its name.

    Example:
        >>> settings = Settings(steps=500, min_lesion=0)
        >>> settings.inference.override({"mirror": "no"}).mirror
        False
    """

    @classmethod
    def of(cls, training: TrainingSettings, inference: InferenceSettings) -> Self:
        """Put the two halves together."""
        halves = {TrainingSettings: training, InferenceSettings: inference}
        return cls(**{o.name: getattr(half, o.name) for kind, half in halves.items() for o in options_of(kind)})

    @property
    def training(self) -> TrainingSettings:
        """The half that shapes the training."""
        return TrainingSettings(**{o.name: getattr(self, o.name) for o in options_of(TrainingSettings)})

    @property
    def inference(self) -> InferenceSettings:
        """The half that shapes the maps."""
        return InferenceSettings(
            **{option.name: getattr(self, option.name) for option in options_of(InferenceSettings)}
        )


def _owner(kind: type, values: Mapping[str, object]) -> str:
    """How a message begins; it says so where a setting of the other half is given."""
    others = {option.name for option in options_of(Settings)} - {option.name for option in options_of(kind)}
    misplaced = [name for name in values if name in others]
    if misplaced and kind is InferenceSettings:
        raise UsageError(f"settings: {misplaced[0]} shapes the training, and the network is trained already")
    return "settings"


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
        network_weight=1.0,
        starting_weight=0.0,
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


def choose_settings(
    preset: str, given: _Settings | Mapping[str, object] | Sequence[str] | None, *, cohort_size: int
) -> tuple[str | None, Settings]:
    """The settings that a user asks for, and the name of the preset that they begin with, if any.

    Args:
        preset: see `choose_preset`.
        given: all settings; one half of them, the other being the preset's; or values that replace the preset's, as a
            mapping or `KEY=VALUE` words.
        cohort_size: number of subjects to train on.

    Raises:
        UsageError: no such preset or setting, or a value that it does not take.
    """
    if isinstance(given, Settings):
        return None, given
    name, chosen = choose_preset(preset, cohort_size=cohort_size)
    if isinstance(given, TrainingSettings):
        return name, Settings.of(given, chosen.inference)
    if isinstance(given, InferenceSettings):
        return name, Settings.of(chosen.training, given)
    if not isinstance(given, Mapping | Sequence | None):
        raise UsageError(f"a {type(given).__name__} is no settings: give cgckit.Settings, or values by name")
    return name, chosen.override(read_words(given, "setting"))


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
