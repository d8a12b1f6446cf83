"""Tables: a row a subject or session, a column a modality; and mappings in Python, which mean the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cgckit.errors import BadInputError
from cgckit.images.files import check_file
from cgckit.images.layouts.found import Found
from cgckit.images.layouts.labels import session_name, split_session
from cgckit.images.layouts.names import IMAGE, read_name
from cgckit.images.modalities import SUFFIX, canonical_modality, modality_of
from cgckit.sealed import read_lines

_SUBJECT, _SESSION = ("subject", "participant_id"), ("session", "session_id")
_EMPTY = ("", "n/a")


def read_rows(table: Path) -> list[dict[str, str]]:
    """The rows of a TSV table, each with its line's number under the empty key.

    Raises:
        BadInputError: it is no such table, or has no column of subjects.
    """
    check_file(table)
    try:
        lines = read_lines(table)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{table}: cannot be read as a UTF-8 table of tab-separated values") from error
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    if not any(name in header for name in _SUBJECT):
        raise BadInputError(f"{table}: no column 'subject' in the first line; columns are separated by tabs")
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise BadInputError(f"{table}: two columns are called {twice[0]!r}; rename one of them")
    found = []
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise BadInputError(f"{table}, line {number}: {len(cells)} cells under {len(header)} columns")
        stripped = [cell.strip() for cell in cells]
        if any(name == "" and is_image(cell) for name, cell in zip(header, stripped, strict=True)):
            cell = next(cell for name, cell in zip(header, stripped, strict=True) if name == "" and is_image(cell))
            raise BadInputError(f"{table}, line {number}: {cell} is in a column without a name")
        found.append({**dict(zip(header, stripped, strict=True)), "": str(number)})
    if not found:
        raise BadInputError(f"{table}: no subject below the first line")
    return found


def lists_participants(rows: Sequence[Mapping[str, str]]) -> bool:
    """Whether a table names the participants of a BIDS data set, without their images."""
    return "participant_id" in rows[0] and not any(is_image(cell) for row in rows for cell in row.values())


def is_image(cell: str) -> bool:
    """Whether a cell is the name of an image file."""
    return SUFFIX.search(Path(cell).name) is not None


def read_table(table: Path, rows: Sequence[Mapping[str, str]]) -> list[Found]:
    """The subjects of a table's rows; paths are relative to the table.

    Raises:
        BadInputError: a row without subject or image, a file that is not there, a subject that is there twice.
    """
    return _distinct(
        [_row(row, f"{table}, line {row['']}", f"({table.name}, line {row['']}, column", table.parent) for row in rows]
    )


def read_mappings(mappings: Sequence[Mapping[str, object]]) -> list[Found]:
    """The subjects of `{"subject": ..., "flair": path}` mappings; errors as `read_table`."""
    found = []
    for number, mapping in enumerate(mappings, 1):
        row = {str(key): "" if value is None else str(value) for key, value in mapping.items()}
        if not any(name in row for name in _SUBJECT):
            raise BadInputError(f"subject {number} of the list: no 'subject' among its keys ({', '.join(row)})")
        where = f"subject {number} of the list"
        found.append(_row(row, where, f"({where}, key", Path()))
    return _distinct(found)


def _row(row: Mapping[str, str], where: str, place: str, folder: Path) -> Found:
    source = next(row[name] for name in _SUBJECT if name in row)
    if source in _EMPTY:
        raise BadInputError(f"{where}: the subject has no name")
    session = next((row[name] for name in _SESSION if row.get(name, "") not in _EMPTY), None)
    person, own = split_session(source)
    found = Found(person, own, spelled=source) if session is None else Found(source, session_name(session))
    for column, cell in row.items():
        if column in ("", *_SUBJECT, *_SESSION):
            continue
        # Columns that hold no images, as age or site, are nobody's modality.
        if not is_image(cell):
            if cell not in _EMPTY and modality_of(column) is not None:
                raise BadInputError(f"{where}: {column} is {cell!r}, no image file (.nii, .nii.gz, ...)")
            continue
        path = folder / cell
        try:
            check_file(path)
        except BadInputError as error:
            raise BadInputError(f"{error} {place} {column})") from None
        if column == "brain_mask":
            found.brain_mask = path
        elif modality_of(column) or read_name(column + ".nii").kind == IMAGE:
            found.add(canonical_modality(column), path)
    if not found.files:
        raise BadInputError(f"{where}: no image for {source}")
    return found


def _distinct(found: list[Found]) -> list[Found]:
    counts = Counter((item.person, item.session) for item in found)
    if twice := next((item for item in found if counts[item.person, item.session] > 1), None):
        raise BadInputError(
            f"duplicate subject: {twice.source!r} has two rows; give each image of it in one, or another 'session'"
        )
    return found
