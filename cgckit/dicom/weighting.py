"""`Finding`: what a stack shows, read from the numbers in its headers; words count only where numbers do not decide.

Echo, repetition and inversion times and flip angles make the contrast, so they say what a sequence is; descriptions are
written by people: `t2_space_dark-fluid` is a FLAIR, and `Sag_T1_FLAIR` is T1-weighted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cgckit.dicom.slices import Slice
from cgckit.dicom.stacks import Stack

WEIGHTINGS = ("flair", "t1", "t1ce", "t2", "pd", "t2star", "swi", "dwi", "adc", "ct")
"""What can be taken; everything else has a name that says why it is not."""

_LOCALISERS = {"LOCALIZER", "SCOUT", "SURVEY", "TOPOGRAM"}
_PROJECTIONS = {"MIP", "MINIP", "MNIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "SUBTRACTION", "SUBTRACT", "VOLREN"}
_MAPS = {"FA", "EADC", "EXP_ADC", "RELATIVE_ADC", "CBF", "CBV", "RCBV", "MTT", "TTP", "TMAX", "PERFUSION", "FIELD_MAP"}
_MAPS |= {"T1 MAP", "T2 MAP", "T2_STAR MAP", "TENSOR", "COLFA", "SPECTROSCOPY"}
_REFORMATTED = {"MPR", "REFORMATTED", "CURVED_MPR", "CSA MPR", "CSAPARALLEL"}
_NOT_MAGNITUDE = {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "B0 MAP", "PHASE_MAP", "F", "FAT"}
_SCREENS = {"SCREEN SAVE", "SCREENSHOT", "CSA REPORT", "CSA 3D EDITOR"}
_NO_AGENT = {"", "none", "no", "n", "nein", "non", "native", "nativ", "without", "no contrast", "unknown", "0"}
_ENHANCED = re.compile(r"(^|[^a-z])(\+ ?(c|gd|km|gad|contrast)|post|gd|gad|gado|km|t1ce|t1c|ce|contrast)([^a-z]|$)")
_PLAIN = re.compile(r"(^|[^a-z])(pre|ohne|without|w/o|nativ|native|non?.?(contrast|km|gd|gad))([^a-z]|$)")
_ELSEWHERE = re.compile(
    r"SPINE|CHEST|THORAX|ABDOMEN|PELVIS|KNEE|HIP|SHOULDER|HEART|LEG|ARM|BREAST|WRIST|ANKLE|FOOT|HAND|LIVER"
)
_SHARP = re.compile(r"^(H|B|J|HR|BR)[A-Z]?(5[5-9]|[6-9]\d)|BONE|LUNG|EDGE|DETAIL|SHARP|^FC(3\d|8\d)|^Y[A-E]")
# Below that a DWI is an image without diffusion weighting, which looks like T2 [s/mm^2].
_DIFFUSION = 300.0


@dataclass(frozen=True)
class Finding:
    """What a stack shows.

    Attributes:
        name: one of `WEIGHTINGS`, or another word for what is not taken.
        why: what it was told by, in words and numbers of ours; nothing of a header's text.
        enhanced: whether a contrast agent had been given.
        derived: whether it was computed from another series, as a reformatted plane.
        sharp: CT: made for bone.
    """

    name: str
    why: str
    enhanced: bool = False
    derived: bool = False
    sharp: bool = False


def weigh(stack: Stack) -> Finding:
    """Say what a stack shows."""
    item = stack.first
    kinds = set(item.image_type)
    if reason := _useless(item, kinds):
        return Finding(*reason)
    derived = bool(kinds & _REFORMATTED) or (
        "DERIVED" in kinds and not kinds & {"ADC", "TRACEW", "TRACE", "SWI", "NORM"}
    )
    if item.kind == "ct":
        return _tomography(item, derived)
    found = _by_numbers(item, kinds)
    if found is None:
        found = _by_words(item)
    name, why = found
    enhanced, told = _agent(item)
    if name == "t1" and enhanced:
        name, why = "t1ce", f"{why}; {told}"
    return Finding(name, why, enhanced, derived)


def is_scout(stack: Stack) -> bool:
    """Whether the scanner calls it a localizer, as CT's overview that may be part of the series it is for."""
    return not _LOCALISERS.isdisjoint(stack.first.image_type)


def _useless(item: Slice, kinds: set[str]) -> tuple[str, str] | None:
    """What is no volume of a head, whatever its weighting."""
    if item.kind == "other":
        return "no image", "neither an MR nor a CT image, as a report, a screenshot or another scanner's"
    if item.burned_in or kinds & _SCREENS or ("SECONDARY" in kinds and item.orientation is None):
        return "screenshot", "a picture of a screen, in which a name may be written"
    if kinds & _LOCALISERS:
        return "localizer", "called so by the scanner"
    if _ELSEWHERE.search(item.body):
        return "elsewhere", "another part of the body, by its header"
    if kinds & _PROJECTIONS:
        return "projection", "a projection or a difference of other images"
    if kinds & _MAPS:
        return "map", "a map computed from other images"
    if item.kind == "mr" and kinds & _NOT_MAGNITUDE:
        return "no magnitude", "a phase, real, imaginary or fat image"
    return None


def _tomography(item: Slice, derived: bool) -> Finding:
    sharp = bool(_SHARP.search(item.kernel)) or bool(re.search(r"bone|knochen", item.text))
    enhanced, told = _agent(item)
    if enhanced:
        return Finding("ct with contrast", f"{told}: vessels are as bright as blood", True, derived, sharp)
    return Finding("ct", "a CT image" + (", sharpened for bone" if sharp else ""), False, derived, sharp)


def _by_numbers(item: Slice, kinds: set[str]) -> tuple[str, str] | None:
    """The weighting as the sequence's times make it; None where they leave it open."""
    if kinds & {"ADC"}:
        return "adc", "called an ADC map by the scanner"
    if kinds & {"TRACEW", "TRACE"} and (item.b_value is None or item.b_value >= _DIFFUSION):
        return "dwi", "the mean of all directions (trace)"
    if "SWI" in kinds:
        return "swi", "called so by the scanner"
    if item.b_value is not None and item.b_value >= _DIFFUSION:
        return "dwi", f"b {item.b_value:.0f} s/mm2"
    if item.angiography or "TOF" in item.variant or "TOF" in kinds:
        return "angiography", "called so by the scanner"
    if item.b_value is not None and ("EP" in item.sequence or item.b_value > 0):
        return "b0", f"diffusion images of b {item.b_value:.0f} s/mm2, too low to show diffusion"
    repetition, echo, inversion = item.repetition_time, item.echo_time, item.inversion_time or 0.0
    if repetition is None or echo is None or repetition <= 0:
        return None
    times = f"TR {repetition:.0f}, TE {echo:.3g}" + (f", TI {inversion:.0f}" if inversion else "") + " ms"
    inverted = inversion > 0 or "IR" in item.sequence
    if "EP" in item.sequence:
        return "echo planar", f"{times}: diffusion without its b-value, perfusion or function"
    if inverted and echo >= 60 and repetition >= 3500 and (inversion == 0 or 1400 <= inversion <= 3200):
        return "flair", f"{times}: fluid is nulled, T2 shows"
    if inverted and 0 < inversion < 400:
        return "stir", f"{times}: fat is nulled"
    if inverted and echo < 50 and (inversion == 0 or 350 <= inversion <= 1400):
        return "t1", f"{times}: inversion recovery with a short echo"
    if inverted:
        return None
    gradient = "GR" in item.sequence and "SE" not in item.sequence
    if gradient or (not item.sequence and 0 < (item.flip_angle or 90) < 60):
        return _gradient_echo(item, repetition, echo, times)
    if repetition >= 3500 and echo >= 60 and "flair" in _by_words(item):
        return "flair", f"{times}, and by its description: the header has no inversion time"
    if repetition >= 1800 and echo >= 60:
        return "t2", f"{times}: long repetition, late echo"
    if repetition >= 1800 and echo < 45:
        return "pd", f"{times}: long repetition, early echo"
    if repetition <= 1500 and echo < 40:
        return "t1", f"{times}: short repetition, early echo"
    return None


def _gradient_echo(item: Slice, repetition: float, echo: float, times: str) -> tuple[str, str] | None:
    flip = item.flip_angle or 0.0
    if "SS" in item.variant and "SP" not in item.variant and "MP" not in item.variant and flip >= 30:
        return "steady state", f"{times}, flip {flip:.0f}: balanced or refocused"
    if echo >= 12:
        return "t2star", f"{times}: gradient echo, late echo"
    if repetition < 15 and flip < 3:
        return None
    if repetition < 60 and flip >= 5:
        return "t1", f"{times}, flip {flip:.0f}: spoiled gradient echo"
    if 60 <= repetition <= 1000 and flip >= 40:
        return "t1", f"{times}, flip {flip:.0f}: gradient echo, short repetition"
    if repetition > 1000 and echo < 8 and item.volumetric:
        return "t1", f"{times}, flip {flip:.0f}: prepared gradient echo"
    return None


_WORDS = (
    ("localizer", r"local|scout|survey|topogram"),
    ("adc", r"(^|[^a-z])adc([^a-z]|$)"),
    ("t1", r"t1.?flair|mp.?rage|(^|[^a-z])(bravo|spgr|tfl|vibe)([^a-z]|$)"),
    ("flair", r"flair|dark.?fl|tirm"),
    ("swi", r"(^|[^a-z])(swi|swan)"),
    ("t2star", r"t2.?(\*|star)|hemo|gre.?t2"),
    ("dwi", r"dwi|trace|diff"),
    ("pd", r"(^|[^a-z])pd"),
    ("t1", r"t1"),
    ("t2", r"t2"),
)


def _by_words(item: Slice) -> tuple[str, str]:
    """What the description names, where the numbers are missing or leave it open."""
    for name, pattern in _WORDS:
        if re.search(pattern, item.text):
            return name, "by its description: the sequence's times are missing or unusual"
    return "unknown", "the sequence's times are missing or unusual, and its description names no weighting"


def _agent(item: Slice) -> tuple[bool, str]:
    """Whether a contrast agent had been given, and what says so."""
    if item.agent not in _NO_AGENT:
        return True, "contrast agent in the header"
    if _ENHANCED.search(item.text) and not _PLAIN.search(item.text):
        return True, "contrast agent by its description"
    return False, ""
