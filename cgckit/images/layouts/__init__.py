"""How people keep their scans: `find_subjects` recognises files, folders, BIDS, tables and numbered channels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cgckit.errors import BadInputError
from cgckit.images.files import check_file
from cgckit.images.layouts.bids import brain_masks, find_in_bids, is_bids, own_masks
from cgckit.images.layouts.channels import find_channels
from cgckit.images.layouts.filters import Filters
from cgckit.images.layouts.folders import find_in_folders
from cgckit.images.layouts.found import Found, Notes
from cgckit.images.layouts.names import IMAGE, read_name
from cgckit.images.layouts.table import lists_participants, read_mappings, read_rows, read_table
from cgckit.images.layouts.tree import Tree, is_dicom
from cgckit.images.layouts.versions import Image
from cgckit.images.modalities import SUFFIX, is_image_file
from cgckit.images.nifti import grid_of, header_of

__all__ = ["Filters", "Found", "find_subjects"]

Input = str | Path | Mapping[str, object]
"""A file, a folder, a table, or the files of one subject by their modalities."""


def find_subjects(inputs: Sequence[Input], modalities: Sequence[str] | None, filters: Filters) -> list[Found]:
    """The subjects in what a user points at; of images, at most headers are read. What was chosen is said in the log.

    Args:
        inputs: files, folders, tables, mappings.
        modalities: names of numbered channels that have none.
        filters: which images of BIDS data sets are wanted.

    Raises:
        BadInputError: nothing found, or what cannot be told for sure.
    """
    notes = Notes()
    found = read_mappings([item for item in inputs if isinstance(item, Mapping)])
    files: list[Path] = []
    for path in [Path(item) for item in inputs if not isinstance(item, Mapping)]:
        if os.path.isdir(path):
            found += _in_folder(path, modalities, filters, notes)
            continue
        if path.name.lower().endswith(".img"):
            path = path.with_name(path.name[:-4] + ".hdr")
        check_file(path)
        if path.suffix.lower() == ".tsv":
            found += _in_table(path, modalities, filters, notes)
        elif is_image_file(path.name):
            files.append(path)
        elif is_dicom(path):
            raise BadInputError(f"{path}: a DICOM file; make a cohort of its folder: cgckit dicom")
        else:
            raise BadInputError(f"{path}: not an image (.nii, .nii.gz, ...), a table (.tsv) or a folder")
    if files:
        found += _of_files(files, modalities, filters, notes)
    if not found:
        raise BadInputError("no input: give image files, a folder of subjects or a table (.tsv)")
    notes.say()
    return found


def _in_folder(folder: Path, modalities: Sequence[str] | None, filters: Filters, notes: Notes) -> list[Found]:
    tree = Tree.of(folder)
    found, rest = find_channels(tree.paths, modalities)
    named, orphans = find_in_folders(folder, [path for path in rest if not is_bids(path)], notes)
    bids = find_in_bids([path for path in rest if is_bids(path)], filters, notes)
    found += named + bids
    if not found:
        raise BadInputError(f"{folder}: {_why_nothing(folder, tree)}")
    _adopt(folder, found, orphans, notes)
    if bids and (folder / "participants.tsv").is_file():
        persons = {item.person for item in bids}
        for row in read_rows(folder / "participants.tsv"):
            if (person := f"sub-{row.get('participant_id', '').removeprefix('sub-')}") not in persons:
                notes.warn("participants.tsv names somebody of whom there is no image", person)
    return found


def _in_table(table: Path, modalities: Sequence[str] | None, filters: Filters, notes: Notes) -> list[Found]:
    rows = read_rows(table)
    if not lists_participants(rows):
        return read_table(table, rows)
    persons = [f"sub-{row['participant_id'].removeprefix('sub-')}" for row in rows]
    found = [item for item in _in_folder(table.parent, modalities, filters, notes) if item.person in persons]
    if not found:
        raise BadInputError(f"{table}: nobody that it names has images in {table.parent}")
    return found


def _of_files(files: Sequence[Path], modalities: Sequence[str] | None, filters: Filters, notes: Notes) -> list[Found]:
    """The subjects of files that were given one by one."""
    images = [path for path in files if read_name(path.name).kind == IMAGE]
    if not images:
        raise BadInputError(f"{files[0]}: a segmentation or mask by its name, not an image; give the images themselves")
    found, rest = find_channels(files, modalities)
    plain = [path for path in rest if not is_bids(path)]
    unnamed = [path for path in plain if path in images and read_name(path.name).modality is None]
    folders = {path.parent for path in plain}
    root = Path(os.path.commonpath([os.path.abspath(folder) for folder in folders])) if folders else Path()
    absolute = {Path(os.path.abspath(path)): path for path in plain}
    named, orphans = find_in_folders(root, list(absolute), notes) if plain else ([], [])
    for item in named:  # as they were given
        item.files = {modality: absolute[path] for modality, path in item.files.items()}
        item.brain_mask = absolute[item.brain_mask] if item.brain_mask else None
    used = {path for item in named for path in item.files.values()}
    unnamed = [path for path in unnamed if path not in used]
    if unnamed and (named or found or any(is_bids(path) for path in rest)):
        raise BadInputError(
            f"{unnamed[0]}: no modality in the file's name, while others have one; "
            "rename it (for instance *_flair.nii.gz) or list the files in a table (.tsv)"
        )
    found += [
        Found(SUFFIX.sub("", path.name), files={"image": path}, above=path.resolve().parts[:-1]) for path in unnamed
    ]
    found += named + find_in_bids([path for path in rest if is_bids(path)], filters, notes)
    _adopt(None, found, orphans, notes)
    return found


def _adopt(folder: Path | None, found: Sequence[Found], orphans: Sequence[Image], notes: Notes) -> None:
    """Give brain masks to those that have none: masks beside their images, and those in derivatives of BIDS."""
    for mask in orphans:
        owners = [item for item in found if any(path.parent == mask.path.parent for path in item.files.values())]
        if len(owners) == 1:
            owners[0].adopt(mask.path)
        else:
            notes.warn("a brain mask of no subject, not used", str(mask.path))
    without = {(item.person, item.session): item for item in found if item.brain_mask is None}
    if folder is None or not without or not any(person.startswith("sub-") for person, _ in without):
        return
    offers: dict[tuple[str, str | None], list[Image]] = {}
    for root in (folder, *([folder.parent] if folder.resolve().name == "rawdata" else [])):
        for who, image in brain_masks(root):
            offers.setdefault(who, []).append(image)
    for who, item in without.items():
        fitting = next((mask for mask in own_masks(offers.get(who, [])) if _on_one_grid(item, mask.path)), None)
        if fitting is not None:
            item.brain_mask = fitting.path
            notes.tell(f"brain masks of derivatives/{_derivative(fitting.path)} are used", item.source)


def _derivative(path: Path) -> str:
    parts = path.parts
    return parts[len(parts) - 1 - parts[::-1].index("derivatives") + 1]


def _on_one_grid(found: Found, mask: Path) -> bool:
    first = next(iter(found.files.values()))
    try:
        return grid_of(header_of(mask), mask).matches(grid_of(header_of(first), first))
    except BadInputError:
        return False


def _why_nothing(folder: Path, tree: Tree) -> str:
    dicom = next((path for path in folder.rglob("*") if is_dicom(path)), None)
    if dicom is not None:
        return f"no NIfTI image, but DICOM ({dicom.name}); make a cohort of it: cgckit dicom"
    images = [path for path in tree.paths if read_name(path.name).kind == IMAGE]
    if images and images[0].parent.name.lower() in ("imagestr", "imagests"):
        return f"no dataset.json beside {images[0].parent.name}/, which would name the channels of its images; add it"
    if images:
        return (
            f"no image found whose name says what it is, as {images[0].name} does not; name files as *_flair.nii.gz or "
            "t1.nii.gz, or list them in a table (.tsv)"
        )
    return "no image found; expected a folder for each subject with files such as *_flair.nii.gz or t1.nii.gz"
