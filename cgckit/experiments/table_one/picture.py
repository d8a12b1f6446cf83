"""The picture of Table 1, as the paper's Figure 2: a row a subject, a column a system, the slice with most lesion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cgckit.evaluation.compare import read_reference
from cgckit.experiments.experiment import Experiment
from cgckit.experiments.table_one.rows import SystemRow
from cgckit.experiments.table_one.work import Work
from cgckit.images.volume import Volume
from cgckit.report.figure import PictureRow, draw_picture

_MOST = 6


def draw_systems(base: Experiment, rows: Sequence[SystemRow], works: Sequence[Work], path: Path) -> None:
    """Draw what every measured row found, with its Dice, and the reference, for six subjects of the cohort at most.

    A mask that is not in `work/` any more is said to be gone.

    Args:
        base: whose cohort and references these are.
        rows: of the table; those that were not measured are left out.
        works: that measured them.
        path: to draw to.

    Raises:
        BadInputError: the file cannot be written.
    """
    by_row = {row: work for work in works for row in work.units}
    pictured = []
    for index in np.unique(np.linspace(0, len(base.cohort) - 1, min(_MOST, len(base.cohort))).round().astype(int)):
        subject = base.cohort[int(index)]
        image = subject.load(next(iter(subject.files)))
        reference, _ = read_reference(base.references.files[subject.label], base.references.labels)
        masks, notes = {}, {}
        for row in rows:
            if not row.subjects:
                continue
            name, work = row.system.name, by_row[row.system.name]
            file = next(work.experiment.mask(unit, subject) for unit in work.units[name] if subject in unit.fold.test)
            there = file.exists()
            masks[name] = Volume.load(file, allow_constant=True).array >= 0.5 if there else np.zeros_like(reference)
            dice = row.subjects[subject.source].get("dice")
            notes[name] = ("" if dice is None else f"{dice:.2f}") if there else "(mask gone)"
        masks["reference"] = reference  # the last one chooses the slice
        pictured.append(PictureRow(subject.source, image, masks, notes))
    draw_picture(pictured, path)
