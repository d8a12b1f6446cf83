"""What the command line shows of the log: everything from INFO on, its details too, or nothing but errors."""

from __future__ import annotations

import logging
import sys


class _CurrentStderr(logging.Handler):
    """Writes to whatever `sys.stderr` is at the moment: progress bars replace it to stay below the lines."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


_handler = _CurrentStderr()


def show_log() -> None:
    """Show what cgckit logs, and what other libraries warn of, until a command says that it wants more or less."""
    _handler.setLevel(logging.NOTSET)
    logging.getLogger().addHandler(_handler)
    logging.getLogger("cgckit").setLevel(logging.INFO)


def show_details(verbose: bool) -> bool:
    """Show the details too if `verbose`; whether they are shown, be it for an option before the command."""
    if verbose:
        logging.getLogger("cgckit").setLevel(logging.DEBUG)
    return logging.getLogger("cgckit").isEnabledFor(logging.DEBUG)


def hide_log(quiet: bool) -> bool:
    """Show errors only if `quiet`; whether it is so, as `show_details`. Log files are not affected."""
    if quiet:
        _handler.setLevel(logging.ERROR)
    return _handler.level >= logging.ERROR
