"""Time points: which words of a file's or folder's name say when, rather than who."""

from __future__ import annotations

import re

# Whoever names a folder so means a time, whatever lies around it.
_SURE = re.compile(
    r"(ses|session|visit|timepoint|time-point|tp|time|week|month|year|day|followup|follow-up|fu)[-_ ]?\d[\w-]*"
    r"|ses-[A-Za-z0-9]+|baseline|follow-?up|(19|20)\d\d-?\d\d-?\d\d",
    re.IGNORECASE,
)
# May be a subject's name or a modality's too.
_LIKELY = re.compile(r"t\d{1,2}|m\d{1,2}|v\d{1,2}|y\d{1,2}|scan\d+|exam\d+", re.IGNORECASE)
_OF_BIDS = re.compile(r"(sub-[A-Za-z0-9]+)_ses-([A-Za-z0-9]+)")
# Public data sets whose subjects' names end with the time point.
_OF_DATA_SETS = (re.compile(r"(BraTS-[A-Za-z-]+-\d+)-(\d+)"), re.compile(r"(UPENN-GBM-\d+)_(\d+)"))
_AT_THE_END = re.compile(rf"(.+?)[-_. ]+({_SURE.pattern})", re.IGNORECASE)


def is_session(name: str) -> bool:
    """Whether a folder of this name is a time point."""
    return _SURE.fullmatch(name) is not None


def may_be_session(name: str) -> bool:
    """Whether a folder of this name may be a time point, if what lies around it says so."""
    return _LIKELY.fullmatch(name) is not None


def split_session(name: str) -> tuple[str, str | None]:
    """The person and the session in a subject's name; None if it speaks of no session.

    Example:
        >>> split_session("sub-01_ses-a"), split_session("BraTS-GLI-00005-100"), split_session("anna")
        (('sub-01', 'a'), ('BraTS-GLI-00005', '100'), ('anna', None))
    """
    for pattern in (_OF_BIDS, *_OF_DATA_SETS, _AT_THE_END):
        if match := pattern.fullmatch(name):
            return match[1], session_name(match[2])
    return name, None


def session_name(text: str) -> str:
    """A session's name without the word for it in BIDS."""
    return text.removeprefix("ses-")
