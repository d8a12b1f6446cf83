"""`Found`: a subject as it was met in the input; `Notes`: what is said of how the input was read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cgckit.errors import BadInputError

log = logging.getLogger(__name__)

_NAMED = 3


@dataclass
class Found:
    """One session of one person, before modalities are chosen.

    Attributes:
        person: whose images they are, as the input spells it.
        session: which of the person's sessions; None if the input knows none.
        files: image of each modality.
        volumes: which volume of its file a modality is, for those that lie in one file of several.
        brain_mask: the given brain mask, or None.
        remarks: what was chosen among several images of one modality.
        above: folders above the person's, the nearest last: they tell apart who is called alike.
        spelled: how the input spells person and session together, if not as `source` would.
    """

    person: str
    session: str | None = None
    files: dict[str, Path] = field(default_factory=dict)
    volumes: dict[str, int] = field(default_factory=dict)
    brain_mask: Path | None = None
    remarks: list[str] = field(default_factory=list)
    above: tuple[str, ...] = ()
    spelled: str | None = None

    @property
    def source(self) -> str:
        """Its name in messages and tables: the person's, and the session's if there is one."""
        if self.spelled is not None:
            return self.spelled
        if self.session is None:
            return self.person
        return f"{self.person}_{'ses-' if self.person.startswith('sub-') else ''}{self.session}"

    def add(self, modality: str, path: Path) -> None:
        """Take an image in; BadInputError if there is one of that modality."""
        if modality in self.files:
            raise BadInputError(
                f"{path}: a second {modality} image of {self.source}, beside {self.files[modality].name}; "
                "list the right files in a table (.tsv)"
            )
        self.files[modality] = path

    def adopt(self, mask: Path) -> None:
        """Take a brain mask; BadInputError if there is one."""
        if self.brain_mask is not None:
            raise BadInputError(f"{mask}: a second brain mask of {self.source}, beside {self.brain_mask.name}")
        self.brain_mask = mask


@dataclass
class Notes:
    """What is to be said of the input: one line for each kind of thing, however many subjects it is true of."""

    _said: dict[tuple[int, str], list[str]] = field(default_factory=dict)

    def warn(self, text: str, whom: str) -> None:
        """Note what a user should look at."""
        self._said.setdefault((logging.WARNING, text), []).append(whom)

    def tell(self, text: str, whom: str) -> None:
        """Note what is as it should be."""
        self._said.setdefault((logging.INFO, text), []).append(whom)

    def say(self) -> None:
        """Write all of it to the log."""
        for (level, text), whom in self._said.items():
            names = list(dict.fromkeys(whom))
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED + 1 else ""
            shown = names[:_NAMED] if more else names
            log.log(level, "%s: %s%s", text, ", ".join(shown), more)


Channels = Sequence[str] | Mapping[int, str]
"""Modality of each channel of images that are numbered instead of named."""
