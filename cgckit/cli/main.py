"""The command line: mounts the commands and turns errors into one line and an exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from cgckit.cli.bids.command import BidsCommand, bids
from cgckit.cli.commands import clean, evaluate, info, phantom, predict, pretrain, prior, refine, report
from cgckit.cli.exchange import dicom, export, prepare
from cgckit.cli.experiments import ablate, crossval, table1
from cgckit.cli.log import hide_log, show_details, show_log
from cgckit.cli.plugins import command as plugins
from cgckit.errors import BadInputError, CgckitError, PluginError, UsageError
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
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=(
        "Lesion segmentation without labels: refine any weak prior with cross-granularity contrast.\n\n"
        "Example: cgckit refine scans/ --prior mumford-shah --out refined/"
    ),
)
for command in (
    dicom.dicom,
    prepare.prepare,
    refine.refine,
    prior.prior,
    predict.predict,
    report.report,
    export.lesions,
    evaluate.evaluate,
    crossval.crossval,
    ablate.ablate,
    table1.table1,
    clean.clean,
    phantom.phantom,
    pretrain.pretrain,
    info.presets,
    info.info,
):
    app.command()(command)
app.command("bids", cls=BidsCommand)(bids)
app.add_typer(export.app, name="export")
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
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="As after the command.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="As after the command.")] = False,
) -> None:
    show_log()
    hide_log(quiet)
    show_details(verbose)


def main() -> None:
    """Run the command line and exit with the code that belongs to the outcome."""
    with _noted_signals() as caught:
        try:
            try:
                code = app(prog_name="cgckit", standalone_mode=False)
            finally:
                sys.stdout.flush()
        except SystemExit as ending:
            if caught and ending.code:  # an import took the signal for a failure of its own
                _end_interrupted(caught)
            raise
        except Exception as error:
            if caught:
                _end_interrupted(caught)
            _leave_stdout(error)
            if logging.getLogger("cgckit").isEnabledFor(logging.DEBUG) and not isinstance(error, typer.TyperException):
                traceback.print_exception(error)
            message, code = _say(error)
            if message:
                print("cgckit: " + " ".join(message.splitlines()), file=sys.stderr)
        if code == _INTERRUPTED:
            _end_interrupted(caught)
    sys.exit(code or 0)


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt while the block runs; gives those that came."""
    caught: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    if current_thread() is not main_thread():
        numbers = []
    earlier = {number: signal.signal(number, end) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _end_interrupted(caught: list[int]) -> NoReturn:
    """Say that the command was ended from outside, and exit as shells expect it: 128 + the signal's number."""
    number = caught[-1] if caught else signal.SIGINT
    what = "terminated" if number == signal.SIGTERM else "interrupted"
    print(f"cgckit: {what}; the same command goes on from here", file=sys.stderr)
    sys.exit(128 + number)


def _leave_stdout(error: Exception) -> None:
    """If nothing can be written to stdout, as on a full disk, do not try again at the end of the process."""
    if isinstance(error, OSError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(error: Exception) -> tuple[str, int]:
    """What is said of an error, if anything is left to be said, and the exit code."""
    if isinstance(error, typer.TyperException):
        return _say_unreadable(error), UsageError.exit_code
    if isinstance(error, CgckitError):
        return str(error), error.exit_code or CgckitError.exit_code  # a plug-in's own kind of error may say 0
    if isinstance(error, OSError):
        name = "" if error.filename is None else f"{error.filename}: "
        return f"{name}{error.strerror or error}", BadInputError.exit_code
    if isinstance(error, MemoryError):
        return "this machine's memory does not suffice", CgckitError.exit_code
    what = f"{type(error).__name__}: {error}"
    return f"an error that should not be ({what}); please report it, with what cgckit -v says", CgckitError.exit_code


def _say_unreadable(error: typer.TyperException) -> str:
    """What typer has against a command line, as one line; nothing where it showed the help instead."""
    said = " ".join(error.format_message().split()).rstrip(".")
    if not said:
        return ""
    context = getattr(error, "ctx", None)
    command = "cgckit" if context is None else context.command_path
    return f"{said[:1].lower()}{said[1:]}{'' if said.endswith('?') else ';'} see {command} --help"
