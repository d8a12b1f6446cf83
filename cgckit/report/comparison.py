"""The picture of an evaluation: every subject's maps and reference with their Dice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from cgckit.derivatives import image_of
from cgckit.evaluation.compare import read_reference
from cgckit.evaluation.result import EvaluationResult
from cgckit.images.volume import Volume
from cgckit.report.figure import PictureRow, draw_picture


def draw_evaluation(result: EvaluationResult, path: str | Path, labels: Sequence[int] = ()) -> None:
    """Draw a row for each subject: image, prior, refined, reference; masks with their Dice or, without it, first score.

    Args:
        result: the evaluation of an output folder; the sidecars there say which image each map belongs to.
        path: the file to draw to; its ending chooses the format.
        labels: as in `evaluate`.

    Raises:
        BadInputError: if the masks have no sidecar that names their image, as masks from elsewhere; if an image is
            gone or the file cannot be written.
    """
    metric = "dice" if "dice" in result.metrics else next(iter(result.metrics))
    title, decimals = result.title(metric), result.metrics[metric].decimals
    rows = []
    for subject, scored in groupby(result.rows, key=lambda row: row.subject):
        found = list(scored)
        image = Volume.load(image_of(found[0].prediction))
        masks = {row.map: Volume.load(row.prediction, allow_constant=True).array >= 0.5 for row in found}
        masks["reference"] = read_reference(found[0].reference, labels)[0]
        notes = {row.map: f"{row.scores[metric]:.2f}" for row in found}
        rows.append(PictureRow(subject, image, masks, notes))
    means = ", ".join(f"{name} {result.summary(name).mean[metric]:.{decimals}f}" for name in result.maps)
    draw_picture(rows, path, title=f"{title} with the reference, mean: {means}")
