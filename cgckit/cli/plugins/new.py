"""`cgckit plugins new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cgckit.cli import options


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What users will call it, as left-right.")],
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="prior, brain or metric.")] = "prior",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the package; by default cgckit-NAME.")
    ] = None,
    verbose: options.Verbose = False,
) -> None:
    """Write a package to start a plug-in of your own from: it works, and its tests pass, as it stands.

    Examples:

        cgckit plugins new left-right

        cgckit plugins new surface-error --kind metric --out packages/surface-error
    """
    from cgckit.errors import UsageError
    from cgckit.evaluation import METRICS
    from cgckit.images.brain import BRAINS
    from cgckit.plugins import Group
    from cgckit.plugins.template import PREFIX, write_template
    from cgckit.priors.base import PRIORS

    groups: dict[str, Group[Any]] = {"prior": PRIORS, "brain": BRAINS, "metric": METRICS}
    taken = groups[kind].installed().get(name.removeprefix(PREFIX)) if kind in groups else None
    if taken is not None:
        raise UsageError(f"{name} is the name of {taken.package}'s {taken.noun}: choose another")
    folder = write_template(name, kind, out)
    print(folder)
