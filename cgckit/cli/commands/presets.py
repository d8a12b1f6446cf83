"""`cgckit presets`."""

from __future__ import annotations


def presets() -> None:
    """Print every setting with its value in each preset; `--set name=value` replaces one.

    Example:

        cgckit presets
    """
    import dataclasses

    from cgckit.cgc.presets import PRESETS, Settings
    from cgckit.cli.tables import show_table

    rows = []
    for field in dataclasses.fields(Settings):
        values = {name: getattr(settings, field.name) for name, settings in PRESETS.items()}
        shown = {name: "x".join(map(str, v)) if isinstance(v, tuple) else str(v) for name, v in values.items()}
        rows.append({"setting": field.name, **shown, "meaning": field.metadata["help"]})
    show_table(rows, title="Presets; `auto` is `light`, with more steps for more than twelve subjects")
