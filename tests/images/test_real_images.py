"""Preparation and output on real volumes."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cgckit.derivatives import Derivatives
from cgckit.images.brain import CoarseSearch
from cgckit.images.cohort import Cohort
from cgckit.images.preparation import prepare

FOLDER = os.environ.get("CGCKIT_TEST_DATA")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(FOLDER is None, reason="set CGCKIT_TEST_DATA to a folder with real volumes"),
]


@pytest.mark.parametrize("name", ["brats2021", "open_ms"])
def test_stripped_subjects_keep_their_brain_and_their_header(name, tmp_path):
    cohort = Cohort.find([Path(str(FOLDER)) / name])
    assert cohort.modalities == ("flair", "t1", "t1ce", "t2")
    out = Derivatives.create(tmp_path)
    for subject in cohort:
        case = prepare(subject, cohort.modalities, CoarseSearch())
        flair = nib.load(subject.files["flair"])
        images = [np.asanyarray(nib.load(path).dataobj) != 0 for path in subject.files.values()]
        written = nib.load(out.write_brain(subject.label, case.to_native(case.brain.numpy()), subject.files["flair"]))
        mask = np.asanyarray(written.dataobj).astype(bool)
        stripped = np.logical_or.reduce(images)
        # Filling holes adds a little, dropping specks takes less.
        assert (mask != stripped).sum() < 1e-3 * stripped.sum()
        for field in ("dim", "pixdim", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units"):
            np.testing.assert_array_equal(written.header[field], flair.header[field])
