"""The command line: mounts the commands and turns errors into one line and an exit code."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from cgckit.cli.commands import (
    ablate,
    crossval,
    evaluate,
    info,
    phantom,
    plugins,
    predict,
    pretrain,
    prior,
    refine,
    report,
)
from cgckit.cli.log import show_log
from cgckit.errors import CgckitError
from cgckit.version import __version__

# Typer turns Ctrl-C into this exit code, as shells do: 128 + SIGINT.
_INTERRUPTED = 130

app = typer.Typer(
    name="cgckit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=(
        "Lesion segmentation without labels: refine any weak prior with cross-granularity contrast.\n\n"
        "Example: cgckit refine scans/ --prior mumford-shah --out refined/"
    ),
)
for command in (
    refine.refine,
    prior.prior,
    predict.predict,
    report.report,
    evaluate.evaluate,
    crossval.crossval,
    ablate.ablate,
    phantom.phantom,
    pretrain.pretrain,
    info.presets,
    info.info,
):
    app.command()(command)
app.add_typer(plugins.app, name="plugins")
app.add_typer(plugins.priors_app, name="priors")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"cgckit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more, and show tracebacks.")] = False,
) -> None:
    show_log(verbose)


def main() -> None:
    """Run the command line and exit with the code that belongs to the outcome."""
    try:
        app()
    except CgckitError as error:
        if logging.getLogger("cgckit").isEnabledFor(logging.DEBUG):
            raise
        print(f"cgckit: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as ending:
        if ending.code == _INTERRUPTED:
            print("cgckit: interrupted; the same command goes on from here", file=sys.stderr)
        raise
