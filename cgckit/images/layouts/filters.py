"""`Filters`: which images of a BIDS data set are wanted, by the entities of their names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cgckit.errors import BadInputError
from cgckit.images.layouts.versions import Image
from cgckit.images.modalities import canonical_modality

# The long names of entities, as filter files of BIDS-Apps have them.
_SHORT = {
    "subject": "sub",
    "session": "ses",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "direction": "dir",
    "description": "desc",
    "inversion": "inv",
    "resolution": "res",
    "density": "den",
}
_NOT_IN_NAMES = ("datatype", "suffix", "extension")
_ANY = ("*", "Query.ANY")
_NONE = (None, "Query.NONE", "Query.OPTIONAL")


@dataclass(frozen=True)
class Filters:
    """Wanted values of entities, by modality: `{"flair": {"acq": "highres", "run": None}}`.

    A value is text, a number, a list of them, None for an image without the entity, or "*" for one with any value.
    """

    wanted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Filters:
        """Read a filter file, JSON as fMRIPrep and other BIDS-Apps take it.

        Raises:
            BadInputError: it is missing, or no such file.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise BadInputError(f"{path}: no JSON ({error})") from error
        return cls.of(content, str(path))

    @classmethod
    def of(cls, content: object, name: str = "filters") -> Filters:
        """Take filters as a mapping; BadInputError, naming where they are from, if they are none."""
        if not isinstance(content, Mapping) or not all(isinstance(value, Mapping) for value in content.values()):
            raise BadInputError(f'{name}: give an object for each modality, as {{"flair": {{"acquisition": "3d"}}}}')
        return cls(
            {
                canonical_modality(str(modality)): {_SHORT.get(key, key): value for key, value in entities.items()}
                for modality, entities in content.items()
            }
        )

    def ask_for(self, datatype: str) -> bool:
        """Whether a filter names a data type."""
        return any(entities.get("datatype") == datatype for entities in self.wanted.values())

    def apply(self, images: Sequence[Image]) -> list[Image]:
        """The images that are wanted."""
        return [image for image in images if self._wants(image)]

    def _wants(self, image: Image) -> bool:
        entities = self.wanted.get(image.modality, {})
        return all(
            _fits(image.entities.get(key), value)
            for key, value in entities.items()
            if key not in (*_NOT_IN_NAMES, "sub", "ses")
        )


def _fits(value: str | None, wanted: object) -> bool:
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return any(_fits(value, one) for one in wanted)
    if wanted in _NONE:
        return value is None or wanted == "Query.OPTIONAL"
    if wanted in _ANY:
        return value is not None
    text = str(wanted)
    return value == text or (value is not None and value.isdigit() and text.isdigit() and int(value) == int(text))
