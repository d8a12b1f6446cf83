"""What the command line shows of the log: everything from INFO on, or nothing but errors."""

from __future__ import annotations

import logging
import sys


class _CurrentStderr(logging.Handler):
    """Writes to whatever `sys.stderr` is at the moment: progress bars replace it to stay below the lines."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


_handler = _CurrentStderr()


def show_log(verbose: bool) -> None:
    """Show what cgckit logs, with its details if `verbose`, and what other libraries warn of."""
    _handler.setLevel(logging.NOTSET)
    logging.getLogger().addHandler(_handler)
    logging.getLogger("cgckit").setLevel(logging.DEBUG if verbose else logging.INFO)


def hide_log(quiet: bool) -> bool:
    """Show errors only if `quiet`; log files are not affected."""
    if quiet:
        _handler.setLevel(logging.ERROR)
    return quiet
