"""`Slice`: what is needed of one DICOM image's header, and the tree of files that they are read from."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom import config, uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info

from cgckit.errors import BadInputError

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
_B_VALUES = (0x0019100C, 0x00431039)  # of Siemens and of GE
_WANTED = [int(tag) for tag in (*map(tag_for_keyword, _TAGS), *_B_VALUES) if tag is not None]
_DEFLATED = {uid.DeflatedExplicitVRLittleEndian}
# Beyond what any scanner writes, a header is made to harm.
_MOST_EDGE, _MOST_FRAMES, _MOST_TEXT = 4096, 20_000, 200
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


@dataclass
class Tree:
    """All that was found below a folder.

    Attributes:
        slices: in the order of their files.
        unreadable: files that say that they are DICOM and cannot be used, and why.
        others: how many files are no DICOM.
        copies: how many files repeat another one.
    """

    slices: list[Slice] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)
    others: int = 0
    copies: int = 0


def read_tree(folder: Path, step: Callable[[], None] = lambda: None) -> Tree:
    """Read the headers of all DICOM files below a folder, or of one file; `step` is called for each.

    Raises:
        BadInputError: there is no such folder, or none of its files is DICOM.
    """
    tree = Tree()
    seen: set[tuple[str, int]] = set()
    for path in list_files(folder):
        step()
        try:
            slices = read_slices(path)
        except UnreadableError as error:
            tree.unreadable[path] = str(error)
            continue
        if slices is None:
            tree.others += 1
            continue
        fresh = [item for item in slices if (item.instance_uid, item.frame) not in seen]
        tree.copies += len(fresh) < len(slices)
        seen.update((item.instance_uid, item.frame) for item in fresh)
        tree.slices += fresh
    if not tree.slices and not tree.unreadable:
        raise BadInputError(f"{folder}: none of its {tree.others} files is DICOM")
    return tree


def list_files(folder: Path) -> list[Path]:
    """All files below a folder by name; a folder that links lead to twice is listed once."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise BadInputError(f"{folder}: no such file or folder")
    found: list[Path] = []
    seen: set[str] = set()

    def fail(error: OSError) -> None:
        raise BadInputError(f"{error.filename}: cannot be listed ({error.strerror})") from error

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        found += [path for name in sorted(names) if os.path.isfile(path := Path(parent, name))]
    return found


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
                if _text(header.file_meta, "MediaStorageSOPClassUID") == uid.MediaStorageDirectoryStorage:
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
    columns, rows = int(_number(header, "Columns") or 0), int(_number(header, "Rows") or 0)
    frames = int(_number(header, "NumberOfFrames") or 1)
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
        return next((value for name in names if (value := _number(first(name), name)) is not None), None)

    def words(name: str) -> frozenset[str]:
        return frozenset(word.upper() for word in _texts(first(name), name))

    orientation = _numbers(first("ImageOrientationPatient"), "ImageOrientationPatient", 6)
    position = _numbers(first("ImagePositionPatient"), "ImagePositionPatient", 3)
    spacing = _numbers(first("PixelSpacing"), "PixelSpacing", 2)
    image_type = _texts(first("FrameType"), "FrameType") or _texts(header, "ImageType")
    status = path.stat()
    slope, syntax = number("RescaleSlope"), getattr(header.file_meta, "TransferSyntaxUID", None)
    return Slice(
        path=path,
        frame=frame,
        frames=frames,
        kind=_KINDS.get(_text(header, "SOPClassUID"), "other"),
        instance_uid=_text(header, "SOPInstanceUID") or str(path),
        person=(_text(header, "PatientID"), _text(header, "PatientName"), _text(header, "PatientBirthDate")),
        study=(_text(header, "StudyInstanceUID"), _text(header, "StudyDate"), _text(header, "StudyTime")),
        series=_text(header, "SeriesInstanceUID"),
        number=int(_number(header, "SeriesNumber") or 0),
        instance=frame + 1 if frames > 1 else int(_number(header, "InstanceNumber") or 0),
        acquisition=int(_number(header, "AcquisitionNumber") or 0),
        image_type=tuple(word.upper() for word in image_type),
        repetition_time=number("RepetitionTime"),
        echo_time=number("EchoTime", "EffectiveEchoTime"),
        inversion_time=number("InversionTime", "InversionTimes"),
        flip_angle=number("FlipAngle"),
        sequence=words("ScanningSequence") | _enhanced_sequence(words),
        variant=words("SequenceVariant"),
        options=words("ScanOptions"),
        volumetric=_text(header, "MRAcquisitionType").upper() == "3D",
        angiography=_text(header, "AngioFlag").upper() == "Y",
        b_value=number("DiffusionBValue") if number("DiffusionBValue") is not None else _private_b(header),
        agent=_text(header, "ContrastBolusAgent").strip().lower(),
        text=f"{_text(header, 'SeriesDescription')} {_text(header, 'ProtocolName')}".lower(),
        body=_text(header, "BodyPartExamined").upper(),
        kernel=" ".join(_texts(first("ConvolutionKernel"), "ConvolutionKernel")).upper(),
        moment=int(_number(first("TemporalPositionIdentifier"), "TemporalPositionIdentifier") or 0),
        burned_in=_text(header, "BurnedInAnnotation").upper() == "YES",
        orientation=None if orientation is None else (orientation[:3], orientation[3:]),
        position=position,
        shape=shape,
        edges=None if spacing is None or min(spacing) <= 0 else (spacing[1], spacing[0]),
        thickness=number("SliceThickness"),
        slope=1.0 if slope is None else slope,
        intercept=number("RescaleIntercept") or 0.0,
        padding=_padding(header),
        grey=_number(header, "SamplesPerPixel") in (None, 1.0)
        and _text(header, "PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2"),
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
    wanted = pixels * int(_number(header, "SamplesPerPixel") or 1) * int(_number(header, "BitsAllocated") or 16) // 8
    return "" if end - begin >= wanted + 8 else "is cut short"


def _groups(sequence: Any) -> list[Dataset]:
    """The functional groups that describe the frames of an enhanced image, each a data set of its own."""
    found = []
    for item in sequence or []:
        for element in item:
            if element.VR == "SQ" and element.value:
                found.append(element.value[0])
    return found


def _private_b(header: Dataset) -> float | None:
    for tag in _B_VALUES:
        if tag in header:
            value = header[tag].value
            first = value[0] if isinstance(value, list | tuple | pydicom.multival.MultiValue) and value else value
            try:
                found = float(first.decode() if isinstance(first, bytes) else first) % 1e9  # GE adds a billion
            except (TypeError, ValueError, UnicodeDecodeError):
                continue
            return found if 0 <= found < 1e5 else None
    return None


def _padding(header: Dataset) -> float | None:
    """What stands for no measurement, as it is stored; written unsigned by some where the pixels are signed."""
    value = _number(header, "PixelPaddingValue")
    signed = _number(header, "PixelRepresentation") == 1
    return value - 65536 if value is not None and signed and value > 32767 else value


def _numbers(header: Dataset, name: str, count: int) -> tuple[float, ...] | None:
    value = header.get(name)
    try:
        found = tuple(float(item) for item in value)
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and np.isfinite(found).all() else None


def _number(header: Dataset, name: str) -> float | None:
    value = header.get(name)
    if isinstance(value, pydicom.multival.MultiValue | list | tuple):
        value = value[0] if value else None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if abs(found) < 1e12 else None  # NaN is not


def _texts(header: Dataset, name: str) -> tuple[str, ...]:
    value = header.get(name)
    if value is None:
        return ()
    several = value if isinstance(value, pydicom.multival.MultiValue | list | tuple) else [value]
    return tuple(str(item)[:_MOST_TEXT].strip() for item in several)


def _text(header: Dataset, name: str) -> str:
    return next(iter(_texts(header, name)), "")
