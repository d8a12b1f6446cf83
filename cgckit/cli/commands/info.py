"""`cgckit info` and `cgckit presets`: what this installation is, and what can be set."""

from __future__ import annotations

from cgckit.cli import options


def info(verbose: options.Verbose = False) -> None:
    """Print versions, the native extension, the instruction set and the CUDA devices: what a bug report needs.

    Example:

        cgckit info
    """
    import torch

    from cgckit.cli.tables import show_table
    from cgckit.contrast import build_information, ops
    from cgckit.pipeline.provenance import versions

    facts = dict(versions())
    if ops.MISSING is not None:
        facts["extension"] = f"none: {ops.MISSING}"
    facts |= {f"extension {name}": str(value) for name, value in build_information().items()}
    facts["threads"] = str(torch.get_num_threads())
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    facts["cuda devices"] = ", ".join(devices) or "none"
    show_table([{"what": name, "value": value} for name, value in facts.items()], title="cgckit on this machine")


def presets(verbose: options.Verbose = False) -> None:
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
