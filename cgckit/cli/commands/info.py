"""`cgckit info`."""

from __future__ import annotations


def info() -> None:
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
