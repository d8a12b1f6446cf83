"""How bright each tissue and each part of a lesion is in each kind of image, drawn at random around what is usual."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

CHANNELS = ("flair", "t1", "t1ce", "t2")
"""The images that are simulated, in this order."""

_WILD = 0.12


@dataclass(frozen=True)
class Signals:
    """Signals in one image, in units of healthy white matter's.

    Attributes:
        gm, csf, nuclei: grey matter, fluid, deep nuclei.
        fat, dura, vessel, plexus: what stripping the skull leaves, membranes, vessels, choroid plexus.
        oedema, solid, core, patch: the parts of lesions.
        rim: added to the solid part where it enhances.
        halo: added along the ventricles, on both sides.
        limbic: added to insular, cingulate and mesial temporal cortex, on both sides.
    """

    gm: float
    csf: float
    nuclei: float
    fat: float
    dura: float
    vessel: float
    plexus: float
    oedema: float
    solid: float
    core: float
    patch: float
    rim: float
    halo: float
    limbic: float


class _Draw:
    """Short words for what is drawn again and again."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def log_between(self, low: float, high: float) -> float:
        return float(np.exp(self.between(np.log(low), np.log(high))))


def draw_signals(rng: np.random.Generator) -> dict[str, Signals]:
    """Draw the signals of every channel of one subject."""
    draw = _Draw(rng)
    flair = _flair(draw)
    gm, csf = draw.between(0.6, 0.9), draw.between(0.15, 0.5)
    fluid_core = draw.chance(0.6)
    t1 = _t1(draw, gm, csf, fluid_core)
    found = dict(zip(CHANNELS, (flair, t1, _t1ce(draw, t1), _t2(draw, fluid_core)), strict=True))
    for name in CHANNELS[1:]:
        if draw.chance(_WILD):
            anything = {field.name: draw.between(0.2, 2.0) for field in dataclasses.fields(Signals)}
            anything |= {"rim": draw.between(-0.5, 0.8), "halo": draw.between(-0.1, 0.2), "limbic": 0.0}
            found[name] = Signals(**anything)
    return found


def _flair(draw: _Draw) -> Signals:
    """Grey matter a little brighter than white, fluid dark, lesions bright, with cores of any brightness."""
    u = draw.between
    gm, csf = u(1.0, 1.35), u(0.05, 0.5)
    if draw.chance(_WILD):
        gm, csf = u(0.75, 1.6), u(0.05, 0.85)
    contrast = draw.log_between(0.12, 1.0)
    oedema = max(gm, 1.0) + contrast
    solid = 1 + (oedema - 1) * u(0.0, 1.1)
    core = u(csf, 0.9) if draw.chance(0.5) else u(0.6, oedema)
    return Signals(
        gm=gm,
        csf=csf,
        nuclei=gm - u(0, 0.2),
        fat=u(0.8, 3.2),
        dura=u(0.3, 1.4),
        vessel=u(0.2, 1.2),
        plexus=u(0.5, 1.7),
        oedema=oedema,
        solid=solid,
        core=core,
        patch=max(gm, 1.0) + draw.log_between(0.12, 0.9),
        rim=u(-0.1, 0.25) * contrast,
        halo=u(0, 0.5) * max(contrast, 0.3),
        limbic=u(0.0, 0.18),
    )


def _t1(draw: _Draw, gm: float, csf: float, fluid_core: bool) -> Signals:
    """White matter brightest, lesions dark, darker still where their core is fluid."""
    u = draw.between
    return Signals(
        gm=gm,
        csf=csf,
        nuclei=gm + u(0, 0.12),
        fat=u(0.8, 2.2),
        dura=u(0.4, 1.0),
        vessel=u(0.3, 1.2),
        plexus=u(0.55, 0.9),
        oedema=u(0.55, 0.97),
        solid=u(0.5, 1.05),
        core=u(csf, 0.7) if fluid_core else u(0.5, 1.4),
        patch=u(0.45, 0.95),
        rim=u(-0.1, 0.2),
        halo=u(-0.1, 0),
        limbic=u(-0.02, 0.02),
    )


def _t1ce(draw: _Draw, t1: Signals) -> Signals:
    """As T1, with vessels, membranes, choroid plexus and two lesions of three brightened by contrast agent."""
    u = draw.between
    gm = t1.gm + u(-0.08, 0.08)
    enhances = draw.chance(0.65)
    return Signals(
        gm=gm,
        csf=t1.csf + u(-0.08, 0.1),
        nuclei=gm + u(0, 0.12),
        fat=t1.fat * u(0.8, 1.3),
        dura=u(0.6, 2.2),
        vessel=u(0.8, 2.6),
        plexus=u(0.8, 2.2),
        oedema=t1.oedema + u(-0.08, 0.08),
        solid=t1.solid + u(-0.05, 0.1) + (u(0.0, 0.8) if enhances else 0),
        core=t1.core + u(-0.08, 0.1),
        patch=t1.patch + (u(0, 1.0) if draw.chance(0.15) else u(-0.05, 0.05)),
        rim=u(0.2, 1.6) if enhances else u(-0.1, 0.1),
        halo=u(-0.1, 0),
        limbic=u(-0.02, 0.02),
    )


def _t2(draw: _Draw, fluid_core: bool) -> Signals:
    """Fluid brightest, lesions between it and grey matter."""
    u = draw.between
    gm, csf = u(1.1, 1.7), u(1.7, 3.5)
    oedema = gm + u(0.1, 1.2)
    return Signals(
        gm=gm,
        csf=csf,
        nuclei=gm - u(0, 0.3),
        fat=u(0.8, 2.6),
        dura=u(0.3, 1.2),
        vessel=u(0.2, 1.2),
        plexus=u(1.3, 2.6),
        oedema=oedema,
        solid=gm + (oedema - gm) * u(-0.3, 1.1),
        core=u(gm, max(csf, oedema) * 1.1) if fluid_core else u(0.5, oedema),
        patch=gm + u(0.1, 1.2),
        rim=u(-0.3, 0.2),
        halo=u(0, 0.3),
        limbic=u(0.0, 0.1),
    )
