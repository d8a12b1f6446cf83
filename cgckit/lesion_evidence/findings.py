"""What takes long to find out about a case and is asked for twice: it stays with the case, and with its prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from weakref import WeakKeyDictionary

from torch import Tensor

from cgckit.images.case import Case

_FOUND: WeakKeyDictionary[Case, dict[str, Tensor]] = WeakKeyDictionary()


def finding(case: Case, name: str, search: Callable[[], Tensor]) -> Tensor:
    """What was found of a case under a name, not to be written to; `search` is asked the first time."""
    known = _FOUND.setdefault(case, {})
    if name not in known:
        known[name] = search().contiguous()  # as it can be written down
    return known[name]


def findings(case: Case) -> Mapping[str, Tensor]:
    """All that was found of a case so far, by name."""
    return dict(_FOUND.get(case, {}))


def recall(case: Case, found: Mapping[str, Tensor]) -> None:
    """Remember what was found of a case with the same images."""
    _FOUND.setdefault(case, {}).update(found)
