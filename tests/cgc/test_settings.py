"""Settings and presets: what they refuse, how they are overridden, and which one is picked."""

from __future__ import annotations

import numpy as np
import pytest

from cgckit.cgc.settings import PRESETS, InferenceSettings, Settings, TrainingSettings, choose_preset
from cgckit.errors import UsageError
from cgckit.options import options_of


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("spacing", "1.5", 1.5),
        ("steps", "7", 7),
        ("crop", "64x64x32", (64, 64, 32)),
        ("patch_size", "1,2,3", (1, 2, 3)),
        ("augment", "false", False),
        ("augment", "True", True),
        ("scope", "batch", "batch"),
        ("steps", 7, 7),
        ("widths", [4, 8, 8, 8], (4, 8, 8, 8)),
        ("learning_rate", 1e-5, 1e-5),
        ("augment", False, False),
        ("augment", "no", False),
        ("crop", "(64, 64, 32)", (64, 64, 32)),
        ("steps", 500.0, 500),
        ("steps", np.int64(7), 7),
        ("learning_rate", np.float32(0.5), 0.5),
    ],
)
def test_overrides_are_read_as_the_settings_type(name: str, text: object, value: object) -> None:
    assert getattr(Settings(steps=1).override({name: text}), name) == value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tempreature": "1"}, "did you mean temperature"),
        ({"steps": "many"}, "whole number"),
        ({"steps": 1.5}, "whole number"),
        ({"steps": True}, "whole number"),
        ({"learning_rate": "1e400"}, "above 0"),
        ({"widths": (8, 16)}, "4 whole numbers"),
        ({"crop": 48}, "3 whole numbers"),
        ({"crop": "64x64"}, "3 whole numbers"),
        ({"scope": "cohort"}, "image or batch"),
        ({"augment": "maybe"}, "true or false"),
        ({"temperature": "0"}, "temperature"),
        ({"temperature": "-0.2"}, "temperature"),
        ({"crop": "50x48x48"}, "multiples of 8"),
        ({"patch_size": "9x2x2"}, "spans more than"),
        ({"patch_size": "0x2x2"}, "from 1 to 128"),
        ({"widths": "0x8x8x8"}, "from 1 to 1024"),
        ({"steps": "0"}, "steps and epochs"),
        ({"weight_fine": "-1"}, "from 0 to"),
        ({"lesion_share": "1.5"}, "lesion_share"),
        ({"overlap": "1"}, "overlap"),
        ({"spacing": "nan"}, "spacing"),
        ({"learning_rate": "inf"}, "learning_rate"),
    ],
)
def test_bad_overrides_are_refused_in_words(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(steps=1).override(values)


def test_a_word_that_is_no_choice_is_refused_from_python_too() -> None:
    with pytest.raises(UsageError, match="precision: 'bfloat16' is not auto or float32"):
        Settings(steps=1, precision="bfloat16")  # type: ignore[arg-type]


def test_settings_survive_json() -> None:
    for settings in PRESETS.values():
        assert Settings.from_json(settings.to_json()) == settings


def test_paper_preset_is_the_papers() -> None:
    paper = PRESETS["paper"]
    assert (paper.crop, paper.batch, paper.learning_rate) == ((192, 192, 64), 2, 1e-4)
    assert (paper.epochs, paper.temperature, paper.patch_size) == (400, 0.2, (6, 6, 4))
    assert paper.widths == (32, 64, 128, 256)
    assert (paper.weight_coarse, paper.weight_fine) == (1.0, 1.0)
    alone = (paper.mirror, paper.lesion_share, paper.prior_weight, paper.appearance_weight)
    assert alone == (False, 0, 0, 0), "crops at random, and the network alone gives the result"
    assert paper.total_steps(cohort_size=10) == 400 * 10 / 2


def test_patches_of_the_light_preset_are_at_most_32_mm() -> None:
    light = PRESETS["light"]
    assert max(light.patch_size) * 8 * light.spacing <= 32


def test_auto_is_light_and_sees_each_scan_of_a_large_cohort() -> None:
    for size, steps in ((1, 500), (6, 500), (50, 2000), (10_000, 4000)):
        name, settings = choose_preset("auto", cohort_size=size)
        assert (name, settings.steps) == ("light", steps)


def test_a_preset_asked_for_by_name_is_given_as_it_is() -> None:
    for name, settings in PRESETS.items():
        assert choose_preset(name, cohort_size=1000) == (name, settings)


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="auto, light, paper"):
        choose_preset("fast", cohort_size=1)


def test_settings_are_two_halves_that_know_their_own() -> None:
    whole = Settings(steps=7, overlap=0.5)
    assert whole.training == TrainingSettings(steps=7)
    assert whole.inference == InferenceSettings(overlap=0.5)
    assert Settings.of(whole.training, whole.inference) == whole
    assert whole.training.to_json().keys().isdisjoint(whole.inference.to_json())
    assert whole.to_json() == whole.training.to_json() | whole.inference.to_json()


def test_every_setting_is_documented() -> None:
    assert [option.name for option in options_of(Settings) if not option.doc] == []


@pytest.mark.parametrize("values", [[], None, {"steps": "many"}, {"steps": 5, "crop": [0, 0, 0]}, {"colour": "red"}])
def test_what_is_no_set_of_settings_is_refused_in_words(values: object) -> None:
    with pytest.raises(UsageError, match="settings"):
        Settings.from_json(values)
