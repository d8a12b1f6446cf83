"""What a sequence is, by its numbers; the numbers are those that vendors' protocols for the head have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydicom", reason="pydicom is not in this environment")
pytest.importorskip("dcm2niix", reason="dcm2niix is not in this environment")

import dicom_study as study

from cgckit.dicom.choice import Candidate, candidates_of
from cgckit.dicom.people import People
from cgckit.dicom.tree import read_tree


def times(
    repetition: float, echo: float, inversion: float | None = None, flip: float = 90, *sequence: str
) -> dict[str, Any]:
    tags: dict[str, Any] = {"RepetitionTime": repetition, "EchoTime": echo, "FlipAngle": flip}
    tags["ScanningSequence"] = list(sequence)
    return tags if inversion is None else {**tags, "InversionTime": inversion}


MR = {
    "2-D FLAIR": ("flair", times(9000, 81, 2500, 150, "SE", "IR")),
    "3-D FLAIR, long nominal echo": ("flair", times(5000, 388, 1800, 120, "SE", "IR")),
    "FLAIR without its TI": ("flair", times(11000, 125, None, 90, "IR")),
    "FLAIR of a 3-D spin echo that says no IR": ("flair", times(4800, 300, 1650, 90, "SE")),
    "T1 FLAIR": ("t1", times(2500, 9, 920, 150, "SE", "IR")),
    "MPRAGE": ("t1", times(2300, 2.98, 900, 9, "GR", "IR")),
    "BRAVO": ("t1", times(8.2, 3.2, 450, 12, "GR")),
    "3-D TFE without TI": ("t1", times(8.1, 3.7, None, 8, "GR")),
    "VIBE": ("t1", times(20, 4.7, None, 25, "GR")),
    "2-D FLASH": ("t1", times(250, 2.5, None, 70, "GR")),
    "T1 spin echo": ("t1", times(550, 9, None, 90, "SE")),
    "T1 SPACE": ("t1", times(700, 11, None, 120, "SE")),
    "T2 turbo spin echo": ("t2", times(5000, 95, None, 150, "SE")),
    "T2 SPACE": ("t2", times(3200, 408, None, 120, "SE")),
    "proton density": ("pd", times(3000, 15, None, 90, "SE")),
    "T2*": ("t2star", times(700, 20, None, 20, "GR")),
    "STIR": ("stir", times(5000, 60, 160, 150, "SE", "IR")),
    "FIESTA": ("steady state", {**times(5.6, 2.4, None, 50, "GR"), "SequenceVariant": "SS"}),
    "EPI without a b-value": ("echo planar", times(2000, 30, None, 90, "EP", "GR")),
    "b 0": ("b0", {**times(6000, 80, None, 90, "EP"), "DiffusionBValue": 0.0}),
    "b 1000": ("dwi", {**times(6000, 80, None, 90, "EP"), "DiffusionBValue": 1000.0}),
    "time of flight": ("angiography", {**times(22, 3.6, None, 18, "GR"), "AngioFlag": "Y"}),
    "the spine": ("elsewhere", {**times(550, 9, None, 90, "SE"), "BodyPartExamined": "TSPINE"}),
    "burned in": ("screenshot", {**times(550, 9, None, 90, "SE"), "BurnedInAnnotation": "YES"}),
    "no times at all": ("unknown", {}),
    "inversion, neither early nor late": ("unknown", times(2000, 55, 900, 90, "SE", "IR")),
    "neither T1 nor T2": ("unknown", times(1600, 50, None, 90, "SE")),
    "gradient echo at an angle too low for T1": ("unknown", times(8, 3, None, 2, "GR")),
    "gradient echo of density": ("unknown", times(500, 5, None, 20, "GR")),
    "MPRAGE without its TI": ("t1", {**times(2300, 3, None, 9, "GR"), "MRAcquisitionType": "3D"}),
}
TYPES = {
    "adc": ("DERIVED", "PRIMARY", "DIFFUSION", "ADC"),
    "dwi": ("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"),
    "map": ("DERIVED", "PRIMARY", "DIFFUSION", "FA"),
    "swi": ("ORIGINAL", "PRIMARY", "M", "SWI", "NORM"),
    "projection": ("DERIVED", "PRIMARY", "MNIP", "SWI"),
    "no magnitude": ("ORIGINAL", "PRIMARY", "P", "ND"),
    "localizer": ("ORIGINAL", "PRIMARY", "LOCALIZER"),
}


def candidate_of(folder: Path, tags: dict[str, Any], **options: Any) -> Candidate:
    shape, affine = study.box((20, 20, 10))
    study.write_series(folder, study.Person(), study.head(shape, affine), affine, tags, **options)
    tree = read_tree(folder)
    (found,) = candidates_of(tree.slices, People.of(tree.slices))
    return found


@pytest.mark.parametrize("sequence", MR)
def test_sequences_are_told_by_their_times(tmp_path: Path, sequence: str) -> None:
    name, tags = MR[sequence]
    assert candidate_of(tmp_path, tags, description="series").finding.name == name


@pytest.mark.parametrize("name", TYPES)
def test_maps_and_localizers_are_told_by_the_scanners_word(tmp_path: Path, name: str) -> None:
    found = candidate_of(tmp_path, times(30, 20, None, 15, "GR"), image_type=TYPES[name], description="series")
    assert found.finding.name == name


@pytest.mark.parametrize(
    ("tag", "value", "name"),
    [
        (0x0019100C, ("IS", "1000"), "dwi"),
        (0x0019100C, ("IS", "0"), "b0"),
        (0x00431039, ("IS", ["1000000800", "8", "0", "0"]), "dwi"),
        (0x00431039, ("LO", "none"), "echo planar"),
    ],
)
def test_b_values_of_siemens_and_ge_are_read(tmp_path: Path, tag: int, value: tuple[str, object], name: str) -> None:
    assert candidate_of(tmp_path, {**times(6000, 80, None, 90, "EP"), tag: value}).finding.name == name  # type: ignore[dict-item]


def test_a_report_in_the_tree_is_no_image(tmp_path: Path) -> None:
    found = candidate_of(tmp_path, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"})
    assert found.finding.name == "no image"


@pytest.mark.parametrize(
    ("description", "sequence", "name"),
    [
        ("t2_space_dark-fluid_sag", "3-D FLAIR, long nominal echo", "flair"),
        ("Sag_T1_FLAIR", "T1 FLAIR", "t1"),
        ("t1 mprage", "T2 turbo spin echo", "t2"),
        ("ax FLAIR without its TI", "T2 turbo spin echo", "flair"),
    ],
)
def test_numbers_count_before_words(tmp_path: Path, description: str, sequence: str, name: str) -> None:
    assert candidate_of(tmp_path, MR[sequence][1], description=description).finding.name == name


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("AX FLAIR", "flair"),
        ("t2_tirm_tra_dark-fluid", "flair"),
        ("Sag T1 FLAIR", "t1"),
        ("3D MPRAGE", "t1"),
        ("t1_mprage post KM", "t1ce"),
        ("ax t2 tse", "t2"),
        ("Knee", "unknown"),
    ],
)
def test_words_count_where_there_are_no_numbers(tmp_path: Path, description: str, name: str) -> None:
    assert candidate_of(tmp_path, {}, description=description).finding.name == name


@pytest.mark.parametrize(
    ("agent", "description", "name"),
    [
        ("Dotarem", "t1", "t1ce"),
        ("NONE", "t1", "t1"),
        (None, "t1 +C", "t1ce"),
        (None, "T1 post Gd", "t1ce"),
        (None, "T1 ax GAD", "t1ce"),
        (None, "t1 se KM", "t1ce"),
        (None, "t1 pre contrast", "t1"),
        (None, "t1 posterior fossa", "t1"),
        (None, "t1 nativ", "t1"),
        (None, "ACE protocol t1", "t1"),
    ],
)
def test_a_contrast_agent_makes_t1ce(tmp_path: Path, agent: str | None, description: str, name: str) -> None:
    tags = {**MR["MPRAGE"][1], "ProtocolName": "brain", **({} if agent is None else {"ContrastBolusAgent": agent})}
    assert candidate_of(tmp_path, tags, description=description).finding.name == name


@pytest.mark.parametrize(
    ("kernel", "sharp"),
    [("H31s", False), ("J40s", False), ("H60s", True), ("Hr68h", True), ("BONE", True), ("FC21", False)],
)
def test_a_bone_kernel_is_told(tmp_path: Path, kernel: str, sharp: bool) -> None:
    found = candidate_of(tmp_path, {"ConvolutionKernel": kernel}, modality="CT").finding
    assert (found.name, found.sharp) == ("ct", sharp)


def test_ct_with_contrast_is_not_taken(tmp_path: Path) -> None:
    assert candidate_of(tmp_path, {"ContrastBolusAgent": "Iomeron"}, modality="CT").finding.name == "ct with contrast"


def test_what_is_said_of_a_series_has_none_of_its_text(tmp_path: Path) -> None:
    tags = {**MR["MPRAGE"][1], "ContrastBolusAgent": "Gadovist for Xanthippe Doebling"}
    row = candidate_of(tmp_path, tags, description="Xanthippe DOEBLING post").row("")
    assert not any(secret.lower() in str(row).lower() for secret in (*study.SECRETS, "gadovist"))
