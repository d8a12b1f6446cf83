"""`blame`: whatever the code of a plug-in raises is that plug-in's failure, and named so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from cgckit.errors import CgckitError, PluginError

logger = logging.getLogger(__name__)

_LONGEST = 300


@contextmanager
def blame(deed: str) -> Iterator[None]:
    """Turn what the block raises into a `PluginError` that begins with `deed`, for instance "prior x failed in fit".

    cgckit's own errors pass, and the user's interrupt. All else is the plug-in's failure, leaving the interpreter too:
    `sys.exit(0)` must not look like success.
    """
    try:
        yield
    except (CgckitError, KeyboardInterrupt):
        raise
    except BaseException as error:
        logger.debug("the plug-in's own error", exc_info=error)
        raise PluginError(f"{deed}: {describe_error(error)}") from error


def describe_error(error: BaseException) -> str:
    """Return an error in one line."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an error that cannot even say what it is
        lines = []
    return f"{type(error).__name__}: {lines[0][:_LONGEST]}" if lines else type(error).__name__
