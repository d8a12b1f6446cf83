"""Which mask is to be compared with which reference."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError
from cgckit.images.layouts.labels import check_inside, split_label, subject_label
from cgckit.images.layouts.names import is_brain_mask, is_mask, read_name
from cgckit.images.modalities import SUFFIX, is_image_file

REFINED, PRIOR, MASK = "refined", "prior", "mask"

_PLACE = "{subject}"
_SEGMENTATION = re.compile(r"(^|[_-])seg$", re.IGNORECASE)


@dataclass(frozen=True)
class Predicted:
    """What is to be scored for one subject.

    Attributes:
        subject: its name in the input of the run, or in the name of its mask.
        label: its label in a folder of results; None for masks from elsewhere.
        maps: file of each map: `prior` and `refined`, or `mask`. Files hold masks or probabilities.
    """

    subject: str
    label: str | None
    maps: Mapping[str, Path]


def find_predictions(prediction: str | Path) -> list[Predicted]:
    """Find the masks: an output folder of cgckit, a file, a folder of files or a pattern.

    Raises:
        BadInputError: if there are none.
    """
    path = Path(prediction)
    if _is_pattern(str(prediction)):
        found = [Predicted(name, None, {MASK: file}) for name, file in _expand(str(prediction))]
    elif path.is_file():
        found = [_plain(path)]
    elif path.is_dir():
        results = any(path.glob("sub-*/**/anat/*_space-orig_*"))
        found = _of_results(Derivatives(path)) if results else [_plain(file) for file in _images_in(path)]
    else:
        raise BadInputError(f"{prediction}: no such file or folder")
    if not found:
        raise BadInputError(f"{prediction}: no mask found; give .nii.gz files, a folder of them or a pattern")
    names = [predicted.subject for predicted in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInputError(f"{prediction}: several masks of {twice}; give a pattern with {_PLACE}")
    return found


def side_by_side(predictions: Sequence[str | Path]) -> list[Predicted]:
    """Find the masks of one or several predictions, and put together what they say of each subject.

    Of several, maps are named by where they came from: the last part of its path, or all of it where two end alike.

    Raises:
        BadInputError: as `find_predictions`; or two of them are the same.
    """
    if len(predictions) == 1:
        return find_predictions(predictions[0])
    names = [Path(prediction).name for prediction in predictions]
    if len(set(names)) < len(names):
        names = [str(prediction) for prediction in predictions]
    if len(set(names)) < len(names):
        raise BadInputError(f"{', '.join(names)}: give each prediction once")
    together: dict[str, Predicted] = {}
    for name, prediction in zip(names, predictions, strict=True):
        for found in find_predictions(prediction):
            known = together.get(found.subject, Predicted(found.subject, found.label, {}))
            maps = {f"{name}: {map_}": file for map_, file in found.maps.items()}
            together[found.subject] = replace(known, maps={**known.maps, **maps})
    return list(together.values())


def find_reference(reference: str | Path, predicted: Predicted, *, alone: bool) -> Path | None:
    """Find one subject's reference; None if there is none.

    Args:
        reference: a file; a folder of files that have the subject's name in theirs; a folder with a folder for each
            subject, or for each person with one for each session; or a pattern with `{subject}`.
        predicted: the subject.
        alone: whether it is the only subject, which is when `reference` may be one file, or the subject's own folder.

    Raises:
        BadInputError: if `reference` does not exist, is one file for several subjects, or offers several files; or the
            subject's name leads out of it.
    """
    names = [predicted.subject] + ([f"sub-{predicted.label}"] if predicted.label else [])
    for name in names:
        check_inside(name)
    path = Path(reference)
    if _PLACE in str(reference):
        for name in names:
            if files := [file for _, file in _expand(str(reference).replace(_PLACE, _escape(name)))]:
                return _only(files, predicted.subject)
        return None
    if path.is_file():
        if not alone:
            raise BadInputError(f"{path}: one reference for several subjects; give a folder or a pattern with {_PLACE}")
        return path
    if not path.is_dir():
        raise BadInputError(f"{path}: no such file or folder")
    for name in names:
        for files in _places(path, name):
            if candidates := _references_among(files):
                return _only(candidates, predicted.subject)
    if predicted.label and (candidates := _references_among(_of_session(path, predicted.label))):
        return _only(candidates, predicted.subject)
    own = [file for file in _images_in(path) if _SEGMENTATION.search(SUFFIX.sub("", file.name))]
    return _only(own, predicted.subject) if alone and own else None


def _places(folder: Path, name: str) -> Iterator[list[Path]]:
    """Files that may be of the subject `name`: the nearest first."""
    yield [file for file in _images_in(folder) if _names(file, name)]
    if (folder / name).is_dir():  # of somebody who is called by two folders, too
        yield sorted((folder / name).rglob("*"))
    yield [
        file for entry in sorted(folder.iterdir()) if entry.is_dir() and _names(entry, name) for file in _below(entry)
    ]
    below = _below(folder)
    yield [file for file in below if name in file.relative_to(folder).parts[:-1]]
    yield [file for file in below if _names(file, name)]


def _of_session(folder: Path, label: str) -> list[Path]:
    """Files of one session of one person, in folders that are called by the two."""
    person, session = split_label(label)
    found = []
    for file in _below(folder) if session else []:
        above = [_plain_label(part) for part in file.relative_to(folder).parts[:-1]]
        if person in above and {session, f"ses{session}"} & set(above[above.index(person) :]):
            found.append(file)
    return found


def _plain_label(folder: str) -> str:
    try:
        return split_label(subject_label(folder))[0]
    except BadInputError:
        return ""


def _below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if is_image_file(file.name))


def _of_results(results: Derivatives) -> list[Predicted]:
    """The maps in an output folder of `refine`, `prior` or `predict`, named through its participants.tsv."""
    found = []
    for label, source in results.subjects().items():
        priors = results.prior_probabilities(label)
        maps = {PRIOR: priors[0]} if len(priors) == 1 else {f"{PRIOR} {_seg_entity(file)}": file for file in priors}
        if results.refined_mask(label).exists():
            maps[REFINED] = results.refined_mask(label)
        if not maps:
            raise BadInputError(f"{results.root}: no mask of sub-{label} yet; let the run finish first")
        found.append(Predicted(source, label, maps))
    return found


def _seg_entity(path: Path) -> str:
    match = re.search(r"_seg-([A-Za-z0-9]+)_", path.name)
    return match.group(1) if match else path.name


def _plain(path: Path) -> Predicted:
    """A mask from elsewhere, named by its file without the words that only say that it is a mask."""
    stem = SUFFIX.sub("", path.name)
    words = re.split(r"(?=[_-])", stem)
    while len(words) > 1 and is_mask(words[-1].strip("_-")):
        words.pop()
    return Predicted("".join(words), None, {MASK: path})


def _references_among(files: Sequence[Path]) -> list[Path]:
    """Those that are segmentations by name, else those that are at least no image and no brain mask."""
    files = [file for file in files if is_image_file(file.name) and file.is_file() and not is_brain_mask(file.name)]
    for kind in (
        lambda name: _SEGMENTATION.search(SUFFIX.sub("", name)) is not None,
        is_mask,
        lambda name: read_name(name).modality is None,
    ):
        if chosen := [file for file in files if kind(file.name)]:
            return sorted(chosen)
    return []


def _only(files: Sequence[Path], subject: str) -> Path:
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise BadInputError(
            f"{files[0].parent}: several references of {subject} ({names}); give a pattern with {_PLACE}"
        )
    return files[0]


def _names(path: Path, subject: str) -> bool:
    """Whether the subject's name is in the file's, not followed or preceded by letters or digits: 1 is not in
    10."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(subject)}(?![A-Za-z0-9])", path.name) is not None


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and is_image_file(path.name))


def _is_pattern(text: str) -> bool:
    return _PLACE in text or ("*" in text and not Path(text).exists())


def _escape(name: str) -> str:
    """Make a name match itself only in a pattern."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _expand(pattern: str) -> list[tuple[str, Path]]:
    """Files that match a pattern, each with the text that stands for `{subject}` (or its plain name without
    one)."""
    path = Path(pattern)
    anchor, relative = (Path(path.anchor), path.relative_to(path.anchor)) if path.anchor else (Path(), path)
    parts = re.split(r"(\{subject\}|\*|\?)", str(relative))
    seen = False
    expression = ""
    for part in parts:
        if part == _PLACE:
            expression += "(?P=subject)" if seen else "(?P<subject>[^/]+?)"
            seen = True
        else:
            expression += {"*": "[^/]*", "?": "[^/]"}.get(part) or re.escape(part)
    found = []
    for file in sorted(anchor.glob(str(relative).replace(_PLACE, "*"))):
        match = re.fullmatch(expression, str(file.relative_to(anchor)))
        if file.is_file() and is_image_file(file.name) and (match or not seen):
            found.append((match["subject"] if match and seen else _plain(file).subject, file))
    return found
