"""What a run writes: BIDS-derivative names, headers equal to the inputs', atomic files."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import nibabel as nib
import numpy as np
import numpy.typing as npt

from cgckit.arrays import AnyArray
from cgckit.atomic import atomic_write
from cgckit.errors import BadInputError, CgckitError
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.grid import Grid
from cgckit.images.layouts.labels import split_label
from cgckit.images.modalities import SUFFIX
from cgckit.images.volume import grid_of, header_of
from cgckit.sealed import read_file
from cgckit.version import __version__

REPORT = "report"
"""The folder of the pages about a run, where `cgckit report` puts them."""
_BIDS_VERSION = "1.10.0"
_DESCRIPTION, _PARTICIPANTS = "dataset_description.json", "participants.tsv"
# What BIDS has no names for, so that its validator passes over it.
_IGNORED = (
    "summary.tsv",
    "longitudinal.tsv",
    "prepared.tsv",
    "evaluation.*",
    "run.json",
    "config.toml",
    "results.jsonl",
    "written.jsonl",
    "*.log",
    "*.html",
    "/report",
    "/model",
    "/work",
    "/figures",
)
_LINK = "scans"
# Folders of subjects and sessions, below the root.
_INSIDE = re.compile(r"(sub|ses)-|anat$")

__all__ = [
    "Derivatives",
    "atomic_write",
    "image_of",
    "label_of",
    "participant",
    "participant_tables",
    "sidecar",
    "write_like",
    "write_volume",
]

_GEOMETRY = ["dim", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"]
_GEOMETRY += ["qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"]

# What BIDS calls an image of a modality, and the entity of the contrast agent.
_BIDS_SUFFIX = {
    "flair": ("", "FLAIR"),
    "t1": ("", "T1w"),
    "t1ce": ("ce-agent_", "T1w"),
    "t2": ("", "T2w"),
    "pd": ("", "PDw"),
    "t2star": ("", "T2starw"),
}

Frame = Path | Grid
"""What an image is written on: the grid and header of a NIfTI file, or a grid alone."""


@dataclass(frozen=True)
class Derivatives:
    """A folder of results: builds every path in it, writes the files, and finds them again.

    Images are written on a `frame`, the grid of a NIfTI file or a `Grid` alone: shape (a fourth axis of one volume
    included), affine and, of a file, qform and sform with their codes, zooms and units are equal to its own.
    Masks are uint8, probabilities float32, both with slope 1 and intercept 0; equal content gives
    equal bytes.
    """

    root: Path

    @classmethod
    def create(cls, root: str | Path) -> Derivatives:
        """Make the folder if it is not there, and try that it can be written to.

        Raises:
            BadInputError: if it cannot.
        """
        root = Path(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root):
                pass
        except OSError as error:
            raise BadInputError(
                f"{root}: cannot be written to ({error.strerror}); choose another output folder"
            ) from error
        return cls(root)

    def refined_mask(self, label: str) -> Path:
        """Path of the refined mask of a subject."""
        return self._anat(label, "label-L_desc-cgc_mask.nii.gz")

    def refined_mask_on(self, label: str, modality: str) -> Path:
        """Path of the refined mask of a subject on the own grid of one of its other scans."""
        return self._anat(label, "label-L_desc-cgc_mask.nii.gz", space=re.sub(r"[^A-Za-z0-9]", "", modality))

    def refined_probability(self, label: str) -> Path:
        """Path of the refined probability of lesion of a subject."""
        return self._anat(label, "label-L_probseg.nii.gz")

    def refined_uncertainty(self, label: str) -> Path:
        """Path of the uncertainty of the refined probability of a subject; it is written on request only."""
        return self._anat(label, "label-L_desc-uncertainty_statmap.nii.gz")

    def prior_probability(self, label: str, prior: str) -> Path:
        """Path of the probability that a prior gave a subject; its name keeps letters and digits only."""
        plain = re.sub(r"[^A-Za-z0-9]", "", prior)
        return self._anat(label, f"seg-{plain}_label-L_probseg.nii.gz")

    def prior_probabilities(self, label: str) -> list[Path]:
        """The files that hold what priors gave a subject, whatever the priors' names."""
        return self._found(label, "seg-*_label-L_probseg.nii.gz")

    def brain_mask(self, label: str) -> Path:
        """Path of the brain mask of a subject."""
        return self._anat(label, "desc-brain_mask.nii.gz")

    def preparation(self, label: str, modality: str) -> Path:
        """Path of an aligned and stripped scan of a subject."""
        agent, suffix = _BIDS_SUFFIX.get(modality, ("", re.sub(r"[^A-Za-z0-9]", "", modality)))
        return self.root / _folder(label) / "anat" / f"sub-{label}_{agent}space-orig_desc-preproc_{suffix}.nii.gz"

    def files(self, label: str) -> list[Path]:
        """Every image that may be there of a subject, each followed by its sidecar."""
        images = [self.refined_mask(label), self.refined_probability(label), self.refined_uncertainty(label)]
        images += [self.brain_mask(label), *self.prior_probabilities(label)]
        images += [path for path in self._found(label, "label-L_desc-cgc_mask.nii.gz", space="*") if path not in images]
        found = [file for image in images for file in (image, sidecar(image))]
        return found + ([self.root / _sessions_table(label)] if split_label(label)[1] else [])

    def write_mask(self, label: str, mask: npt.ArrayLike, frame: Frame) -> Path:
        """Write the refined mask, bool [H, W, L] on the frame's grid, with its sidecar."""
        path = self.refined_mask(label)
        return self._write(path, np.asarray(mask, dtype=np.uint8), frame, {"Type": "Lesion"})

    def write_mask_on(self, label: str, modality: str, mask: npt.ArrayLike, scan: Path) -> Path:
        """Write the refined mask, bool [H, W, L] on the own grid of another scan, with its sidecar."""
        path = self.refined_mask_on(label, modality)
        return self._write(path, np.asarray(mask, dtype=np.uint8), scan, {"Type": "Lesion"})

    def write_probability(self, label: str, probability: npt.ArrayLike, frame: Frame) -> Path:
        """Write the refined probability of lesion, [H, W, L] on the frame's grid, with its sidecar."""
        path = self.refined_probability(label)
        return self._write(path, np.asarray(probability, dtype=np.float32), frame, {})

    def write_uncertainty(self, label: str, deviation: npt.ArrayLike, frame: Frame) -> Path:
        """Write the standard deviation of the refined probability, [H, W, L] on the frame's grid."""
        path = self.refined_uncertainty(label)
        return self._write(path, np.asarray(deviation, dtype=np.float32), frame, {"StatType": "standard deviation"})

    def write_prior_probability(self, label: str, prior: str, probability: npt.ArrayLike, frame: Frame) -> Path:
        """Write the probability that a prior gave, [H, W, L] on the frame's grid, with its sidecar."""
        path = self.prior_probability(label, prior)
        return self._write(path, np.asarray(probability, dtype=np.float32), frame, {"Prior": prior})

    def write_brain(self, label: str, mask: npt.ArrayLike, frame: Frame) -> Path:
        """Write the brain mask, bool [H, W, L] on the frame's grid, with its sidecar."""
        path = self.brain_mask(label)
        return self._write(path, np.asarray(mask, dtype=np.uint8), frame, {"Type": "Brain"})

    def write_preparation(
        self, label: str, modality: str, array: npt.ArrayLike, grid: Grid, scan: Path, about: Mapping[str, object]
    ) -> Path:
        """Write an aligned and stripped scan, [H, W, L] on `grid`, with a sidecar that names the scan as it came."""
        path = self.preparation(label, modality)
        write_volume(path, np.asarray(array, dtype=np.float32), grid)
        content = {**about, "SpatialReference": "orig", "Sources": [self._uri(scan)]}
        self.write_json(str(sidecar(path).relative_to(self.root)), content)
        return path

    def write_description(self, cohort: Cohort) -> list[Path]:
        """Write what says what is in the folder: `dataset_description.json`, `.bidsignore`, `participants.*`, sessions.

        The description links to where the scans are, from here (`DatasetLinks`), so that the two may be moved together,
        and from the root of the file system (`SourceDatasets`), so that the results may be moved alone.
        """
        scans = _scans_folder(cohort)
        links: dict[str, Any] = {}
        if scans is not None:
            here = os.path.relpath(scans, os.path.abspath(self.root))
            links = {"DatasetLinks": {_LINK: quote(here)}, "SourceDatasets": [{"URL": scans.as_uri()}]}
        columns = {"source": {"Description": "Name of the participant in the input of cgckit"}}
        return [
            self.write_json(
                _DESCRIPTION,
                {
                    "Name": "Lesion segmentations by cgckit",
                    "BIDSVersion": _BIDS_VERSION,
                    "DatasetType": "derivative",
                    "GeneratedBy": [{"Name": "cgckit", "Version": __version__}],
                    **links,
                },
            ),
            self._write_text(".bidsignore", "".join(f"{name}\n" for name in _IGNORED)),
            self.write_json("participants.json", columns),
            *self.write_participants(cohort),
        ]

    def write_participants(self, cohort: Cohort) -> list[Path]:
        """Write `participants.tsv`, the name in the input of each person, and a table of each person's sessions."""
        return [self.write_table(name, rows) for name, rows in participant_tables(cohort).items()]

    def write_table(self, name: str, rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> Path:
        """Write rows as tab-separated values under `columns` and those of all rows; None and NaN become `n/a`."""
        columns = list(dict.fromkeys([*columns, *(column for row in rows for column in row)]))
        lines = [
            "\t".join(columns),
            *("\t".join(_cell(row.get(column)) for column in columns) for row in rows),
        ]
        return self._write_text(name, "\n".join(lines) + "\n")

    def write_json(self, name: str, content: object) -> Path:
        """Write an object as JSON."""
        return self._write_text(name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def subjects(self) -> dict[str, str]:
        """Read `participants.tsv` and the tables of sessions: the source name of each label.

        Raises:
            BadInputError: if there is no such table, or it has other columns.
        """
        found: dict[str, str] = {}
        for person, source in self._names(Path(_PARTICIPANTS), "participant_id").items():
            label = person.removeprefix("sub-")
            table = _sessions_table(label)
            if (self.root / table).is_file():
                sessions = self._names(table, "session_id")
                found |= {f"{label}_{session}": name for session, name in sessions.items()}
            if not (self.root / table).is_file() or (self.root / _folder(label) / "anat").is_dir():
                found[label] = source
        return found

    def _names(self, name: Path, column: str) -> dict[str, str]:
        """What each label in the first column of a table is called in the input."""
        table = self.root / name
        try:
            lines = read_file(table).decode().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"{table}: cannot be read; {self.root} holds no results of cgckit") from error
        rows = [line.split("\t") for line in lines]
        if not rows or rows[0][:2] != [column, "source"] or any(len(row) < 2 for row in rows):
            raise BadInputError(f"{table}: the columns {column} and source are expected")
        return {row[0]: row[1] for row in rows[1:]}

    def read_table(self, name: str) -> list[dict[str, str]]:
        """Read what `write_table` wrote: a dictionary of cells by column for each row.

        Raises:
            BadInputError: if there is no such table.
        """
        path = self.root / name
        try:
            columns, *rows = (line.split("\t") for line in read_file(path).decode().splitlines())
            return [dict(zip(columns, row, strict=True)) for row in rows]
        except (OSError, ValueError) as error:
            raise BadInputError(f"{path}: cannot be read; {self.root} holds no finished results of cgckit") from error

    def remove(self, path: Path) -> None:
        """Remove an image and its sidecar, if they are there."""
        for file in (path, sidecar(path)):
            file.unlink(missing_ok=True)

    def _anat(self, label: str, ending: str, space: str = "orig") -> Path:
        return self.root / _folder(label) / "anat" / f"sub-{label}_space-{space}_{ending}"

    def _found(self, label: str, ending: str, space: str = "orig") -> list[Path]:
        """The images of a subject whose names fit a pattern; what a killed run left half written is none of them."""
        pattern = self._anat(label, ending, space)
        return sorted(pattern.parent.glob(pattern.name))

    def _write(self, path: Path, array: AnyArray, frame: Frame, about: Mapping[str, object]) -> Path:
        if not np.isfinite(array).all():
            raise CgckitError(f"{path.name}: holds values that are not finite numbers, and is not written")
        header, source = _header(frame)
        write_like(path, array, header, source or path)
        content = {**about, "SpatialReference": "orig"}
        if source is not None:
            content["Sources"] = [self._uri(source)]
        self.write_json(str(sidecar(path).relative_to(self.root)), content)
        return path

    def _uri(self, scan: Path) -> str:
        """How a sidecar names a scan: by the link of the description, or by its path from here."""
        linked = _linked(self.root)
        absolute = os.path.abspath(scan)
        if not linked:
            return os.path.relpath(absolute, os.path.abspath(self.root))
        return f"bids:{_LINK}:{os.path.relpath(absolute, os.path.abspath(linked[0]))}"

    def _write_text(self, name: str, text: str) -> Path:
        path = self.root / name
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return path


def _header(frame: Frame) -> tuple[nib.Nifti1Header, Path | None]:
    """The header that outputs copy, and the file that it came from."""
    if not isinstance(frame, Grid):
        given = header_of(Path(frame))
        if math.prod(given.get_data_shape()[3:]) > 1:  # one volume of several
            given = given.copy()
            given.set_data_shape(given.get_data_shape()[:3])
        return given, Path(frame)
    header = nib.Nifti1Image(np.broadcast_to(np.uint8(0), frame.shape), frame.affine).header
    header.set_xyzt_units("mm")
    return header, None


def participant(label: str, source: str) -> dict[str, Any]:
    """How the row of a subject begins in every table: its labels, and its name in the input."""
    person, session = split_label(label)
    return {
        "participant_id": f"sub-{person}",
        **({"session_id": f"ses-{session}"} if session else {}),
        "source": source,
    }


def label_of(row: Mapping[str, str]) -> str:
    """The label of the subject whose row in a table this is."""
    session = row.get("session_id", "n/a")
    return row["participant_id"].removeprefix("sub-") + ("" if session == "n/a" else f"_{session}")


def participant_tables(subjects: Iterable[Subject]) -> dict[str, list[dict[str, Any]]]:
    """The tables that map labels to names in the input: of persons, and of each person's sessions."""
    persons: dict[str, str] = {}
    tables: dict[str, list[dict[str, Any]]] = {_PARTICIPANTS: []}
    for subject in subjects:
        persons.setdefault(subject.person, subject.person_source)
        if subject.session is not None:
            rows = tables.setdefault(_sessions_table(subject.label).as_posix(), [])
            rows.append({"session_id": f"ses-{subject.session}", "source": subject.source})
    tables[_PARTICIPANTS] = [{"participant_id": f"sub-{label}", "source": name} for label, name in persons.items()]
    return tables


def _folder(label: str) -> Path:
    """The folder of a subject below the root."""
    person, session = split_label(label)
    return Path(f"sub-{person}", *([f"ses-{session}"] if session else []))


def _sessions_table(label: str) -> Path:
    person, _ = split_label(label)
    return Path(f"sub-{person}", f"sub-{person}_sessions.tsv")


def _scans_folder(cohort: Cohort) -> Path | None:
    """The folder that holds all scans: that of their BIDS data set, if they are one; None for scans in memory."""
    files = [os.path.abspath(path) for subject in cohort for path in subject.all_files.values()]
    if not files:
        return None
    common = Path(os.path.commonpath([os.path.dirname(file) for file in files]))
    return next((folder for folder in (common, *common.parents) if (folder / _DESCRIPTION).is_file()), common)


def _linked(root: Path) -> list[Path]:
    """Where the description of a folder of results says that the scans are: seen from it, and from the file system."""
    try:
        content = json.loads(read_file(root / _DESCRIPTION))
        url = urlsplit(content["SourceDatasets"][0]["URL"])
        return [root / unquote(content["DatasetLinks"][_LINK]), Path(unquote(url.path))]
    except (OSError, ValueError, LookupError, TypeError, RecursionError, AttributeError):
        return []


def sidecar(image: Path) -> Path:
    """The JSON file beside an image that says what it is."""
    return image.with_name(SUFFIX.sub("", image.name) + ".json")


def image_of(written: Path) -> Path:
    """The scan on whose grid a run wrote a map, as the map's sidecar says.

    Raises:
        BadInputError: the map has no such sidecar, or its images were in memory.
    """
    try:
        content = json.loads(read_file(sidecar(written)))
        in_memory = "SpatialReference" in content and "Sources" not in content
        source = "" if in_memory else str(content["Sources"][0])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadInputError(f"{written}: no sidecar beside it names its scan; is it a result of cgckit?") from error
    if in_memory:
        raise BadInputError(f"{written.name} was made of images in memory: there is no scan to show")
    root = next(folder for folder in written.absolute().parents if not _INSIDE.match(folder.name))
    linked = _linked(root) if source.startswith("bids:") else []
    places = [Path(os.path.normpath(link / source.removeprefix(f"bids:{_LINK}:"))) for link in [*linked, root]]
    return next((place for place in places if place.is_file()), places[0])


def write_like(path: Path, array: AnyArray, header: nib.Nifti1Header, source: Path) -> None:
    """Write an [H, W, L] array as `.nii.gz` with the geometry of `header`, which came from the file `source`.

    Raises:
        BadInputError: if the header is unusable or the file cannot be written.
        ValueError: if the array is not on the header's grid.
    """
    grid = grid_of(header, source)
    if array.shape != grid.shape:
        raise ValueError(f"{path.name}: array of shape {array.shape} on a grid of shape {grid.shape} ({source})")
    header = _geometry_of(header)
    header.set_data_dtype(array.dtype)
    header["cal_min"], header["cal_max"] = 0, 1
    header["descrip"] = f"cgckit {__version__}"
    kind: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(array.reshape(tuple(header.get_data_shape())), header.get_best_affine(), header)
    _save(image, path)


def write_volume(path: Path, array: AnyArray, grid: Grid) -> None:
    """Write an [H, W, L] array on a grid as `.nii.gz`; in the header stands nothing but where its voxels lie.

    Floating-point values that are all whole are written as 16-bit integers where they fit.

    Raises:
        BadInputError: the file cannot be written.
    """
    if array.dtype.kind == "f" and (array == np.rint(array)).all() and array.min() >= -32768 and array.max() <= 32767:
        array = array.astype(np.int16)
    image = nib.Nifti1Image(array, grid.affine)
    image.set_sform(grid.affine, code=1)
    image.set_qform(grid.affine, code=1)
    image.header.set_xyzt_units("mm")
    _save(image, path)


def _save(image: nib.Nifti1Image, path: Path) -> None:
    """Write an image; no name and no time in the gzip header, so that equal images are equal files."""
    with (
        atomic_write(path) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=file, mtime=0) as stream,
    ):
        image.to_stream(stream)


def _geometry_of(header: nib.Nifti1Header) -> nib.Nifti1Header:
    """A new header with the grid of another; its texts and extensions, which may name the patient, stay behind."""
    kind: Any = nib.Nifti2Header if isinstance(header, nib.Nifti2Header) else nib.Nifti1Header
    found: nib.Nifti1Header = kind()
    for field in _GEOMETRY:
        found[field] = header[field]
    return found


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "n/a"
    if isinstance(value, float):
        return f"{value:.6g}"
    return re.sub(r"[\t\r\n]", " ", str(value))
