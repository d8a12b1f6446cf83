"""The errors a user can cause, each with the exit code that the command line returns for it.

Every message is one line that names the file or option at fault and says what to do about it.
"""


class CgckitError(Exception):
    """Base of all errors that cgckit raises on purpose; exit code 1."""

    exit_code = 1


class UsageError(CgckitError, ValueError):
    """An unknown prior, preset or option, or a value out of range; exit code 2."""

    exit_code = 2


class BadInputError(CgckitError, ValueError):
    """A file or cohort that cannot be worked with; exit code 3."""

    exit_code = 3


class UnusableSubjectError(BadInputError):
    """The files of one subject cannot be worked with; those of others may. Exit code 3."""


class LeftOutError(CgckitError):
    """A run is done, but some subjects could not be used; exit code 6."""

    exit_code = 6


class DegeneratePriorError(CgckitError):
    """Every subject's prior failed the health check, so there is nothing to train on; exit code 4."""

    exit_code = 4


class PluginError(CgckitError):
    """A third-party prior raised, or returned something the contract forbids; exit code 5."""

    exit_code = 5
