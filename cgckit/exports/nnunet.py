"""`export_nnunet`: a run as a data set that nnU-Net trains on, in which what nobody is sure of is ignored.

A voxel is called lesion, or background, where the prior and the refined map agree and the refined probability is not
near one half; every other voxel gets nnU-Net's ignore label, from which no loss is taken. So the disputed rim of a
lesion, what refinement added or removed, and what it could not decide teach nothing.

Layout: https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md, ignore_label.md
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cgckit.arrays import FloatArray
from cgckit.derivatives import Derivatives, write_volume
from cgckit.errors import BadInputError, UsageError
from cgckit.exports.folder import export_folder
from cgckit.exports.run import Refined, read_run
from cgckit.images.volume import Volume

logger = logging.getLogger(__name__)

BACKGROUND, LESION, IGNORED = 0, 1, 2
"""Values of the exported labels; nnU-Net wants that to be ignored to be the highest."""
# nnU-Net normalises by this name: CT by the whole set's intensities, anything else image by image.
_CHANNELS = {"ct": "CT"}
_FOLDER = re.compile(r"Dataset\d{3}_.+")


@dataclass(frozen=True)
class NnunetCase:
    """What became of a subject: its volumes in ml, and the share of what is lesion in either map that is ignored."""

    label: str
    lesion_ml: float
    ignored_ml: float

    @property
    def ignored_share(self) -> float:
        """Of all that is lesion or ignored."""
        return self.ignored_ml / max(self.lesion_ml + self.ignored_ml, 1e-9)


def trusted_labels(refined: FloatArray, prior: FloatArray | None, doubt: float) -> npt.NDArray[np.uint8]:
    """Labels to train on, [H, W, L]: 1 lesion, 0 background, 2 to be ignored.

    Args:
        refined: [H, W, L] refined probability of lesion.
        prior: [H, W, L] the prior's; None where there is none.
        doubt: a refined probability in (0.5 - doubt, 0.5 + doubt) decides nothing.
    """
    lesion = refined >= 0.5
    unsure = np.abs(refined - 0.5) < doubt
    if prior is not None:
        unsure |= lesion != (prior >= 0.5)
    return np.where(unsure, IGNORED, lesion).astype(np.uint8)


def export_nnunet(
    run: str | Path,
    out: str | Path,
    *,
    scans: str | Path | None = None,
    doubt: float = 0.25,
    step: Callable[[int], None] = lambda total: None,
) -> list[NnunetCase]:
    """Write a run as `imagesTr`, `labelsTr` and `dataset.json`.

    Args:
        run: output folder of `refine` or `predict`.
        out: the data set's folder, called `DatasetNNN_NAME` as nnU-Net wants it; an earlier export is replaced.
        scans: what the run was made of; by default, what lies beside the scan that each mask names.
        doubt: refined probabilities nearer to one half than this are ignored; 0 ignores only what the prior disputes.
        step: called with the number of subjects as each is done.

    Returns:
        What became of each subject that was exported; one that lacks a modality that others have is left out with a
        warning, since nnU-Net takes none.

    Raises:
        BadInputError: no complete run, a file that cannot be read, images of one subject on different grids.
        UsageError: `out` is not called as nnU-Net wants it or holds something else; `doubt` is not in [0, 0.5).
    """
    run, out = Path(run), Path(out)
    if not 0 <= doubt < 0.5:
        raise UsageError(f"--doubt {doubt:g}: a distance from one half; give 0 or more, and less than 0.5")
    if not _FOLDER.fullmatch(out.resolve().name):
        raise UsageError(f"{out}: nnU-Net wants a folder called DatasetNNN_NAME, as nnUNet_raw/Dataset501_Lesions")
    subjects = read_run(run, None if scans is None else Path(scans))
    channels = max((tuple(subject.scans) for subject in subjects), key=len)
    whole = [subject for subject in subjects if tuple(subject.scans) == channels]
    for subject in subjects:
        if subject not in whole:
            missing = ", ".join(name for name in channels if name not in subject.scans)
            logger.warning(
                "sub-%s: has no %s, and nnU-Net takes no subject that lacks one: left out", subject.label, missing
            )
    with export_folder(out, "nnunet", [run]) as ledger:
        done = []
        for subject in whole:
            files = [_image(out, subject, k) for k in range(len(channels))]
            ledger.intend([*files, _label(out, subject)])
            done.append(_write(out, subject, doubt))
            step(len(whole))
        ledger.intend([out / "dataset.json"])
        values = {"background": BACKGROUND, "lesion": LESION, "ignore": IGNORED}
        write_description(out, channels, values, len(done))
        ledger.record([out / "dataset.json"])
    return done


def _write(out: Path, subject: Refined, doubt: float) -> NnunetCase:
    refined = Volume.load(subject.probability, allow_constant=True)
    prior = None if subject.prior is None else Volume.load(subject.prior, allow_constant=True).array
    labels = trusted_labels(refined.array, prior, doubt)
    for k, path in enumerate(subject.scans.values()):
        scan = Volume.load(path)
        if not scan.grid.matches(refined.grid):
            raise BadInputError(f"{path}: not on the grid of {subject.mask}; export what lies on one grid")
        # On one and the same grid to the last digit: nnU-Net compares.
        write_volume(_image(out, subject, k), scan.array, refined.grid)
    write_volume(_label(out, subject), labels, refined.grid)
    ml = float(np.prod(refined.grid.spacing)) / 1000
    case = NnunetCase(subject.label, float((labels == LESION).sum()) * ml, float((labels == IGNORED).sum()) * ml)
    if case.lesion_ml == 0 and case.ignored_ml > 0:
        logger.warning("sub-%s: no voxel is surely lesion, %.2f ml are ignored", subject.label, case.ignored_ml)
    return case


def write_description(out: Path, channels: Sequence[str], values: Mapping[str, int], count: int) -> None:
    """Write `dataset.json`.

    Args:
        out: the data set's folder.
        channels: names of the modalities, in the order of the files.
        values: of the labels, by name.
        count: of the subjects to train on.
    """
    Derivatives(out).write_json(
        "dataset.json",
        {
            "channel_names": {str(k): _CHANNELS.get(name, name) for k, name in enumerate(channels)},
            "labels": dict(values),
            "numTraining": count,
            "file_ending": ".nii.gz",
        },
    )


def _case(subject: Refined) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", subject.label)


def _image(out: Path, subject: Refined, channel: int) -> Path:
    return out / "imagesTr" / f"{_case(subject)}_{channel:04d}.nii.gz"


def _label(out: Path, subject: Refined) -> Path:
    return out / "labelsTr" / f"{_case(subject)}.nii.gz"
