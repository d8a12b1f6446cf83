"""The command line: mounts the commands and turns errors into one line and an exit code."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

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
from cgckit.errors import BadInputError, CgckitError, PluginError
from cgckit.plugins.blame import describe_error
from cgckit.version import __version__

# Typer turns Ctrl-C into this exit code, as shells do: 128 + SIGINT.
_INTERRUPTED = 130


class _Guarded(TyperGroup):
    """The commands, none of which leaves the interpreter by itself: a plug-in that does has failed."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as ending:
            how = describe_error(ending)
            raise PluginError(f"a plug-in left the interpreter ({how}): it must raise an error instead") from ending


app = typer.Typer(
    name="cgckit",
    cls=_Guarded,
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
    except SystemExit as ending:
        if ending.code == _INTERRUPTED:
            print("cgckit: interrupted; the same command goes on from here", file=sys.stderr)
        raise
    except Exception as error:
        if logging.getLogger("cgckit").isEnabledFor(logging.DEBUG):
            raise
        message, code = _say(error)
        print("cgckit: " + " ".join(message.splitlines()), file=sys.stderr)
        sys.exit(code)


def _say(error: Exception) -> tuple[str, int]:
    """What is said of an error, and the exit code."""
    if isinstance(error, CgckitError):
        return str(error), error.exit_code or CgckitError.exit_code  # a plug-in's own kind of error may say 0
    if isinstance(error, OSError):
        name = "" if error.filename is None else f"{error.filename}: "
        return f"{name}{error.strerror or error}", BadInputError.exit_code
    if isinstance(error, MemoryError):
        return "this machine's memory does not suffice", CgckitError.exit_code
    what = f"{type(error).__name__}: {error}"
    return f"an error that should not be ({what}); please report it, with what cgckit -v says", CgckitError.exit_code
