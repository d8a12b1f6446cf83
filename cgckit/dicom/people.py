"""`People`: who is who among the patients of a folder, under labels that say nothing about them.

Labels are numbers in an order that has to do with neither names nor dates: that of the digests of the studies'
identifiers. What label stands for whom is written only into a file that the user asks for, and from it read again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cgckit.atomic import atomic_write
from cgckit.dicom.slices import Slice
from cgckit.errors import BadInputError

_COLUMNS = ["participant_id", "session_id", "patient_id", "patient_name", "birth_date", "study_date", "study_uid"]
# What is written for a patient's identifier where it was taken out: it would make one person of all.
_NOBODY = re.compile(r"(anon(ymous|ymi[sz]ed)?|unknown|none|null|removed|de-?identified|patient|test|n/?a|[0x.^_ -]*)")


@dataclass
class People:
    """Labels of persons and of their studies.

    Attributes:
        subjects: label by person: `sub-001` is "001".
        sessions: label by person and study: `ses-2` is "2".
        doubts: what was not certain, in words without names.
    """

    subjects: dict[str, str] = field(default_factory=dict)
    sessions: dict[tuple[str, str], str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    _rows: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, slices: Sequence[Slice], mapping: Path | None = None) -> People:
        """Tell the persons and studies of images apart, and label them.

        Images with the same patient's identifier and date of birth are of one person. Where the identifier was taken
        out, name and date of birth count; where these were too, every study is somebody else.

        Args:
            slices: the images.
            mapping: a file of an earlier call, whose labels stay.

        Raises:
            BadInputError: the mapping cannot be read.
        """
        people = cls()
        known = _read_mapping(mapping) if mapping is not None and mapping.exists() else []
        studies: dict[str, dict[str, Slice]] = {}
        for item in slices:
            studies.setdefault(person_key(item), {}).setdefault(item.study[0], item)
        people._keep(known, studies)
        width = max(3, len(str(len(studies))))
        taken = set(people.subjects.values())
        free = (label for number in range(1, 10**9) if (label := f"{number:0{width}d}") not in taken)
        for person in sorted(studies, key=lambda key: min(map(_digest, studies[key]))):
            if person not in people.subjects:
                people.subjects[person] = next(free)
            people._number_sessions(person, studies[person])
        people._note_doubts(studies)
        return people

    @property
    def has_sessions(self) -> bool:
        """Whether somebody was examined more than once."""
        persons = [person for person, _ in self.sessions]
        return len(persons) > len(set(persons))

    def place(self, item: Slice) -> tuple[str, str]:
        """Labels of an image's person and study."""
        person = person_key(item)
        return self.subjects[person], self.sessions[person, item.study[0]]

    def write_mapping(self, path: Path) -> None:
        """Write who is who, readable by its owner alone.

        Raises:
            BadInputError: it cannot be written.
        """
        text = io.StringIO()
        table = csv.DictWriter(text, _COLUMNS, delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(sorted(self._rows, key=lambda row: (row["participant_id"], row["session_id"])))
        with atomic_write(path) as temporary:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text.getvalue())

    def _keep(self, known: Sequence[dict[str, str]], studies: dict[str, dict[str, Slice]]) -> None:
        """Take over the labels of an earlier call, those of persons who are not among the images included."""
        for row in known:
            person = _key(row["patient_id"], row["patient_name"], row["birth_date"], row["study_uid"])
            self.subjects[person] = row["participant_id"].removeprefix("sub-")
            self.sessions[person, row["study_uid"]] = row["session_id"].removeprefix("ses-")
            if row["study_uid"] not in studies.get(person, {}):
                self._rows.append(row)

    def _number_sessions(self, person: str, studies: dict[str, Slice]) -> None:
        """Label a person's studies in the order of their dates; those that have a label keep it."""
        taken = {int(label) for (owner, _), label in self.sessions.items() if owner == person}
        following = max(taken, default=0) + 1
        for uid, item in sorted(studies.items(), key=lambda study: (study[1].study[1:], _digest(study[0]))):
            if (person, uid) not in self.sessions:
                self.sessions[person, uid] = str(following)
                following += 1
            patient, name, birth = item.person
            cells = (f"sub-{self.subjects[person]}", f"ses-{self.sessions[person, uid]}", patient, name, birth)
            row = dict(zip(_COLUMNS, (*cells, item.study[1], uid), strict=True))
            self._rows.append({column: re.sub(r"[\t\r\n\x00]", " ", cell) for column, cell in row.items()})

    def _note_doubts(self, studies: dict[str, dict[str, Slice]]) -> None:
        identifiers: dict[str, set[str]] = {}
        names: dict[str, set[str]] = {}
        for person, found in studies.items():
            for item in found.values():
                if _is_somebody(item.person[0]):
                    identifiers.setdefault(_plain(item.person[0]), set()).add(self.subjects[person])
                names.setdefault(self.subjects[person], set()).add(_plain(item.person[1]))
        for labels in identifiers.values():
            if len(labels) > 1:
                who = ", ".join(f"sub-{label}" for label in sorted(labels))
                self.doubts.append(f"{who}: one identifier, but different dates of birth: taken for different persons")
        for label, spellings in sorted(names.items()):
            if len(spellings) > 1:
                self.doubts.append(f"sub-{label}: one identifier and date of birth, but different names: taken for one")
        nameless = sum(person.startswith("study ") for person in studies)
        if nameless:
            self.doubts.append(f"{nameless} studies name no patient: each is taken for a person of its own")


def person_key(item: Slice) -> str:
    """What is equal for images of one person."""
    return _key(*item.person, item.study[0])


def _key(patient: str, name: str, birth: str, study: str) -> str:
    if _is_somebody(patient):
        return f"id {_plain(patient)} {_plain(birth)}"
    if _is_somebody(name):
        return f"name {_plain(name)} {_plain(birth)}"
    return f"study {study}"


def _is_somebody(text: str) -> bool:
    return _NOBODY.fullmatch(_plain(text)) is None


def _plain(text: str) -> str:
    return re.sub(r"[\s^=]+", " ", text).strip().casefold()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _read_mapping(path: Path) -> list[dict[str, str]]:
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), delimiter="\t"))
    except (OSError, ValueError, csv.Error) as error:
        raise BadInputError(f"{path}: cannot be read as a mapping of `cgckit dicom`") from error
    for row in rows:
        whole = set(row) == set(_COLUMNS) and None not in row.values()
        if not (
            whole and re.fullmatch(r"sub-\d+", row["participant_id"]) and re.fullmatch(r"ses-\d+", row["session_id"])
        ):
            raise BadInputError(f"{path}: is no mapping of `cgckit dicom`, or was edited; name another file")
    return rows
