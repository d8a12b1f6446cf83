"""The scripts in docs/examples: they run as they stand there, and a strict type checker has nothing against them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parents[1])}


def test_three_subjects_in_memory_are_refined_with_a_prior_of_ones_own(tmp_path: Path) -> None:
    script = EXAMPLES / "in_memory.py"
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for number, line in enumerate(done.stdout.splitlines()):
        lesion = np.zeros((48, 56, 44), bool)
        lesion[20:30, 10 + 8 * number : 22 + 8 * number, 16:28] = True
        label, _, refined, _ = line.split(maxsplit=3)
        mask = np.asarray(nib.load(next(tmp_path.glob(f"refined/sub-{label}/anat/*desc-cgc_mask.nii.gz"))).dataobj) > 0
        assert float(refined) == pytest.approx(mask.sum() * 8 / 1000, abs=1e-3)
        assert 2 * (mask & lesion).sum() / (mask.sum() + lesion.sum()) > 0.9
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_typed(script: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not in this environment")
    root = EXAMPLES.parents[1]
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-version=3.10",
        "--ignore-missing-imports",
        str(script),
    ]
    done = subprocess.run(command, cwd=root, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
