"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgckit.cli.config import read_config
from cgckit.cli.log import hide_log, show_details
from cgckit.errors import LeftOutError

if TYPE_CHECKING:
    from cgckit.images.cohort import Cohort
    from cgckit.pipeline.result import Run


def read_path(text: str) -> Path:
    """Read a path; an empty one would mean the working directory."""
    if not str(text).strip():
        raise typer.BadParameter("the name is empty; give one, as refined/")
    return Path(text)


def registered(group: str) -> Callable[[str], list[str]]:
    """Completes a word by the names that an entry-point group has; none of what they name is imported."""

    def complete(incomplete: str) -> list[str]:
        from importlib.metadata import entry_points

        return sorted({entry.name for entry in entry_points(group=group) if entry.name.startswith(incomplete)})

    return complete


Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="Images, a folder (of subjects, BIDS, nnU-Net, ...), or a table (.tsv: subject, a column a modality).",
        show_default=False,
    ),
]
Prior = Annotated[
    str,
    typer.Option(
        help="A name of `cgckit priors list`, mask:PATTERN with {subject}, FILE.py:Class, or a+b to average two.",
        autocompletion=registered("cgckit.priors"),
    ),
]
PriorOptions = Annotated[
    list[str] | None,
    typer.Option("--prior-option", metavar="KEY=VALUE", help="An option of the prior; may be repeated."),
]
Preset = Annotated[str, typer.Option(help="auto, light or paper; see `cgckit presets`.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the preset; may be repeated."),
]
Brain = Annotated[
    str,
    typer.Option(
        help="How the brain is found where no mask is given: a name of `cgckit plugins list`, FILE.py:Class.",
        autocompletion=registered("cgckit.brains"),
    ),
]
BrainOptions = Annotated[
    list[str] | None,
    typer.Option("--brain-option", metavar="KEY=VALUE", help="An option of the brain extractor; may be repeated."),
]
Registration = Annotated[
    str,
    typer.Option(
        help="How scans that are not prepared are aligned with the first: rigid, or FILE.py:Class.",
        autocompletion=registered("cgckit.registrations"),
    ),
]
RegistrationOptions = Annotated[
    list[str] | None,
    typer.Option("--registration-option", metavar="KEY=VALUE", help="An option of the registration; may be repeated."),
]
Prepared = Annotated[
    str,
    typer.Option(
        metavar="auto|yes|no|FILE.tsv",
        help="Which scans are aligned and stripped already: auto finds out; a table has columns subject and prepared.",
    ),
]
OwnGrids = Annotated[
    bool, typer.Option("--own-grids", help="Write masks on the grid of every other scan of a subject too.")
]
Out = Annotated[Path, typer.Option(help="Folder of the outputs.", show_default=False, metavar="DIR", parser=read_path)]
Modalities = Annotated[str | None, typer.Option(metavar="A,B,...", help="Use only these modalities, in this order.")]
FilterFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="JSON with BIDS entities of wanted images by modality, as BIDS-Apps take it."),
]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Accept subjects that lack a modality.")]
Exclude = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.tsv",
        help="Leave out whom this table rates bad, as ratings.tsv of `cgckit report`; without ratings, all in it.",
        show_default=False,
        parser=read_path,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Start over: remove what runs left in --out, cached priors too.")
]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="Take options that are not given here from this file, as the config.toml that a run leaves in --out.",
        show_default=False,
        is_eager=True,
        callback=read_config,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Read the scans and say what would be done with each; write nothing."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Let the first subject that cannot be used end the run; else it is left out.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", min=1, help="Processes that work on subjects at once; they share the cores.")
]
Scheduler = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="A dask scheduler, as tcp://node1:8786, whose workers do it.")
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=hide_log, help="No progress bars, no log lines: nothing but an error."),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=show_details, help="Log more, and show the traceback of an error.")
]


def filtered(
    inputs: list[str], filter_file: Path | None, modalities: list[str] | None, allow_missing: bool
) -> Cohort | list[str]:
    """The inputs, or with a filter file the cohort that it leaves of them."""
    if filter_file is None:
        return inputs
    from cgckit.images.cohort import Cohort
    from cgckit.images.layouts import Filters

    return Cohort.find(inputs, modalities, allow_missing, filters=Filters.read(filter_file))


def tell_left_out(run: Run) -> None:
    """Raise LeftOutError, exit code 6, if a run had to leave subjects out."""
    if run.left_out:
        names, count = ", ".join(run.left_out), len(run.left_out) + len(run.subjects)
        raise LeftOutError(f"{len(run.left_out)} of {count} subjects left out ({names}); summary.tsv says why")


def split_modalities(text: str | None) -> list[str] | None:
    """Read the value of `--modalities`."""
    return None if text is None else [name.strip().lower() for name in text.split(",") if name.strip()]
