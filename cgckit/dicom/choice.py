"""`Candidate`: a stack, what it shows and whether it is taken; one image of each weighting for every study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cgckit.dicom.people import People
from cgckit.dicom.slices import Slice
from cgckit.dicom.stacks import Stack, planes_of, stacks_of
from cgckit.dicom.weighting import WEIGHTINGS, Finding, is_scout, weigh

_SUFFIXES = {"flair": "FLAIR", "t1": "T1w", "t1ce": "ce-gadolinium_T1w", "t2": "T2w", "pd": "PDw", "t2star": "T2starw"}
# A volume with less than this is no whole head.
_FEWEST, _LOWEST_MM = 8, 80.0
_USUAL_B = 1000.0


@dataclass(eq=False)
class Candidate:
    """A stack in its place.

    Attributes:
        stack: the images.
        finding: what they show.
        subject: label of the person.
        session: label of the study.
        part: which of the stacks of its series it is, from 1; 0 if it is the only one.
        taken: whether it became a file.
        why: why it was taken, or not.
        notes: what was done to it.
        told: why the user does not want it taken.
        failed: whether it is damaged, incomplete or could not be converted.
    """

    stack: Stack
    finding: Finding
    subject: str
    session: str
    part: int = 0
    taken: bool = False
    why: str = ""
    notes: tuple[str, ...] = ()
    told: str = ""
    failed: bool = False

    @property
    def name(self) -> str:
        """How messages call it, without anything personal."""
        part = f", part {self.part}" if self.part else ""
        return f"sub-{self.subject}, ses-{self.session}, series {self.stack.first.number}{part}"

    @property
    def suffix(self) -> str:
        """How its file is called after the labels; as in BIDS where BIDS has a word."""
        return _SUFFIXES.get(self.finding.name, self.finding.name)

    @property
    def rank(self) -> tuple[object, ...]:
        """What of two images of one weighting is taken first: see `choose`."""
        item = self.stack.first
        distance = abs((item.b_value or _USUAL_B) - _USUAL_B) if self.finding.name == "dwi" else 0.0
        filtered = "NORM" not in item.image_type
        coarse = round(max(self.stack.edges), 1)
        # Of two equal T1, the later may have been taken after a contrast agent that no header names.
        order = item.number if self.finding.name == "t1" else -item.number
        return self.finding.derived, self.finding.sharp, distance, coarse, filtered, order, self.part

    def row(self, file: str) -> dict[str, object]:
        """Its row of `series.tsv`."""
        stack = self.stack
        placed = stack.axes is not None and self.finding.name != "localizer"
        return {
            "participant_id": f"sub-{self.subject}",
            "session_id": f"ses-{self.session}",
            "series": stack.first.number,
            "part": self.part or None,
            "shows": self.finding.name,
            "taken": "yes" if self.taken else "no",
            "file": file or None,
            "why": "; ".join([self.finding.why, *filter(None, [self.why]), *self.notes]),
            "plane": stack.plane if placed else None,
            "images": len(stack.slices),
            "voxel_mm": " x ".join(f"{edge:.3g}" for edge in stack.edges) if placed else None,
            "tilt_deg": round(stack.tilt, 1) if placed and stack.first.kind == "ct" else None,
            "contrast_agent": "yes" if self.finding.enhanced else "no",
        }


def candidates_of(slices: Sequence[Slice], people: People) -> list[Candidate]:
    """All stacks of all series, by person, study and number."""
    series: dict[tuple[str, str, str], list[Slice]] = {}
    for item in slices:
        series.setdefault((*people.place(item), item.series), []).append(item)
    found: list[Candidate] = []
    for (subject, session, _), members in series.items():
        stacks = stacks_of(members)
        planes = planes_of([stack for stack in stacks if not is_scout(stack)])
        if planes > 1:
            why = f"images that face {planes} ways: a localizer, or a projection that turns"
            whole = Stack(tuple(sorted(members, key=lambda item: item.instance)))
            found.append(Candidate(whole, Finding("localizer", why), subject, session))
            continue
        for number, stack in enumerate(stacks, 1):
            found.append(Candidate(stack, weigh(stack), subject, session, number if len(stacks) > 1 else 0))
    return sorted(found, key=lambda item: (item.subject, int(item.session), item.stack.first.number, item.part))


def choose(candidates: Sequence[Candidate], convert: Callable[[Candidate], str]) -> None:
    """Take the best image of each weighting of every study; says of each candidate why it was taken or not.

    Among whole, usable images of a head: an acquired one before one that was reformatted, a soft CT before one
    sharpened for bone, a DWI with b near 1000, the smaller longest voxel edge, one corrected for the coil's
    sensitivity, the later series, but the earlier T1. Where `convert` gives a reason why not, the next is tried.
    """
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for candidate in candidates:
        candidate.failed = candidate.stack.is_broken
        candidate.why = candidate.told or candidate.stack.fault or _partial(candidate.stack)
        if candidate.finding.name in WEIGHTINGS:
            groups.setdefault((candidate.subject, candidate.session, candidate.finding.name), []).append(candidate)
        else:
            candidate.why = ""
    for group in groups.values():
        chosen: Candidate | None = None
        for candidate in sorted((item for item in group if not item.why), key=lambda item: item.rank):
            if chosen is not None:
                candidate.why = f"not as good as series {chosen.stack.first.number}: {_difference(chosen, candidate)}"
                continue
            candidate.why = convert(candidate)
            candidate.failed = bool(candidate.why)
            if not candidate.why:
                candidate.taken, chosen = True, candidate


def _partial(stack: Stack) -> str:
    if len(stack.slices) < _FEWEST:
        return f"{len(stack.slices)} slices alone"
    if stack.height < _LOWEST_MM:
        return f"covers {stack.height:.0f} mm of the head alone"
    return ""


def _difference(chosen: Candidate, other: Candidate) -> str:
    """In what the one that was chosen is better."""
    words = ("reformatted", "sharpened for bone", "its b-value", "its voxels are larger", "no correction for the coil")
    pairs = zip(words, chosen.rank, other.rank, strict=False)
    late = "it came later, perhaps after a contrast agent" if other.finding.name == "t1" else "it came earlier"
    return next((word for word, one, another in pairs if one != another), late)
