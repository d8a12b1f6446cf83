"""Packages that a command needs and that do not come with cgckit itself."""

from __future__ import annotations

from importlib import util

from cgckit.errors import UsageError


def require(*names: str, extra: str) -> None:
    """Raise UsageError, which says what to install, unless all packages are there; none is imported."""
    missing = [name for name in names if util.find_spec(name) is None]
    if missing:
        what = "is" if len(missing) == 1 else "are"
        raise UsageError(f"{' and '.join(missing)} {what} not installed: pip install 'cgckit[{extra}]'")
