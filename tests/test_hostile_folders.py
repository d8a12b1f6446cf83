"""Folders of results that somebody else made to harm: one line says so, and nothing waits for what never ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cgckit.cgc.model import CARD, WEIGHTS, Model
from cgckit.derivatives import Derivatives, image_of
from cgckit.errors import BadInputError
from cgckit.experiments.results import read_results
from cgckit.ledger import LEDGER, Ledger
from cgckit.report.write import write_report

READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "subjects": (lambda folder: Derivatives(folder).subjects(), "participants.tsv"),
    "table": (lambda folder: Derivatives(folder).read_table("summary.tsv"), "summary.tsv"),
    "sidecar": (lambda folder: image_of(folder / "mask.nii.gz"), "mask.json"),
    "results": (lambda folder: read_results(folder / "results.jsonl"), "results.jsonl"),
    "page": (lambda folder: write_report(folder, folder / "pages"), "run.json"),
    "model": (Model.load, CARD),
}
FAULTS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,  # whoever opens it waits for a writer
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "depth": lambda path: path.write_text("[" * 100_000),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, reader: str, fault: str) -> None:
    read, name = READERS[reader]
    if (reader, fault) == ("table", "depth"):
        return  # a table of one column and no row
    FAULTS[fault](tmp_path / name)
    (tmp_path / WEIGHTS).write_bytes(b"")
    with pytest.raises(BadInputError) as caught:
        read(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_ledger_that_is_none_names_nothing(tmp_path: Path, fault: str) -> None:
    FAULTS[fault](tmp_path / LEDGER)
    assert Ledger(tmp_path).run is None
