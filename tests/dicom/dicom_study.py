"""DICOM as a scanner writes it, made of arrays; with identifiers wherever a header has room for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

# What the sequences of a head are told by; ms and degrees.
FLAIR = {"RepetitionTime": 9000, "EchoTime": 120, "InversionTime": 2500, "ScanningSequence": ["SE", "IR"]}
T1 = {"RepetitionTime": 1900, "EchoTime": 2.5, "InversionTime": 900, "FlipAngle": 9, "ScanningSequence": ["GR", "IR"]}
T1CE = {**T1, "ContrastBolusAgent": "Gadovist for Xanthippe Doebling"}
T2 = {"RepetitionTime": 5000, "EchoTime": 95, "FlipAngle": 150, "ScanningSequence": "SE"}
ADC = {"RepetitionTime": 6000, "EchoTime": 80, "ScanningSequence": "EP"}
TRACE = {**ADC, "DiffusionBValue": 1000.0}
ADC_TYPE = ("DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND")
SCOUT = {"RepetitionTime": 8, "EchoTime": 4, "FlipAngle": 20, "ScanningSequence": "GR"}

SECRETS = ("DOEBLING", "Xanthippe", "19500307", "20240229", "143059", "PID-4711", "ACC-0815", "Secretham")
SECRETS += ("Housename", "Physicianus", "1.2.826.0.1.3680043", "Scannerman", "Stationeight", "claustrophobic")
"""Whatever must not be found in anything that is written."""


@dataclass
class Person:
    """Who is scanned."""

    patient: str = "PID-4711"
    name: str = "DOEBLING^Xanthippe"
    birth: str = "19500307"
    study: str = field(default_factory=generate_uid)
    date: str = "20240229"
    series: int = 0

    def again(self, date: str) -> Person:
        """The same in another study."""
        return Person(self.patient, self.name, self.birth, date=date)


def header(person: Person, modality: str) -> Dataset:
    """What all slices of a series share, with something personal wherever there is room for it."""
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
    found.Modality = modality
    found.PatientName, found.PatientID, found.PatientBirthDate = person.name, person.patient, person.birth
    found.PatientSex, found.PatientAge, found.PatientComments = "F", "074Y", "claustrophobic"
    found.StudyInstanceUID, found.StudyDate, found.StudyTime = person.study, person.date, "143059"
    found.SeriesDate, found.AcquisitionDate, found.ContentDate = person.date, person.date, person.date
    found.AcquisitionTime, found.ContentTime = "143059.25", "143059"
    found.AccessionNumber, found.StudyID = "ACC-0815", "ACC-0815"
    found.InstitutionName, found.InstitutionAddress = "Secretham General", "Housename 3, Secretham"
    found.ReferringPhysicianName, found.OperatorsName = "Physicianus^A", "Scannerman^B"
    found.StationName, found.DeviceSerialNumber = "Stationeight", "PID-4711"
    found.Manufacturer, found.ManufacturerModelName = "SIEMENS", "Secretham Skyra"
    found.StudyDescription, found.ProtocolName = "Head of Xanthippe DOEBLING", "Xanthippe brain 19500307"
    found.ImageComments, found.RequestedProcedureDescription = "DOEBLING, Xanthippe, 19500307", "Xanthippe DOEBLING"
    found.SequenceName = "*DOEBLING2d1"
    found.FrameOfReferenceUID = generate_uid()
    found.BodyPartExamined = "HEAD"
    found.PatientPosition = "HFS"
    block = found.private_block(0x0029, "SECRETHAM", create=True)
    block.add_new(0x10, "LO", "Xanthippe DOEBLING 19500307")
    person.series += 1
    found.SeriesNumber, found.SeriesInstanceUID = person.series, generate_uid()
    return found


def write_series(
    folder: Path,
    person: Person,
    array: np.ndarray,
    affine: np.ndarray,
    tags: Mapping[Any, Any],
    *,
    modality: str = "MR",
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "M", "ND", "NORM"),
    description: str = "Xanthippe DOEBLING sequence",
    slope: float = 1,
    intercept: float = 0,
    signed: bool = False,
    positions: Sequence[float] | None = None,
    uid: str | None = None,
) -> list[Path]:
    """Write an array [columns, rows, slices] as a series, a file a slice.

    `positions` places the slices in steps of the affine's third column; by default 0, 1, 2, ...
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = header(person, modality)
    base.SeriesInstanceUID = uid or base.SeriesInstanceUID
    lps = np.diag([-1, -1, 1, 1]) @ affine
    edges = np.linalg.norm(lps[:3, :3], axis=0)
    stored = np.round((array - intercept) / slope)
    kind = np.int16 if signed else np.uint16
    assert stored.min() >= np.iinfo(kind).min
    assert stored.max() <= np.iinfo(kind).max
    steps = range(array.shape[2]) if positions is None else positions
    paths = []
    for number, step in enumerate(steps):
        file = Dataset()
        file.update(base)
        file.file_meta = FileMetaDataset(base.file_meta)
        file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        file.ImageType, file.SeriesDescription = list(image_type), description
        file.InstanceNumber, file.AcquisitionNumber = number + 1, 1
        for name, value in tags.items():
            if isinstance(name, int):  # a vendor's own element: its kind, and its value
                file.add_new(name, *value)
            else:
                setattr(file, name, value)
        file.ImageOrientationPatient = [float(f"{x:.8f}") for x in (*lps[:3, 0] / edges[0], *lps[:3, 1] / edges[1])]
        file.ImagePositionPatient = [float(f"{x:.8f}") for x in lps[:3, 3] + step * lps[:3, 2]]
        file.PixelSpacing = [float(edges[1]), float(edges[0])]
        file.SliceThickness = float(edges[2])
        file.Rows, file.Columns = array.shape[1], array.shape[0]
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated = file.BitsStored = 16
        file.HighBit, file.PixelRepresentation = 15, int(signed)
        if (slope, intercept) != (1, 0) or modality == "CT":
            file.RescaleSlope, file.RescaleIntercept = slope, intercept
        file.PixelData = np.ascontiguousarray(stored[:, :, number].T.astype(kind)).tobytes()
        path = folder / f"IM{person.series:03d}{number:04d}"
        file.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def head(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """A head of 100 with a brighter ball at its left front, and a mark of its own value near each corner."""
    points = np.stack(np.indices(shape), axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    found = 100.0 * (np.linalg.norm(points / (70, 85, 60), axis=-1) < 1)
    found[np.linalg.norm(points - (-30, 35, 10), axis=-1) < 14] = 300
    for number, centre in enumerate(CORNERS):
        found[(np.abs(points - centre) <= MARK_MM).all(axis=-1)] = 400 + 50 * number
    return found


MARK_MM = 9.0
CORNERS = [(x, y, z) for x in (-60.0, 60.0) for y in (-75.0, 75.0) for z in (-50.0, 50.0)]
"""Centres of the marks; mark k has the value 400 + 50 k. RAS, mm."""


def box(
    edges: tuple[float, float, float], turn: np.ndarray | None = None, height: float = 126
) -> tuple[tuple[int, int, int], np.ndarray]:
    """A grid that covers the head: its shape, and its affine, turned about the middle. Axial, columns to the left."""
    size = np.array([150.0, 180.0, height])
    directions = np.diag([-1.0, -1.0, 1.0]) if turn is None else turn
    extent = np.abs(directions.T @ size)
    shape = np.round(extent / edges).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = directions * edges
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    return tuple(int(count) for count in shape), affine


SAGITTAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""Columns to the back, rows to the feet, slices to the right."""
CORONAL = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def tilted(degrees: float, edges: tuple[float, float, float]) -> tuple[tuple[int, int, int], np.ndarray]:
    """An axial grid whose slices lean by some degrees, while the table moves straight: it holds the marks too."""
    shape, affine = box(edges, height=190)
    angle = np.deg2rad(degrees)
    affine[:3, 1] = np.array([0, -np.cos(angle), -np.sin(angle)]) * edges[1]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return shape, affine


def marks(path: Path) -> list[float]:
    """The values of an image at the places of the marks."""
    image: Any = nib.load(path)
    voxels = np.array([[*corner, 1] for corner in CORNERS]) @ np.linalg.inv(image.affine).T
    array = np.asarray(image.dataobj)
    return [float(array[tuple(np.rint(voxel[:3]).astype(int))]) for voxel in voxels]


MARKS = [400.0 + 50 * number for number in range(8)]
"""What `marks` finds in an image of `head` that is the right side up."""


def write_study(root: Path) -> None:
    """Two persons with five sequences each, in three planes, and a localizer; the first again with a tilted CT."""
    people = Person(), Person("PID-4712", "ROE^Rick", "19600101", date="20230101")
    planes = {"flair": (None, FLAIR), "t1": (SAGITTAL, T1), "t1ce": (SAGITTAL, T1CE), "t2": (CORONAL, T2)}
    for number, person in enumerate(people):
        for name, (turn, tags) in planes.items():
            shape, affine = box((3, 3, 4), turn)
            write_series(root / f"{number}" / name, person, head(shape, affine), affine, tags)
        shape, affine = box((3, 3, 5))
        write_series(root / f"{number}" / "map", person, head(shape, affine), affine, ADC, image_type=ADC_TYPE)
        uid = generate_uid()
        for turn in (None, SAGITTAL, CORONAL):
            shape, affine = box((3, 3, 60), turn)
            person.series = 8
            scout = root / f"{number}" / f"scout{'none' if turn is None else int(turn[0, 2])}"
            write_series(scout, person, head(shape, affine), affine, SCOUT, uid=uid)
    shape, affine = tilted(-15, (3, 3, 4))
    tags = {"GantryDetectorTilt": -15.0, "KVP": 120}
    ct = head(shape, affine) - 1000
    write_series(root / "ct", people[0].again("20240301"), ct, affine, tags, modality="CT", intercept=-1024)


def write_enhanced(paths: Sequence[Path], target: Path) -> None:
    """Put the slices of a series into one file, each a frame that is described by functional groups."""
    files = [pydicom.dcmread(path) for path in paths]
    whole = Dataset()
    whole.update(files[0])
    for name in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "EchoTime", "RepetitionTime"):
        delattr(whole, name)
    for name in ("InversionTime", "ScanningSequence", "SliceThickness", "SequenceName"):
        delattr(whole, name)
    whole.file_meta = FileMetaDataset(files[0].file_meta)
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    whole.NumberOfFrames, whole.EchoPulseSequence, whole.InversionRecovery = len(files), "SPIN", "YES"
    timing, echo, modifier = Dataset(), Dataset(), Dataset()
    timing.RepetitionTime, echo.EffectiveEchoTime = files[0].RepetitionTime, files[0].EchoTime
    modifier.InversionTimes = [files[0].InversionTime]
    shared = Dataset()
    shared.MRTimingAndRelatedParametersSequence, shared.MREchoSequence = [timing], [echo]
    shared.MRModifierSequence = [modifier]
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = files[0].ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = files[0].PixelSpacing, files[0].SliceThickness
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    whole.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number, file in enumerate(files):
        content, position, frame = Dataset(), Dataset(), Dataset()
        content.InStackPositionNumber, content.StackID = number + 1, "1"
        content.DimensionIndexValues = [1, number + 1]
        position.ImagePositionPatient = file.ImagePositionPatient
        frame.FrameContentSequence, frame.PlanePositionSequence = [content], [position]
        frames.append(frame)
    whole.PerFrameFunctionalGroupsSequence = frames
    whole.PixelData = b"".join(file.PixelData for file in files)
    whole.save_as(target, enforce_file_format=True)
