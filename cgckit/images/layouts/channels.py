"""Images whose channels are numbered: nnU-Net's `CASE_0000.nii.gz`, and the Decathlon's files of several volumes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cgckit.errors import BadInputError
from cgckit.images.layouts.found import Found
from cgckit.images.layouts.names import IMAGE, read_name
from cgckit.images.modalities import SUFFIX, canonical_modality

_NUMBERED = re.compile(r"(.+)_(\d{4})")
_FOLDERS = ("imagestr", "imagests", "imagesval")
_DESCRIPTION = "dataset.json"


def find_channels(paths: Sequence[Path], modalities: Sequence[str] | None) -> tuple[list[Found], list[Path]]:
    """The subjects of images with numbered channels; and the files that are no such images.

    The channels' names are those of `dataset.json` beside the images or one folder above, else `modalities`, in the
    order of the numbers.

    Raises:
        BadInputError: nothing names the channels, or not all of them.
    """
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        name = read_name(path.name)
        if name.kind == IMAGE and name.modality is None and path.parent.name.lower() not in ("labelstr", "labelsts"):
            folders[path.parent].append(path)
    found: list[Found] = []
    taken: set[Path] = set()
    for folder, files in folders.items():
        description = next((d for d in (folder / _DESCRIPTION, folder.parent / _DESCRIPTION) if d.is_file()), None)
        cases: dict[str, dict[int, Path]] = defaultdict(dict)
        for path in files:
            if match := _NUMBERED.fullmatch(SUFFIX.sub("", path.name)):
                cases[match[1]][int(match[2])] = path
        above = folder.resolve().parts
        # Somebody's images may be numbered from 1 on; channels begin with 0.
        if cases and all(0 in channels for channels in cases.values()):
            names = _names(files[0], description, modalities, sorted({n for case in cases.values() for n in case}))
            for person, channels in cases.items():
                subject = Found(person, above=above)
                for number, path in sorted(channels.items()):
                    subject.add(names[number], path)
                found.append(subject)
                taken |= set(channels.values())
        elif description is not None and folder.name.lower() in _FOLDERS:
            names = _names(files[0], description, modalities, None)
            for path in files:
                subject = Found(SUFFIX.sub("", path.name), above=above)
                for modality in names.values():
                    subject.add(modality, path)
                if len(names) > 1:
                    subject.volumes = {modality: number for number, modality in names.items()}
                found.append(subject)
            taken |= set(files)
    return found, [path for path in paths if path not in taken]


def _names(
    path: Path, description: Path | None, modalities: Sequence[str] | None, numbers: Sequence[int] | None
) -> dict[int, str]:
    """The modality of each channel."""
    names = {} if description is None else _described(description)
    wanted = list(names if numbers is None else numbers)
    if not names and modalities is not None and len(modalities) == len(wanted):
        names = {number: canonical_modality(name) for number, name in zip(wanted, modalities, strict=True)}
    if unnamed := [number for number in wanted if number not in names]:
        channels = ", ".join(f"{number:04d}" for number in unnamed)
        raise BadInputError(
            f"{path}: channels {channels} have no names; put a {_DESCRIPTION} with channel_names beside "
            f"{path.parent.name}/, or say them in their order where a model is trained, as --modalities flair,t1"
        )
    if len(set(names.values())) < len(names):
        raise BadInputError(f"{description}: two channels are called alike ({', '.join(names.values())})")
    return {number: names[number] for number in wanted}


def _described(description: Path) -> dict[int, str]:
    """The channels' names in a `dataset.json` of nnU-Net or the Decathlon; none if it has none."""
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
        names = content.get("channel_names") or content.get("modality") or {}
        return {int(number): canonical_modality(str(name)) for number, name in names.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise BadInputError(f"{description}: cannot be read as the description of a data set ({error})") from error
