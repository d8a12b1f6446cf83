"""`evaluate`: compare masks with references."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from cgckit.arrays import BoolArray
from cgckit.errors import BadInputError
from cgckit.evaluation.pairing import Predicted, find_reference, side_by_side
from cgckit.evaluation.result import EvaluationResult, Row
from cgckit.evaluation.scoring import Metrics, choose_metrics, score
from cgckit.images.volume import Volume
from cgckit.jobs import Ratings
from cgckit.jobs.console import bars_console

logger = logging.getLogger(__name__)


def evaluate(
    prediction: str | Path | Sequence[str | Path],
    reference: str | Path,
    *,
    labels: Sequence[int] = (),
    metrics: str | Sequence[str] | Metrics | None = None,
    metric_options: Sequence[str] | Mapping[str, object] = (),
    allow_missing: bool = False,
    exclude: str | Path | None = None,
    progress: bool = False,
) -> EvaluationResult:
    """Score masks against references.

    A voxel is predicted where the map is 0.5 or more: that is every label of a mask, and what is more likely
    lesion than not in a map of probability.

    Args:
        prediction: an output folder of `refine`, `prior` or `predict`, whose prior and refined maps are
            scored; or a mask file, a folder of masks, or a pattern such as `masks/{subject}_mask.nii.gz`. Several of
            them are scored side by side, each map under the name of what it came from: `gmm: refined`.
        reference: a file, for one subject; a folder of files with the subjects' names in theirs; a folder with a
            folder for each subject that holds a segmentation (`seg.nii.gz`, `*_seg.nii.gz`); or a pattern with
            `{subject}`. Subjects of an output folder are found by their names in the run's input.
        labels: which values of the reference are lesion; by default all above 0.
        metrics: names of metrics, or metrics by the names that they shall have in tables; by default the built-in ones
            and all others that are installed.
        metric_options: of metrics that are given by name, see `choose_metrics`.
        allow_missing: leave out subjects without reference, which is an error otherwise.
        exclude: a table of subjects to leave out, see `cgckit.jobs.ratings.Ratings`.
        progress: show a progress bar on stderr.

    Raises:
        UsageError: an unknown metric or option.
        BadInputError: nothing found, no reference, an unreadable file, or two files on different grids.
        PluginError: a metric that was asked for cannot be used, or fails.

    Example:
        >>> result = evaluate("refined/", "references/")  # doctest: +SKIP
        >>> result.summary("refined").mean["dice"]  # doctest: +SKIP
    """
    chosen = choose_metrics(metrics, metric_options)
    predictions = side_by_side([prediction] if isinstance(prediction, str | Path) else prediction)
    if exclude is not None:
        excluded = Ratings.read(exclude).apply((predicted.subject, predicted.label) for predicted in predictions)
        predictions = [predicted for predicted in predictions if predicted.subject not in excluded]
    pairs = [
        (predicted, found)
        for predicted in predictions
        if (found := find_reference(reference, predicted, alone=len(predictions) == 1)) is not None
    ]
    paired = {predicted.subject for predicted, _ in pairs}
    missing = tuple(predicted.subject for predicted in predictions if predicted.subject not in paired)
    if missing and not (allow_missing and pairs):
        hint = "" if not pairs else "; add it, or pass --allow-missing to leave them out"
        raise BadInputError(f"{reference}: no reference of {', '.join(missing)}{hint}")
    if missing:
        logger.warning("no reference of %s: left out", ", ".join(missing))
    bar = track(pairs, "Scoring", console=bars_console(), transient=True, disable=not progress)
    rows: list[Row] = []
    any_lesion = False
    for predicted, path in bar:
        expected, frame = read_reference(path, labels)
        any_lesion = any_lesion or bool(expected.any())
        rows.extend(_score_subject(predicted, expected, frame, chosen, forgiving=not metrics))
    warn_of_absent(labels, any_lesion)
    return EvaluationResult(tuple(rows), chosen, missing)


def read_reference(path: Path, labels: Sequence[int]) -> tuple[BoolArray, Volume]:
    """Read a reference as a mask, [H, W, L] bool, with the volume that it came from."""
    volume = Volume.load(path, allow_constant=True)
    mask = np.isin(np.rint(volume.array), labels) if labels else volume.array > 0
    return mask, volume


def warn_of_absent(labels: Sequence[int], found: bool) -> None:
    """Say in the log if labels were asked for and none was found in any reference."""
    if labels and not found:
        logger.warning("no reference has a voxel of label %s: check --label", ", ".join(map(str, labels)))


def _score_subject(
    predicted: Predicted, expected: BoolArray, frame: Volume, metrics: Metrics, forgiving: bool
) -> list[Row]:
    rows = []
    for name, path in predicted.maps.items():
        volume = Volume.load(path, allow_constant=True)
        if not volume.grid.matches(frame.grid):
            raise BadInputError(
                f"{path} and {frame.path}: different grids (shapes {volume.grid.shape} and "
                f"{frame.grid.shape}, or their affines); resample one to the other"
            )
        scores = score(volume.array >= 0.5, expected, frame.grid.spacing, metrics, forgiving=forgiving)
        rows.append(Row(predicted.subject, predicted.label, name, scores, path, frame.path))
    return rows
