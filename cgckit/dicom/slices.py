"""`Slice`: what is needed of one DICOM image's header."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom import config, uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info

from cgckit.dicom import elements

_KINDS = {
    str(uid.MRImageStorage): "mr",
    str(uid.EnhancedMRImageStorage): "mr",
    str(uid.CTImageStorage): "ct",
    str(uid.EnhancedCTImageStorage): "ct",
}
# Of a header no more is read: nothing of it can leak what never came in.
_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber"),
    *("PatientID", "PatientName", "PatientBirthDate", "StudyDate", "StudyTime", "ImageType", "AcquisitionNumber"),
    *("RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "ScanningSequence", "SequenceVariant"),
    *("ScanOptions", "MRAcquisitionType", "AngioFlag", "MagneticFieldStrength", "DiffusionBValue"),
    *("ContrastBolusAgent", "SeriesDescription", "ProtocolName", "BodyPartExamined", "ConvolutionKernel"),
    *("TemporalPositionIdentifier", "BurnedInAnnotation", "ImageOrientationPatient", "ImagePositionPatient"),
    *("PixelSpacing", "SliceThickness", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated"),
    *("PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue", "PixelRepresentation"),
    *("EchoPulseSequence", "EchoPlanarPulseSequence", "InversionRecovery"),  # of enhanced images
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
_WANTED = [int(tag) for tag in (*map(tag_for_keyword, _TAGS), *elements.B_VALUES) if tag is not None]
_DEFLATED = {uid.DeflatedExplicitVRLittleEndian}
# Beyond what any scanner writes, a header is made to harm.
_MOST_EDGE, _MOST_FRAMES = 4096, 20_000
_LAST_BYTES = 1 << 16


class UnreadableError(ValueError):
    """A file that is DICOM, or says so, and cannot be used; the message has nothing of its header."""


@dataclass(frozen=True)
class Slice:
    """One image of a series: where it lies, how it was made, whose it is. Lengths in mm, times in ms.

    What is personal is not in its representation, which an error's message may have.

    Attributes:
        path: the file.
        frame: which image of the file.
        frames: how many the file has.
        kind: "mr", "ct", or "other" for what is no image of these.
        person: patient's identifier, name and date of birth; never shown or written.
        study: study's identifier, date and time; never shown or written.
        text: description and protocol in lower case, to be searched for words; never shown or written.
        orientation: directions of columns' and rows' increase, [2, 3], in DICOM's axes (left, back, up).
        position: centre of the first pixel, [3], likewise.
        shape: columns and rows.
        edges: distance of columns, and of rows.
        damage: why its pixels cannot be used; empty if they can.
    """

    path: Path
    frame: int
    frames: int
    kind: str
    instance_uid: str = field(repr=False)
    person: tuple[str, str, str] = field(repr=False)
    study: tuple[str, str, str] = field(repr=False)
    series: str = field(repr=False)
    number: int
    instance: int
    acquisition: int
    image_type: tuple[str, ...]
    repetition_time: float | None
    echo_time: float | None
    inversion_time: float | None
    flip_angle: float | None
    sequence: frozenset[str]
    variant: frozenset[str]
    options: frozenset[str]
    volumetric: bool
    angiography: bool
    b_value: float | None
    agent: str = field(repr=False)
    text: str = field(repr=False)
    body: str = field(repr=False)
    kernel: str
    moment: int
    burned_in: bool
    orientation: tuple[tuple[float, ...], tuple[float, ...]] | None
    position: tuple[float, ...] | None
    shape: tuple[int, int]
    edges: tuple[float, float] | None
    thickness: float | None
    slope: float
    intercept: float
    padding: float | None
    grey: bool
    plain: bool
    stamp: tuple[int, int]
    damage: str = ""


def read_slices(path: Path) -> list[Slice] | None:
    """The images of a file; none for a directory of files, None for a file that is no DICOM.

    Raises:
        UnreadableError: it is, or says so, and cannot be read.
    """
    try:
        with path.open("rb") as file, quiet():
            marked = file.read(132)[128:] == b"DICM"
            if not marked and path.suffix.lower() not in (".dcm", ".ima"):
                return None
            if marked:
                file.seek(0)
                if getattr(read_file_meta_info(path), "TransferSyntaxUID", None) in _DEFLATED:
                    raise UnreadableError("is compressed as a whole, which may unpack to any size; export it plainly")
            file.seek(0)
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=_WANTED)
            if "SOPClassUID" not in header or "SeriesInstanceUID" not in header:
                kind = elements.text(header, "SOPClassUID") or elements.text(
                    header.file_meta, "MediaStorageSOPClassUID"
                )
                if kind and kind not in _KINDS:  # a directory, a palette
                    return []
                raise UnreadableError("its header is cut short, or is none")
            return _slices(path, header, file)
    except UnreadableError:
        raise
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror or 'its header is damaged'})") from error
    except MemoryError as error:
        raise UnreadableError("claims more than fits this machine's memory") from error
    except Exception as error:  # pydicom has many ways to say so, most of which quote the header
        raise UnreadableError("its header is damaged") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Let pydicom say nothing: what it warns of quotes the header."""
    logger = logging.getLogger("pydicom")
    disabled, mode = logger.disabled, config.settings.reading_validation_mode
    logger.disabled, config.settings.reading_validation_mode = True, config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled, config.settings.reading_validation_mode = disabled, mode


def _slices(path: Path, header: Dataset, file: BinaryIO) -> list[Slice]:
    """The images of a file: one, or those of its frames."""
    columns, rows = int(elements.number(header, "Columns") or 0), int(elements.number(header, "Rows") or 0)
    frames = int(elements.number(header, "NumberOfFrames") or 1)
    if max(columns, rows) > _MOST_EDGE or not 0 < frames <= _MOST_FRAMES:
        raise UnreadableError(f"says that it holds {frames} images of {columns} x {rows} pixels; it is damaged")
    damage = _damage(header, file, columns * rows * frames)
    shared = _groups(getattr(header, "SharedFunctionalGroupsSequence", None))
    each = getattr(header, "PerFrameFunctionalGroupsSequence", None) or []
    if len(each) not in (0, frames):
        damage = damage or "its frames are not all described"
    layers = [[*_groups([item]), *shared, header] for item in each] if len(each) == frames else [[header]]
    return [_slice(path, layer, number, frames, (columns, rows), damage) for number, layer in enumerate(layers)]


def _slice(path: Path, layers: list[Dataset], frame: int, frames: int, shape: tuple[int, int], damage: str) -> Slice:
    """One image; what it is described by comes from the first of the layers that has it."""
    header = layers[-1]

    def first(*names: str) -> Dataset:
        return next((layer for layer in layers for name in names if name in layer), header)

    def number(*names: str) -> float | None:
        return next((value for name in names if (value := elements.number(first(name), name)) is not None), None)

    def words(name: str) -> frozenset[str]:
        return frozenset(word.upper() for word in elements.texts(first(name), name))

    orientation = elements.numbers(first("ImageOrientationPatient"), "ImageOrientationPatient", 6)
    position = elements.numbers(first("ImagePositionPatient"), "ImagePositionPatient", 3)
    spacing = elements.numbers(first("PixelSpacing"), "PixelSpacing", 2)
    image_type = elements.texts(first("FrameType"), "FrameType") or elements.texts(header, "ImageType")
    status = path.stat()
    slope, syntax = number("RescaleSlope"), getattr(header.file_meta, "TransferSyntaxUID", None)
    return Slice(
        path=path,
        frame=frame,
        frames=frames,
        kind=_KINDS.get(elements.text(header, "SOPClassUID"), "other"),
        instance_uid=elements.text(header, "SOPInstanceUID") or str(path),
        person=(
            elements.text(header, "PatientID"),
            elements.text(header, "PatientName"),
            elements.text(header, "PatientBirthDate"),
        ),
        study=(
            elements.text(header, "StudyInstanceUID"),
            elements.text(header, "StudyDate"),
            elements.text(header, "StudyTime"),
        ),
        series=elements.text(header, "SeriesInstanceUID"),
        number=int(elements.number(header, "SeriesNumber") or 0),
        instance=frame + 1 if frames > 1 else int(elements.number(header, "InstanceNumber") or 0),
        acquisition=int(elements.number(header, "AcquisitionNumber") or 0),
        image_type=tuple(word.upper() for word in image_type),
        repetition_time=number("RepetitionTime"),
        echo_time=number("EchoTime", "EffectiveEchoTime"),
        inversion_time=number("InversionTime", "InversionTimes"),
        flip_angle=number("FlipAngle"),
        sequence=words("ScanningSequence") | _enhanced_sequence(words),
        variant=words("SequenceVariant"),
        options=words("ScanOptions"),
        volumetric=elements.text(header, "MRAcquisitionType").upper() == "3D",
        angiography=elements.text(header, "AngioFlag").upper() == "Y",
        b_value=number("DiffusionBValue") if number("DiffusionBValue") is not None else elements.private_b(header),
        agent=elements.text(header, "ContrastBolusAgent").strip().lower(),
        text=f"{elements.text(header, 'SeriesDescription')} {elements.text(header, 'ProtocolName')}".lower(),
        body=elements.text(header, "BodyPartExamined").upper(),
        kernel=" ".join(elements.texts(first("ConvolutionKernel"), "ConvolutionKernel")).upper(),
        moment=int(elements.number(first("TemporalPositionIdentifier"), "TemporalPositionIdentifier") or 0),
        burned_in=elements.text(header, "BurnedInAnnotation").upper() == "YES",
        orientation=None if orientation is None else (orientation[:3], orientation[3:]),
        position=position,
        shape=shape,
        edges=None if spacing is None or min(spacing) <= 0 else (spacing[1], spacing[0]),
        thickness=number("SliceThickness"),
        slope=1.0 if slope is None else slope,
        intercept=number("RescaleIntercept") or 0.0,
        padding=elements.padding_of(header),
        grey=elements.number(header, "SamplesPerPixel") in (None, 1.0)
        and elements.text(header, "PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2"),
        plain=syntax is None or not uid.UID(syntax).is_encapsulated,
        stamp=(status.st_size, status.st_mtime_ns),
        damage=damage,
    )


def _enhanced_sequence(words: Callable[[str], frozenset[str]]) -> frozenset[str]:
    """What an enhanced image says of its sequence, in the older words."""
    spin = {"SPIN": {"SE"}, "GRADIENT": {"GR"}, "BOTH": {"SE", "GR"}}
    found: set[str] = set()
    for word in words("EchoPulseSequence"):
        found |= spin.get(word, set())
    found |= {"EP"} if "YES" in words("EchoPlanarPulseSequence") else set()
    found |= {"IR"} if "YES" in words("InversionRecovery") else set()
    return frozenset(found)


def _damage(header: Dataset, file: BinaryIO, pixels: int) -> str:
    """Why the pixels that follow a header cannot be used; empty if they can."""
    begin = file.tell()
    end = file.seek(0, os.SEEK_END)
    syntax = getattr(header.file_meta, "TransferSyntaxUID", None)
    if pixels == 0 or end - begin < 8:
        return "holds no pixels"
    if syntax is not None and uid.UID(syntax).is_encapsulated:
        file.seek(max(begin, end - _LAST_BYTES))
        return "" if b"\xfe\xff\xdd\xe0" in file.read() else "is cut short"
    wanted = (
        pixels
        * int(elements.number(header, "SamplesPerPixel") or 1)
        * int(elements.number(header, "BitsAllocated") or 16)
        // 8
    )
    return "" if end - begin >= wanted + 8 else "is cut short"


def _groups(sequence: Any) -> list[Dataset]:
    """The functional groups that describe the frames of an enhanced image, each a data set of its own."""
    found = []
    for item in sequence or []:
        for element in item:
            if element.VR == "SQ" and element.value:
                found.append(element.value[0])
    return found
