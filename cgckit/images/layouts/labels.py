"""Persons and sessions: which words of a name say when, and what outputs call the two, as BIDS wants it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from cgckit.errors import BadInputError
from cgckit.images.layouts.found import Found

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
_OF_DATA_SETS = (
    re.compile(r"(brats_tcia_pat\d+)_(\d+)"),
    re.compile(r"(BraTS-[A-Za-z-]+-\d+)-(\d+)"),
    re.compile(r"(UPENN-GBM-\d+)_(\d+)"),
)
_AT_THE_END = re.compile(rf"(.+?)[-_. ]+({_SURE.pattern})", re.IGNORECASE)
# Control characters, separators of lines and paragraphs, and halves of characters.
_NOT_IN_A_TABLE = ("Cc", "Zl", "Zp", "Cs")
# File systems take 255 letters for a name, of which outputs need up to a hundred themselves.
_LONGEST = 100
_SPELLED = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ı": "i", "đ": "d"})


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


def split_label(label: str) -> tuple[str, str | None]:
    """The person and the session in a subject's label, `01` or `01_ses-a`; None if there is no session."""
    person, _, session = label.partition("_ses-")
    return person, session or None


def session_name(text: str) -> str:
    """A session's name without the word for it in BIDS."""
    return text.removeprefix("ses-")


def subject_label(name: str) -> str:
    """What outputs call a subject of this name, if nobody else is called so: `01`, or `01_ses-a` with a session.

    Letters lose their accents; a name that has none of these letters and no digit becomes a hash of itself.

    Raises:
        BadInputError: the name has too many letters and digits, line breaks, or is no text that a table could hold; or
            it is a path that leads out of the folder where files of that name are looked for.
    """
    check_name(name)
    person, session = split_session(name)
    if session is None or not name.startswith("sub-"):
        return _plain(name)
    return f"{_plain(person)}_ses-{_plain(session)}"


class Labelled(NamedTuple):
    """What outputs call a subject, and what the input calls it and the person: with a folder, if it takes one."""

    label: str
    source: str
    person: str


def unique_labels(found: Sequence[Found]) -> list[Labelled]:
    """The names of several subjects, all labels different even where case does not count.

    Who would be called as somebody else is gets the beginning of a hash of its own name behind it. Who has the same
    name as somebody in another folder is called by that folder too.

    Raises:
        BadInputError: as `subject_label`; or somebody was given twice.
    """
    persons = list(dict.fromkeys((item.person, item.above) for item in found))
    places: dict[str, list[tuple[str, ...]]] = {}
    for name, above in persons:
        places.setdefault(name, []).append(above)
    called = {(name, above): _apart(name, above, places[name]) for name, above in persons}
    for item in found:
        check_name(item.source)
    labels = dict(zip(persons, _different([called[person] for person in persons]), strict=True))
    sessions: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for item in found:
        sessions.setdefault((item.person, item.above), []).append(item.session or "")
    result = []
    for item in found:
        key = item.person, item.above
        own = sessions[key]
        if own.count(item.session or "") > 1:
            twice = [
                str(path) for other in found if other.source == item.source for path in [*other.files.values()][:1]
            ]
            raise BadInputError(
                f"duplicate subject: {item.source!r} is there twice ({', '.join(twice[:2])}); give one of them, or "
                "another name"
            )
        within = dict(zip(own, _different([name or "x" for name in own]), strict=True))
        ending = "" if item.session is None else f"_ses-{within[item.session]}"
        source = item.source if called[key] == item.person else called[key] + item.source[len(item.person) :]
        result.append(Labelled(labels[key] + ending, source, called[key]))
    return result


def check_name(name: str) -> None:
    """Raise BadInputError for a name that no table could hold, or that leads out of a folder."""
    if any(unicodedata.category(letter) in _NOT_IN_A_TABLE for letter in name):
        raise BadInputError(f"subject {name!a}: a line break or what is not UTF-8 in its name; rename it")
    check_inside(name)


def check_inside(name: str) -> None:
    """Raise BadInputError for a subject's name that leads out of a folder when a file is looked for by it."""
    if name.startswith("/") or ".." in re.split(r"[/\\]", name):
        raise BadInputError(f"subject {name!r}: its name leads to another folder; rename it")


def _apart(name: str, above: tuple[str, ...], places: Sequence[tuple[str, ...]]) -> str:
    """A person's name, with as many folders above it as tell it from others of that name, which are in `places`."""
    rivals = [place for place in places if place != above]
    for count in range(1, len(above) + 1 if rivals else 0):
        if all(place[-count:] != above[-count:] for place in rivals):
            return "/".join((*above[-count:], name))
    return name


def _different(names: Sequence[str]) -> list[str]:
    """Labels of names, no two of them equal."""
    plain = [_plain(name) for name in names]
    count = Counter(label.lower() for label in plain)
    return [
        label if count[label.lower()] == 1 else f"{label}x{_hash(name)[:4]}"
        for name, label in zip(names, plain, strict=True)
    ]


def _plain(name: str) -> str:
    text = unicodedata.normalize("NFKD", name.removeprefix("sub-").translate(_SPELLED))
    label = re.sub(r"[^A-Za-z0-9]", "", text) or f"x{_hash(name)[:8]}"
    if len(label) > _LONGEST:
        raise BadInputError(
            f"subject {name[:20]}...: its name has more than {_LONGEST} letters and digits, too many for the "
            "names of its outputs; rename it"
        )
    return label


def _hash(name: str) -> str:
    return hashlib.sha256(unicodedata.normalize("NFC", name).encode(errors="surrogatepass")).hexdigest()
