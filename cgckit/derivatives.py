"""What a run writes: BIDS-derivative names, headers equal to the inputs', atomic files."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from cgckit.arrays import AnyArray
from cgckit.atomic import atomic_write
from cgckit.errors import BadInputError, CgckitError
from cgckit.images.cohort import Cohort
from cgckit.images.grid import Grid
from cgckit.images.volume import grid_of, open_nifti
from cgckit.sealed import read_file
from cgckit.version import __version__

REPORT = "report"
"""The folder of the pages about a run, where `cgckit report` puts them."""
_BIDS_VERSION = "1.10.0"

__all__ = ["Derivatives", "atomic_write", "image_of", "participant", "sidecar", "write_like"]

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
        return sorted(self._anat(label, "").parent.glob("*_space-orig_seg-*_label-L_probseg.nii.gz"))

    def brain_mask(self, label: str) -> Path:
        """Path of the brain mask of a subject."""
        return self._anat(label, "desc-brain_mask.nii.gz")

    def files(self, label: str) -> list[Path]:
        """Every image that may be there of a subject, each followed by its sidecar."""
        images = [self.refined_mask(label), self.refined_probability(label), self.refined_uncertainty(label)]
        images += [self.brain_mask(label), *self.prior_probabilities(label)]
        return [file for image in images for file in (image, sidecar(image))]

    def write_mask(self, label: str, mask: npt.ArrayLike, frame: Frame) -> Path:
        """Write the refined mask, bool [H, W, L] on the frame's grid, with its sidecar."""
        path = self.refined_mask(label)
        return self._write(path, np.asarray(mask, dtype=np.uint8), frame, {"Type": "Lesion"})

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

    def write_description(self) -> Path:
        """Write `dataset_description.json`."""
        return self.write_json(
            "dataset_description.json",
            {
                "Name": "Lesion segmentations by cgckit",
                "BIDSVersion": _BIDS_VERSION,
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "cgckit", "Version": __version__}],
            },
        )

    def write_participants(self, cohort: Cohort) -> Path:
        """Write `participants.tsv`, which maps each label to the name that the subject has in the input."""
        return self.write_table("participants.tsv", [participant(subject.label, subject.source) for subject in cohort])

    def write_table(self, name: str, rows: Sequence[Mapping[str, object]]) -> Path:
        """Write rows as tab-separated values under the columns of all rows; None and NaN become `n/a`."""
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines = [
            "\t".join(columns),
            *("\t".join(_cell(row.get(column)) for column in columns) for row in rows),
        ]
        return self._write_text(name, "\n".join(lines) + "\n")

    def write_json(self, name: str, content: object) -> Path:
        """Write an object as JSON."""
        return self._write_text(name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def subjects(self) -> dict[str, str]:
        """Read `participants.tsv`: the source name of each label.

        Raises:
            BadInputError: if there is no such table, or it has other columns.
        """
        table = self.root / "participants.tsv"
        try:
            lines = read_file(table).decode().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"{table}: cannot be read; {self.root} holds no results of cgckit") from error
        rows = [line.split("\t") for line in lines]
        if not rows or rows[0][:2] != ["participant_id", "source"] or any(len(row) < 2 for row in rows):
            raise BadInputError(f"{table}: the columns participant_id and source are expected")
        return {row[0].removeprefix("sub-"): row[1] for row in rows[1:]}

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

    def _anat(self, label: str, ending: str) -> Path:
        return self.root / f"sub-{label}" / "anat" / f"sub-{label}_space-orig_{ending}"

    def _write(self, path: Path, array: AnyArray, frame: Frame, about: Mapping[str, object]) -> Path:
        if not np.isfinite(array).all():
            raise CgckitError(f"{path.name}: holds values that are not finite numbers, and is not written")
        header, source = _header(frame)
        write_like(path, array, header, source or path)
        content = {**about, "SpatialReference": "orig"}
        if source is not None:
            content["Sources"] = [str(source.absolute())]
        self.write_json(str(sidecar(path).relative_to(self.root)), content)
        return path

    def _write_text(self, name: str, text: str) -> Path:
        path = self.root / name
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return path


def _header(frame: Frame) -> tuple[nib.Nifti1Header, Path | None]:
    """The header that outputs copy, and the file that it came from."""
    if not isinstance(frame, Grid):
        return open_nifti(Path(frame)).header, Path(frame)
    header = nib.Nifti1Image(np.broadcast_to(np.uint8(0), frame.shape), frame.affine).header
    header.set_xyzt_units("mm")
    return header, None


def participant(label: str, source: str) -> dict[str, Any]:
    """How the row of a subject begins in every table: its label, and its name in the input."""
    return {"participant_id": f"sub-{label}", "source": source}


def sidecar(image: Path) -> Path:
    """The JSON file beside an image that says what it is."""
    return image.with_name(re.sub(r"\.nii(\.gz)?$", "", image.name) + ".json")


def image_of(written: Path) -> Path:
    """The scan on whose grid a run wrote a map, as the map's sidecar says.

    Raises:
        BadInputError: the map has no such sidecar, or its images were in memory.
    """
    try:
        content = json.loads(read_file(sidecar(written)))
        in_memory = "SpatialReference" in content and "Sources" not in content
        scan = written if in_memory else Path(content["Sources"][0])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadInputError(f"{written}: no sidecar beside it names its scan; is it a result of cgckit?") from error
    if in_memory:
        raise BadInputError(f"{written.name} was made of images in memory: there is no scan to show")
    return scan


def write_like(path: Path, array: AnyArray, header: nib.Nifti1Header, source: Path) -> None:
    """Write an [H, W, L] array as `.nii.gz` with the geometry of `header`, which came from the file `source`.

    Raises:
        BadInputError: if the header is unusable or the file cannot be written.
        ValueError: if the array is not on the header's grid.
    """
    grid = grid_of(header, source)
    if array.shape != grid.shape:
        raise ValueError(f"{path.name}: array of shape {array.shape} on a grid of shape {grid.shape} ({source})")
    header = header.copy()
    header.extensions.clear()  # they describe the acquired image, and may name the patient
    header.set_data_dtype(array.dtype)
    header["cal_min"], header["cal_max"] = 0, 1
    header["descrip"], header["aux_file"], header["intent_name"] = f"cgckit {__version__}", "", ""
    header.set_intent("none")
    kind: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(array.reshape(tuple(header.get_data_shape())), header.get_best_affine(), header)
    # No name and no time in the gzip header: equal images are equal files.
    with (
        atomic_write(path) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=file, mtime=0) as stream,
    ):
        image.to_stream(stream)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "n/a"
    if isinstance(value, float):
        return f"{value:.6g}"
    return re.sub(r"[\t\r\n]", " ", str(value))
