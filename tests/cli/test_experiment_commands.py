"""`cgckit crossval`, `cgckit ablate` and `cgckit table1` as a user calls them."""

from __future__ import annotations

import pytest

QUICK = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "steps=2"]


@pytest.fixture
def arguments(write_cohort):
    """Two subjects, their references as the prior, and settings that take no time."""
    scans = write_cohort(2)
    references = scans.with_name(f"{scans.name}-references")
    prior = ["--prior", f"mask:{references}/{{subject}}_seg.nii.gz", "--device", "cpu", "--quiet"]
    return [scans, references, *prior, *(word for value in QUICK for word in ("--set", value))]


def cells(text: str, first: str) -> list[list[str]]:
    """The cells of each line of a table that begins with that word."""
    lines = [line.strip("│").split("│") for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line] for line in lines if line[0].strip() == first]


def test_crossval_prints_each_held_out_subject_and_the_means(cgckit, arguments, tmp_path):
    ending = cgckit("crossval", *arguments, "--out", tmp_path / "out")
    assert ending.code == 0, ending.err
    assert "2 subjects" in ending.out
    for subject in ("case1", "case2"):
        assert cells(ending.out, subject)[0][1] == "1.000", "the prior is the reference"
    assert cells(ending.out, "prior")[0][1:3] == ["1", "1.000 ± 0.000"]
    assert len(cells(ending.out, "refined")) == 1
    assert (tmp_path / "out" / "table.tsv").read_text().count("\n") == 3


def test_ablate_keeps_what_used_labels_in_a_table_of_its_own(cgckit, arguments, tmp_path):
    chosen = ["--arms", "network, bounds", "--out", tmp_path / "out"]
    ending = cgckit("ablate", *arguments, *chosen)
    assert ending.code == 0, ending.err
    free, found, bound = ending.out.partition("Bounds that use the references")
    assert found
    assert [len(cells(free, name)) for name in ("prior", "network", "oracle", "supervised")] == [1, 1, 0, 0]
    assert [len(cells(bound, name)) for name in ("prior", "network", "oracle", "supervised")] == [0, 0, 1, 1]
    assert "paper" not in free, "it has nothing with a prior from files"
    assert (tmp_path / "out" / "ablation.png").exists()


BROKEN = """
from cgckit import Prior

class Broken(Prior):
    def predict(self, case):
        raise ValueError("out of ideas")
"""


def test_table1_prints_every_row_and_names_what_failed(cgckit, arguments, tmp_path):
    scans, references, _, prior, *others = arguments
    broken = tmp_path / "broken.py"
    broken.write_text(BROKEN)
    words = [scans, references, *others, "--out", tmp_path / "out", "--rows"]
    ending = cgckit("table1", *words, f"{prior},ours:{prior}")
    assert ending.code == 0, ending.err
    assert "table1.png" in ending.out
    assert "1.000 ± 0.000" in ending.out, "the prior is the reference"
    ending = cgckit("table1", *words, f"{prior},{broken}:Broken")
    assert ending.code == 6
    assert f"1 of 2 rows left out ({broken}:Broken)" in ending.err
    assert f"Not measured: {broken}:Broken: " in ending.out
    assert (tmp_path / "out" / "table1.tsv").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--arms", "corse"], "corse"),
        (["--seeds", "0,one"], "one"),
        (["--seeds", "0,-1"], "-1"),
        (["--set", "stepz=1"], "stepz"),
        (["--folds", "1"], "--folds"),
    ],
)
def test_a_wrong_word_is_a_usage_error_that_names_it(cgckit, arguments, tmp_path, words, named):
    ending = cgckit("ablate", *arguments, *words, "--out", tmp_path / "out")
    assert ending.code == 2
    assert named in ending.err
    assert "Traceback" not in ending.err
    assert not (tmp_path / "out" / "results.jsonl").exists(), "the folder is still free for what was meant"


@pytest.mark.parametrize("command", ["ablate", "crossval", "table1"])
def test_a_table_of_scans_needs_references_by_name(cgckit, tmp_path, command):
    table = tmp_path / "cohort.tsv"
    table.write_text("subject\tflair\na\ta.nii.gz\n")
    ending = cgckit(command, table, "--out", tmp_path / "out")
    assert ending.code == 2
    assert "REFERENCES" in ending.err
