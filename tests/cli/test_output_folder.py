"""Whose an output folder is: nothing that cgckit did not write is replaced or removed, and one run works in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cgckit.cli.main import main  # noqa: F401 - torch is imported once
from cgckit.ledger import Ledger
from cgckit.lock import locked

WriteCohort = Callable[..., Path]
QUICK = [
    *("--device", "cpu", "--quiet", "--set", "spacing=4", "--set", "crop=16x16x16", "--set", "widths=4x4x4x4"),
    *("--set", "projection=4", "--set", "batch=1", "--set", "steps=2"),
]


def state(folder: Path) -> dict[str, bytes]:
    """Everything in a folder; links as what they lead to."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def arguments(command: str, scans: Path, out: object) -> list[str]:
    references = scans.parent / "scans-references"
    prior = ["--prior", f"mask:{references}/{{subject}}_seg.nii.gz"]
    return [command, str(scans), "--out", str(out), *prior, *(QUICK if command == "refine" else ["--quiet"])]


@pytest.fixture
def refine(cgckit):
    def call(scans: Path, out: object, *more: str):
        return cgckit(*arguments("refine", scans, out), *more)

    return call


@pytest.fixture
def bids(write_cohort: WriteCohort, tmp_path: Path) -> Path:
    """A BIDS data set with its tables."""
    scans, dataset = write_cohort(2), tmp_path / "dataset"
    for index in (1, 2):
        folder = dataset / f"sub-{index:02d}" / "anat"
        folder.mkdir(parents=True)
        for name, suffix in (("flair", "FLAIR"), ("t1", "T1w")):
            shutil.copy(
                scans / f"case{index}" / f"case{index}_{name}.nii.gz", folder / f"sub-{index:02d}_{suffix}.nii.gz"
            )
    (dataset / "participants.tsv").write_text("participant_id\tage\nsub-01\t51\n")
    (dataset / "dataset_description.json").write_text('{"Name": "ours"}')
    return dataset


def refused(ending, *words: str) -> bool:
    return (
        ending.code == 2
        and len(ending.err.splitlines()) == 1
        and all(word in ending.err for word in ("cgckit: ", *words))
    )


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("command", ["refine", "prior"])
def test_an_output_folder_that_is_or_holds_the_input_is_refused(cgckit, bids, tmp_path, command, overwrite):
    link = tmp_path / "elsewhere" / "link"
    link.parent.mkdir()
    link.symlink_to(bids, target_is_directory=True)
    table = tmp_path / "tables" / "cohort.tsv"
    table.parent.mkdir()
    table.write_text(f"subject\tflair\na\t{bids}/sub-01/anat/sub-01_FLAIR.nii.gz\n")
    before = state(tmp_path)
    for given, out in (
        (bids, bids),
        (bids, tmp_path),
        (bids, bids / "sub-01" / ".."),
        (bids / "sub-01", bids),
        (bids, link),
        (link, bids),
        (bids / "sub-01" / "anat" / "sub-01_FLAIR.nii.gz", bids / "sub-01"),
        (table, bids),
        (table, table.parent),
    ):
        quick = QUICK if command == "refine" else ["--quiet"]
        ending = cgckit(command, given, "--out", out, "--prior", "aucseg", *quick, *overwrite)
        assert refused(ending, "lies in the output folder"), (given, out, ending.err)
        assert state(tmp_path) == before


def test_the_masks_of_a_prior_are_inputs_too(cgckit, write_cohort, tmp_path):
    scans, masks = write_cohort(1), tmp_path / "scans-references"
    before = state(tmp_path)
    for prior in ("mask:{}/{{subject}}_seg.nii.gz", "aucseg+mask:{}/{{subject}}_seg.nii.gz"):
        ending = cgckit("refine", scans, "--out", masks, "--prior", prior.format(masks), *QUICK)
        assert refused(ending, "case1_seg.nii.gz: lies in the output folder"), ending.err
    assert state(tmp_path) == before


def test_a_folder_among_the_derivatives_of_the_data_set_is_taken(cgckit, bids):
    before = state(bids)
    ending = cgckit("refine", bids, "--out", bids / "derivatives" / "cgckit", "--prior", "aucseg", *QUICK)
    assert ending.code == 0, ending.err
    after = state(bids)
    assert {name: after[name] for name in before} == before
    assert cgckit("refine", bids, "--out", bids / "derivatives" / "cgckit", "--prior", "aucseg", *QUICK).code == 0


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize(
    "name",
    [
        "participants.tsv",
        "dataset_description.json",
        "summary.tsv",
        "run.json",
        "cgckit.log",
        "model/model.safetensors",
        "work/priors/1.safetensors",
        "work/run/notes.txt",
        "sub-case1/anat/sub-case1_space-orig_label-L_desc-cgc_mask.nii.gz",
        "sub-case1/anat/sub-case1_space-orig_desc-brain_mask.json",
        "sub-case1/anat/sub-case1_space-orig_seg-other_label-L_probseg.nii.gz",
    ],
)
def test_files_of_somebody_else_are_not_replaced(refine, write_cohort, tmp_path, name, overwrite):
    scans, out = write_cohort(1), tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("another tool's")
    assert refused(refine(scans, out, *overwrite), str(out), "was not written by cgckit")
    assert state(out) == {name: b"another tool's"}


def test_only_what_was_written_is_removed_whatever_it_is_called(refine, write_cohort, tmp_path):
    scans, out = write_cohort(2), tmp_path / "out"
    assert refine(scans, out).code == 0
    others = [
        "sub-case2/anat/sub-case2_space-orig_desc-preproc_T1w.nii.gz",
        "sub-case3/anat/sub-case3_space-orig_label-L_desc-cgc_mask.nii.gz",
        "work/mine.json",
        "work/run/notes.txt",
        "notes.tsv",
        "report/index.html",
    ]
    for name in others:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("another tool's")
    ours = state(out).keys() - set(others)
    shutil.rmtree(scans / "case2")
    assert refused(refine(scans, out), "--overwrite")
    assert refine(scans, out, "--overwrite").code == 0
    left = state(out)
    assert {name: left[name] for name in others} == dict.fromkeys(others, b"another tool's")
    assert [name for name in left if "case2" in name] == [others[0]]
    assert {name for name in ours if "case2" not in name} - left.keys() <= {
        name for name in ours if name.startswith("work/priors/")
    }


@pytest.mark.parametrize("name", ["sub-case1", "sub-case1/anat", "model", "work", "work/run", "work/priors"])
def test_links_in_the_folder_are_followed_neither_to_write_nor_to_remove(refine, write_cohort, tmp_path, name):
    scans, out, elsewhere = write_cohort(1), tmp_path / "out", tmp_path / "elsewhere"
    (out / name).parent.mkdir(parents=True)
    elsewhere.mkdir()
    (out / name).symlink_to(elsewhere, target_is_directory=True)
    for overwrite in ([], ["--overwrite"]):
        assert refused(refine(scans, out, *overwrite), str(out)), name
    assert state(elsewhere) == {}
    (out / name).unlink()
    assert refine(scans, out).code == 0
    (out / name).rename(tmp_path / "moved")
    (out / name).symlink_to(tmp_path / "moved", target_is_directory=True)
    before = state(tmp_path / "moved")
    for overwrite in ([], ["--overwrite"]):
        assert refused(refine(scans, out, *overwrite), str(out)), name
    assert state(tmp_path / "moved") == before


def test_a_log_that_became_a_link_is_not_written_through(refine, write_cohort, tmp_path):
    scans, out, target = write_cohort(1), tmp_path / "out", tmp_path / "target"
    assert refine(scans, out).code == 0
    (out / "cgckit.log").unlink()
    target.write_text("kept")
    (out / "cgckit.log").symlink_to(target)
    (out / "summary.tsv").unlink()
    (out / "summary.tsv").symlink_to(target)
    ending = refine(scans, out)
    assert (ending.code, len(ending.err.splitlines())) == (3, 1)
    (out / "cgckit.log").unlink()
    assert refine(scans, out).code == 0
    assert target.read_text() == "kept"


@pytest.mark.parametrize("command", ["refine", "prior", "predict", "evaluate", "phantom", "report", "crossval"])
def test_an_empty_name_is_no_folder(cgckit, write_cohort, tmp_path, command, monkeypatch):
    scans = write_cohort(1)
    monkeypatch.chdir(tmp_path)
    before = state(tmp_path)
    given = {
        "predict": ["--model", scans],
        "evaluate": [scans],
        "phantom": [],
    }.get(command, [])
    words = [command, "", "--subjects", "1"] if command == "phantom" else [command, scans, *given, "--out", ""]
    ending = cgckit(*words)
    assert ending.code == 2
    assert "empty" in ending.err
    assert state(tmp_path) == before


def test_an_empty_name_is_no_folder_in_python_either(write_cohort):
    import cgckit
    from cgckit.errors import UsageError

    with pytest.raises(UsageError, match="empty"):
        cgckit.refine(write_cohort(1), "aucseg", "")


def test_a_ledger_whose_last_line_was_cut_is_taken_up(refine, write_cohort, tmp_path):
    scans, out = write_cohort(1), tmp_path / "out"
    assert refine(scans, out).code == 0
    expected = {name: content for name, content in state(out).items() if name.endswith(".gz")}
    path = out / "written.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    assert refine(scans, out).code == 0
    assert {name: content for name, content in state(out).items() if name.endswith(".gz")} == expected
    assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines()[-1:])


def test_a_ledger_leads_out_of_no_folder(tmp_path):
    outside, out = tmp_path / "outside.txt", tmp_path / "out"
    out.mkdir()
    outside.write_text("kept")
    lines = [{"run": "a"}, *({"path": name, "sha256": None} for name in ("../outside.txt", str(outside), "", 5))]
    (out / "written.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, 7]))
    Ledger(out).clear()
    assert outside.read_text() == "kept"


HOLDER = """
import sys, time
from pathlib import Path
from cgckit.lock import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


def test_one_run_works_in_a_folder_and_a_killed_one_leaves_no_lock(refine, write_cohort, tmp_path):
    scans, out = write_cohort(1), tmp_path / "out"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        before = state(out)
        for overwrite in ([], ["--overwrite"]):
            ending = refine(scans, out, *overwrite)
            assert refused(ending, str(out), "another run of cgckit is at work there", f"process {holder.pid}")
        assert state(out) == before
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert refine(scans, out).code == 0


def test_where_there_are_no_locks_it_is_said(tmp_path, monkeypatch, caplog):
    def unsupported(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with locked(tmp_path):
        assert "cannot be locked" in caplog.text
    assert os.listdir(tmp_path / "work") == ["lock"]


def test_a_group_can_read_and_write_what_the_umask_lets_it(refine, write_cohort: WriteCohort, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = os.umask(0o007)
    try:
        assert refine(write_cohort(1), out).code == 0
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in [out, *out.rglob("*")]}
    assert {str(path): oct(mode) for path, mode in modes.items() if mode != (0o770 if path.is_dir() else 0o660)} == {}
