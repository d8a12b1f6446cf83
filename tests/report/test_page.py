"""The page about a run: whole, self-contained, true to the tables, and readable without the scans."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cgckit.cli.commands.report import report
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError
from cgckit.images.cohort import Cohort
from cgckit.ledger import Ledger
from cgckit.report.page import write_page
from cgckit.sealed import read_json, write_json

VOID = {"meta", "img"}


class Outline(HTMLParser):
    """Reads a page: every tag must be closed in order, and nothing may come from elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[bytes] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            kind, _, content = str(values["src"]).partition(",")
            assert kind == "data:image/jpeg;base64"
            assert values["alt"]
            self.images.append(base64.b64decode(content))
        self.ids += [str(values["id"])] if "id" in values else []
        self.links += [str(values["href"])] if "href" in values else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def run(write_cohort: Callable[..., Path], tmp_path: Path) -> Derivatives:
    """An output folder of two subjects whose refined mask lies 8 voxels to the right of the prior's."""
    scans = write_cohort(2)
    (scans / "case2").rename(scans / "<b>&2")
    cohort = Cohort.find([scans])
    out = Derivatives.create(tmp_path / "out")
    out.write_participants(cohort)
    rows = []
    for subject in cohort:
        scan = subject.files["flair"]
        mask = np.zeros(nib.load(scan).shape)
        mask[12:18, 20:26, 15:21] = 1
        out.write_prior_probability(subject.label, "gmm", mask, scan)
        out.write_mask(subject.label, np.roll(mask, 8, 0), scan)
        row = {"participant_id": f"sub-{subject.label}", "source": subject.source, "prior_ml": 1.728}
        row |= {"refined_ml": 1.5, "changed_ml": 3.456, "dice_prior_refined": 0.0, "degenerate": "", "fraction": 0.0213}
        row |= {"contrast": None, "remarks": "", "choice": "K = 4", "of_a_later_version": 1}
        rows.append(row)
    rows[0] |= {"remarks": "scattered; hugs the edge", "degenerate": "most of the <brain>"}
    out.write_table("summary.tsv", rows)
    options = {"prior": {"name": "gmm", "options": {"seed": 3}}, "preset": "light", "modalities": ["flair", "t1"]}
    record = {"status": "complete", "options": options, "versions": {"cgckit": "0.1.0"}, "seconds": {"priors": 90}}
    write_json(out.root / "run.json", {**record, "training": {"steps": 7, "fine_share": 0.95}})
    return out


def page_of(run: Derivatives) -> Outline:
    path = run.root / "report.html"
    write_page(run.root, path)
    return Outline(path.read_text(encoding="utf-8"))


def test_the_command_writes_it_into_the_folder_or_elsewhere(run: Derivatives, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(report)
    elsewhere = tmp_path / "new" / "a.html"
    for options, written in (([], run.root / "report.html"), (["--out", str(elsewhere)], elsewhere)):
        result = CliRunner().invoke(app, [str(run.root), "--quiet", *options])
        assert result.exit_code == 0
        assert result.stdout == f"{written}\n"
        assert len(Outline(written.read_text(encoding="utf-8")).images) == 2


def test_every_subject_has_an_entry_and_a_line_that_leads_to_it(run: Derivatives) -> None:
    page = page_of(run)
    assert page.ids == [f"sub-{label}" for label in run.subjects()]
    assert page.links == [f"#{name}" for name in page.ids]
    assert len(page.images) == 2
    assert "<b>&2" in page.text, "names are shown as they are"


def test_it_says_what_the_tables_say(run: Derivatives) -> None:
    text = page_of(run).text
    for words in ("gmm", "light", "flair, t1", "priors 1.5", "95%", "prior.options.seed = 3", "K = 4"):
        assert words in text
    for number in ("1.73", "1.50", "3.46", "2.1%", "0.000"):
        assert number in text
    for remark in ("prior excluded: most of the <brain>", "scattered", "hugs the edge"):
        assert text.count(remark) == 2  # in the table and at the subject
    assert "n/a" not in text
    assert "contrast" not in text, "what is not known is left out"


def test_slices_show_both_masks_where_they_lie(run: Derivatives) -> None:
    red, _, blue = matplotlib.image.imread(io.BytesIO(page_of(run).images[0]), format="jpg").astype(int).T
    centres = []
    for drawn in (red - blue > 80, blue - red > 80):  # amber, and light blue, on grey
        place = np.argwhere(drawn)
        panels = place[:, 0] * 6 // len(drawn)
        assert set(panels) == set(range(6))
        centres.append(place[panels == 2][:, 0].mean())
    assert centres[0] < centres[1], "the refined mask lies to the right of the prior's"


def test_it_opens_offline(run: Derivatives) -> None:
    page_of(run)
    text = (run.root / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)


def test_scans_that_are_gone_leave_the_figures_standing(run: Derivatives, tmp_path: Path) -> None:
    (tmp_path / "scans").rename(tmp_path / "elsewhere")
    page = page_of(run)
    assert not page.images
    assert page.text.count("no picture") == 2
    assert "3.46" in page.text


def test_maps_of_a_prior_alone_are_drawn(run: Derivatives) -> None:
    for label in run.subjects():
        run.refined_mask(label).unlink()
    assert len(page_of(run).images) == 2


def test_an_empty_map_is_drawn(run: Derivatives, tmp_path: Path) -> None:
    scan = tmp_path / "scans" / "case1" / "case1_flair.nii.gz"
    empty = np.zeros(nib.load(scan).shape)
    run.write_prior_probability("case1", "gmm", empty, scan)
    run.write_mask("case1", empty, scan)
    assert len(page_of(run).images) == 2


def test_a_run_that_is_not_complete_is_refused(run: Derivatives, tmp_path: Path) -> None:
    record = read_json(run.root / "run.json")
    write_json(run.root / "run.json", {**record, "status": "running"})
    for folder in (run.root, tmp_path / "nowhere"):
        with pytest.raises(BadInputError, match="no complete run"):
            write_page(folder, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_map_that_was_removed_is_named(run: Derivatives, tmp_path: Path) -> None:
    run.refined_mask("case1").unlink()
    run.prior_probability("case1", "gmm").unlink()
    with pytest.raises(BadInputError, match="no map of sub-case1"):
        write_page(run.root, tmp_path / "page.html")
    assert list(tmp_path.glob("*page.html")) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"status": "complete"}', "\0", "participant_id\tsource\n1\n"])
@pytest.mark.parametrize("name", ["run.json", "summary.tsv"])
def test_a_damaged_file_of_the_run_is_named_in_one_line(
    run: Derivatives, tmp_path: Path, name: str, content: str
) -> None:
    ledger = Ledger(run.root)
    ledger.start("key")
    ledger.intend([run.root / "report.html"])
    ledger.record([run.root / "summary.tsv"])
    write_page(run.root, tmp_path / "whole.html")
    (run.root / name).write_text(content)
    with pytest.raises(BadInputError, match=name.replace(".", r"\.")) as caught:
        write_page(run.root, tmp_path / "page.html")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("content", ["", "participant_id\tsource\n1\n", "a\tb\n1\t2\n", "\n\n"])
def test_a_summary_of_somebody_else_is_named_in_one_line(run: Derivatives, tmp_path: Path, content: str) -> None:
    (run.root / "summary.tsv").write_text(content)
    with pytest.raises(BadInputError, match=r"summary\.tsv"):
        write_page(run.root, tmp_path / "page.html")


HARM = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


COLUMNS = ["source", "prior_ml", "refined_ml", "changed_ml", "dice_prior_refined", "fraction", "contrast", "components"]
COLUMNS += ["largest_ml", "edge_share", "degenerate", "remarks", "choice"]


@pytest.mark.parametrize("column", COLUMNS)
def test_no_column_of_the_table_becomes_markup(run: Derivatives, column: str) -> None:
    rows = [{**row, column: HARM} for row in run.read_table("summary.tsv")]
    run.write_table("summary.tsv", rows)
    page = page_of(run)  # whose tags are all of cgckit's own kinds, and closed
    assert "<script" not in (run.root / "report.html").read_text(encoding="utf-8")
    assert HARM in page.text


def test_nothing_in_the_record_becomes_markup(run: Derivatives) -> None:
    record = read_json(run.root / "run.json")
    record["options"] = {"prior": {"name": HARM}, "preset": HARM, "modalities": [HARM], "seed": HARM, HARM: HARM}
    changes = {"versions": {"cgckit": HARM, HARM: HARM}, "machine": {"device": HARM}}
    write_json(run.root / "run.json", {**record, **changes})
    assert page_of(run).text.count(HARM) >= 8
    assert "<script" not in (run.root / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "change", [{"options": None}, {"options": {}}, {"options": {"modalities": 5}}, {"versions": []}, {"training": 3}]
)
def test_a_record_that_is_not_as_it_was_written_is_one_line(run: Derivatives, change: dict[str, object]) -> None:
    record = read_json(run.root / "run.json")
    write_json(run.root / "run.json", {**record, **change})
    with pytest.raises(BadInputError, match=r"run\.json or summary\.tsv") as caught:
        write_page(run.root, run.root / "report.html")
    assert len(str(caught.value).splitlines()) == 1


def test_a_table_without_a_subjects_name_is_one_line(run: Derivatives) -> None:
    run.write_table("summary.tsv", [{"participant_id": "sub-case1"}])
    with pytest.raises(BadInputError, match=r"summary\.tsv"):
        write_page(run.root, run.root / "report.html")
