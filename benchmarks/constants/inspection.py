"""Which numbers shape a result: found in the modules themselves, so that none can be forgotten."""

from __future__ import annotations

import ast
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Literal
from unittest.mock import patch

import numpy as np

import cgckit.lesion_evidence
from cgckit.cgc.settings import InferenceSettings, Settings, TrainingSettings
from cgckit.options import SHARE, options_of
from cgckit.priors.base import Prior

Kind = Literal["prior", "refinement", "training"]
Number = int | float | np.number[Any]
Value = Number | tuple[Number, ...]

IMAGES = ("cgckit.images.working_grid",)
REFINEMENT = tuple(f"cgckit.cgc.{name}" for name in ("appearance", "margin", "parts", "inference"))

LEFT_OUT: Mapping[str, str] = {
    **dict.fromkeys(
        (f"cgckit.lesion_evidence.cores.{name}" for name in ("_OPEN", "_LESION", "_SURFACE", "_TISSUE", "_FLUID")),
        "name what a voxel is",
    ),
    "cgckit.lesion_evidence.evidence._FAR": "infinity",
    "cgckit.cgc.margin._NOWHERE": "infinity",
    "cgckit.cgc.parts._BELOW_HALF": "says that a voxel is no lesion",
    "cgckit.images.working_grid._MAD_TO_STD": "a unit",
    "cgckit.images.working_grid._LEAST_SEEN": "of images on another grid, as no cohort that is measured on has",
    "cgckit.images.working_grid.IMAGE_SPACING": "half of it is eight times the voxels",
    "cgckit.priors.base.PRIOR_CONTRACT": "a version",
}
"""Constants that are not varied, and why."""

BESIDE_ONE = frozenset(
    {
        "cgckit.cgc.margin._CERTAINTY",
        "cgckit.lesion_evidence.cores._CLOSED",
        "cgckit.lesion_evidence.cores._TISSUE_CLOSED",
        "cgckit.lesion_evidence.regions.ENCLOSED",
        "cgckit.priors.aucseg._LEAST",
        "cgckit.priors.phases._LEVEL_RATIO",
        "cgckit.priors.phases._TAIL",
    }
)
"""Constants that lie beside 1 and cannot cross it; of an option that is a share, its range tells."""


@dataclass(frozen=True)
class Constant:
    """A number, or some that belong together, that shapes the result.

    Attributes:
        kind: what it shapes: the prior's map, refinement by a trained network, or the network's training.
        owner: the module; else `prior` or `settings`.
        name: in it.
        value: as it stands.
        bounded: it cannot cross 1.
    """

    kind: Kind
    owner: str
    name: str
    value: Value
    bounded: bool = False

    @property
    def title(self) -> str:
        """Its name in tables."""
        return f"{self.owner}.{self.name}"

    @property
    def in_module(self) -> bool:
        """Whether it is a module's, and no option or setting."""
        return self.owner not in ("prior", "settings")

    def half(self) -> Value | None:
        """Half of it; None where that is the same number.

        Of what is bounded by 1 and above one half, the distance to 1 is varied: a share is held to be half as large
        when what is left to 1 is twice as large.
        """
        return self._vary(0.5)

    def double(self) -> Value | None:
        """Twice of it, likewise."""
        return self._vary(2.0)

    def _vary(self, factor: float) -> Value | None:
        varied = (
            tuple(self._scale(number, factor) for number in self.value)
            if isinstance(self.value, tuple)
            else self._scale(self.value, factor)
        )
        return None if varied == self.value else varied

    def _scale(self, number: Number, factor: float) -> Number:
        """A number times a factor, of the same type: a whole one but 0 stays at least 1, or at most -1."""
        scaled = float(number) * factor
        if self.bounded and number > 0.5:
            scaled = 1 + (float(number) - 1) * (factor if number > 1 else 1 / factor)
        if isinstance(number, int | np.integer):
            return int(np.sign(scaled)) * max(1, int(abs(scaled)))
        scaled = float(f"{scaled:.12g}")
        return np.float32(scaled) if isinstance(number, np.float32) else scaled


def find_constants(prior: Prior, settings: Settings, *, training: bool = False) -> list[Constant]:
    """Every constant and default that shapes what this prior and these settings make of a scan.

    Those of the modules of the lesion evidence, of the working grid and of the prior itself, and the prior's options,
    shape the prior; those of appearance, margin, parts and inference, and the settings of inference, the refinement.
    What is 0 cannot be halved and is no constant here, and what is left out says why in `LEFT_OUT`.

    Args:
        prior: whose map is refined.
        settings: of the refinement.
        training: the settings of training too.
    """
    own = {kind.__module__ for kind in type(prior).__mro__ if issubclass(kind, Prior)}
    package = cgckit.lesion_evidence
    evidence = {module.name for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")}
    modules: list[tuple[Kind, str]] = [("prior", name) for name in sorted({*own, *evidence, *IMAGES})]
    modules += [("refinement", name) for name in REFINEMENT]
    found = [
        Constant(kind, module, name, value, f"{module}.{name}" in BESIDE_ONE)
        for kind, module in modules
        for name, value in module_constants(import_module(module)).items()
        if f"{module}.{name}" not in LEFT_OUT
    ]
    fields: list[tuple[Kind, str, object, type]] = [
        ("prior", "prior", prior, type(prior)),
        ("refinement", "settings", settings, InferenceSettings),
    ]
    if training:
        fields.append(("training", "settings", settings, TrainingSettings))
    for field_kind, owner, holder, options in fields:
        for option in options_of(options):
            value = getattr(holder, option.name)
            if _is_numeric(value) and np.any(value):
                found.append(Constant(field_kind, owner, option.name, value, option.range == SHARE))
    return found


def module_constants(module: ModuleType) -> dict[str, Value]:
    """The numbers, and tuples of numbers, that a module assigns to names in capitals."""
    names = (name for node in _tree(module.__name__).body for name in _assigned(node) if name.isupper())
    return {name: vars(module)[name] for name in names if _is_numeric(vars(module)[name])}


def _assigned(node: ast.stmt) -> Iterator[str]:
    """The names that a statement assigns to."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        for each in target.elts if isinstance(target, ast.Tuple) else [target]:
            if isinstance(each, ast.Name):
                yield each.id


def _is_numeric(value: object) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_numeric, value))
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


@cache
def _tree(module: str) -> ast.Module:
    file = sys.modules[module].__file__ or ""
    return ast.parse(Path(file).read_text(encoding="utf-8") if file.endswith(".py") else "")


def holders(constant: Constant) -> list[tuple[str, str]]:
    """The modules that hold a module's constant, each with its name there: the own one, and who imports it by name."""
    found = [(constant.owner, constant.name)]
    for module in sorted(name for name in sys.modules if name.startswith("cgckit.")):
        for node in _tree(module).body:
            if isinstance(node, ast.ImportFrom) and node.module == constant.owner:
                found += [(module, each.asname or each.name) for each in node.names if each.name == constant.name]
    return found


@contextmanager
def replaced(constant: Constant, value: Value) -> Iterator[None]:
    """A module's constant has another value, wherever it is held, while the block runs."""
    with ExitStack() as stack:
        for module, name in holders(constant):
            stack.enter_context(patch.object(sys.modules[module], name, value))
        yield


@contextmanager
def calls_noted() -> Iterator[set[str]]:
    """The names of the modules of which a function is called while the block runs."""
    called: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_globals.get("__name__", ""))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before if callable(before) else None)
