"""`cgckit presets`."""

from __future__ import annotations


def presets() -> None:
    """Print every setting with its value in each preset; `--set name=value` replaces one.

    Those of inference can be changed after a run without training again, also with `cgckit predict`.

    Example:

        cgckit presets
    """
    from cgckit.cgc.settings import PRESETS, InferenceSettings, TrainingSettings
    from cgckit.cli.tables import show_table
    from cgckit.options import options_of
    from cgckit.options.values import format_value

    rows = [
        {"setting": option.name, "of": half}
        | {name: format_value(getattr(settings, option.name)) for name, settings in PRESETS.items()}
        | {"meaning": option.doc}
        for half, kind in (("training", TrainingSettings), ("inference", InferenceSettings))
        for option in options_of(kind)
    ]
    show_table(rows, title="Presets; `auto` is `light`, with more steps for more than twelve subjects")
