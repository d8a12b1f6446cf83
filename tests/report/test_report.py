"""The pages about a run: whole, self-contained, true to the tables, and readable without the scans."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cgckit.cli.commands.report import report
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError, UsageError
from cgckit.images.cohort import Cohort
from cgckit.ledger import Ledger
from cgckit.report.maps import Maps
from cgckit.report.write import write_report
from cgckit.sealed import read_json, write_json

VOID = {"meta", "img", "link", "input"}


class Outline(HTMLParser):
    """Reads a page: every tag must be closed in order, and what it refers to must lie beside it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[bytes] = []
        self.links: list[str] = []
        self.data: dict[str, str] = {}
        self.attributes: list[str] = []
        self.text = self._script = ""
        self.path = path
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: str(value) for name, value in attrs}
        self.attributes += values
        if tag not in VOID:
            self.open.append(tag)
        for name in ("src", "href"):
            if name not in values or values[name] == "data:,":
                continue
            kind, _, content = values[name].partition(",")
            if kind == "data:image/jpeg;base64":
                assert values["alt"]
                self.images.append(base64.b64decode(content))
            else:
                assert (self.path.parent / values[name]).is_file(), values[name]
                self.links.append(values[name])
        if tag == "script":
            self._script = values.get("id", "")
            assert ("src" in values) == (values.get("type") != "application/json")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.data[self._script] = data
        else:
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


def pages_of(run: Derivatives) -> tuple[Outline, list[Outline]]:
    """The group page, and those of the subjects."""
    group = write_report(run.root)
    assert group == run.root / "report" / "index.html"
    return Outline(group), [Outline(group.with_name(f"sub-{label}.html")) for label in run.subjects()]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_command_writes_it_into_the_folder_or_elsewhere(run: Derivatives, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(report)
    elsewhere = tmp_path / "new" / "pages"
    for options, folder in (([], run.root / "report"), (["--out", str(elsewhere)], elsewhere)):
        result = CliRunner().invoke(app, [str(run.root), "--quiet", *options])
        assert result.exit_code == 0
        assert result.stdout == f"{folder / 'index.html'}\n"
        assert len(list(folder.glob("sub-*.html"))) == 2


def test_every_subject_has_a_line_and_a_page(run: Derivatives) -> None:
    group, subjects = pages_of(run)
    assert len(subjects) == 2
    for label, page in zip(run.subjects(), subjects, strict=True):
        assert group.links.count(f"sub-{label}.html") == 2  # in the table, and with its picture
        assert f"figures/sub-{label}.jpg" in group.links
        assert "index.html" in page.links
        assert len(page.images) == 6
    assert "<b>&2" in group.text, "names are shown as they are"
    assert f"sub-{[*run.subjects()][1]}.html" in subjects[0].links, "one leads to the next"


def test_they_say_what_the_tables_say(run: Derivatives) -> None:
    group, subjects = pages_of(run)
    for words in ("gmm", "light", "flair, t1", "priors 1.5", "95%", "prior.options.seed = 3", "1.73", "1.50", "3.46"):
        assert words in group.text
    for words in ("K = 4", "2.1%", "0.000", "1.73"):
        assert words in subjects[0].text
    for remark in ("prior excluded: most of the <brain>", "scattered", "hugs the edge"):
        assert remark in group.text
        assert remark in subjects[0].text
    assert not any("n/a" in page.text for page in (group, *subjects))
    assert "contrast" not in subjects[0].text, "what is not known is left out"


def test_warnings_are_told_from_remarks_and_come_first(run: Derivatives) -> None:
    rows = run.read_table("summary.tsv")
    rows[0] |= {"remarks": "scattered; warning: most of the prior is thrown away", "degenerate": ""}
    run.write_table("summary.tsv", rows)
    record = read_json(run.root / "run.json")
    write_json(run.root / "run.json", {**record, "warnings": ["warning: training has not converged"]})
    group, subjects = pages_of(run)
    for page in (group, subjects[0]):
        assert page.text.index("thrown away") < page.text.index("scattered")
        assert '<li class="warning">warning: most of the prior' in page.path.read_text(encoding="utf-8")
    assert "training has not converged" in group.text
    assert "1 warning" in group.text
    assert "warning" not in subjects[1].text


def test_slices_show_both_masks_where_they_lie(run: Derivatives) -> None:
    _, (page, _) = pages_of(run)
    centres = []
    for picture in page.images:
        red, _, blue = matplotlib.image.imread(io.BytesIO(picture), format="jpg").astype(int).T
        centres.append([np.argwhere(drawn)[:, 0].mean() for drawn in (red - blue > 80, blue - red > 80)])
    for amber, light_blue in centres:
        assert amber < light_blue, "the refined mask lies to the right of the prior's"


def test_outlines_do_not_hide_what_they_surround(run: Derivatives) -> None:
    """A fill would colour the middle of the lesion."""
    _, (page, _) = pages_of(run)
    pixels = matplotlib.image.imread(io.BytesIO(page.images[2]), format="jpg").astype(int)
    amber = np.argwhere(pixels[..., 0] - pixels[..., 2] > 80)
    middle = pixels[tuple(amber.mean(axis=0).astype(int))]
    assert np.ptp(middle) < 40, "the middle is grey"


def test_the_viewer_has_the_maps_on_their_places(run: Derivatives) -> None:
    _, (page, _) = pages_of(run)
    label = next(iter(run.subjects()))
    maps = Maps.load(run, label)
    volumes = json.loads(page.data["volumes"])
    assert set(volumes) == {"image", "prior", "refined"}
    for name, mask in maps.masks().items():
        shown = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(volumes[name])))
        assert shown.get_data_dtype() == np.uint8
        for where, affine in ((np.asarray(shown.dataobj) >= 0.5, shown.affine), (mask, maps.scan.grid.affine)):
            places = nib.affines.apply_affine(affine, np.argwhere(where))
            np.testing.assert_allclose(np.ptp(places, axis=0), [10, 10, 10])
            np.testing.assert_allclose(places.mean(axis=0), [45 if name == "refined" else 29, 45, 35])


def test_they_open_offline(run: Derivatives) -> None:
    group, subjects = pages_of(run)
    for page in (group, *subjects):
        text = page.path.read_text(encoding="utf-8")
        assert not re.search(r"https?:|@import|url\(|=[\"']//", text)
        assert not [name for name in page.attributes if name.startswith("on")], "scripts are files"
    assert not re.search(r"https?:|@import|url\(", (group.path.parent / "assets" / "style.css").read_text())
    for script in ("ratings", "group", "subject", "viewer"):
        text = (group.path.parent / "assets" / f"{script}.js").read_text(encoding="utf-8")
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|fetch\(|import\(|XMLHttp", text)


def test_the_folder_moves_as_a_whole(run: Derivatives, tmp_path: Path) -> None:
    folder = write_report(run.root).parent
    written = files(folder)
    assert not any(str(tmp_path).encode() in content for name, content in written.items() if name.endswith(".html"))
    folder.rename(tmp_path / "moved")
    Outline(tmp_path / "moved" / "index.html")


def test_the_viewer_is_what_npm_has() -> None:
    assets = Path(str(resources.files("cgckit.report"))) / "assets"
    lines = (assets / "SHA256SUMS").read_text().splitlines()
    noted = dict(reversed(line.split()) for line in lines)
    assert set(noted) == {"niivue.js", "niivue.LICENSE.txt"}
    for name, digest in noted.items():
        assert hashlib.sha256((assets / name).read_bytes()).hexdigest() == digest


def test_another_report_replaces_the_first_and_no_file_of_somebody_else(run: Derivatives, tmp_path: Path) -> None:
    place = tmp_path / "pages"
    write_report(run.root, place)
    first = files(place)
    (place / "mine.txt").write_text("the user's own")
    run.write_table("summary.tsv", run.read_table("summary.tsv")[:1])
    write_report(run.root, place)
    assert first.keys() - files(place).keys() == {"sub-case1.html", "figures/sub-case1.jpg"}
    assert (place / "mine.txt").read_text() == "the user's own"

    other = tmp_path / "site"
    other.mkdir()
    (other / "index.html").write_text("another tool's")
    with pytest.raises(UsageError, match=r"index\.html: is there and was not written by cgckit"):
        write_report(run.root, other)
    assert files(other) == {"index.html": b"another tool's"}


@pytest.mark.parametrize("name", ["report.html", "file"])
def test_a_report_is_a_folder(run: Derivatives, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("the user's own")
    with pytest.raises(UsageError, match="a report is a folder"):
        write_report(run.root, tmp_path / name)


def test_scans_that_are_gone_leave_the_figures_standing(run: Derivatives, tmp_path: Path) -> None:
    (tmp_path / "scans").rename(tmp_path / "elsewhere")
    group, subjects = pages_of(run)
    assert group.text.count("no picture") == 2
    assert "3.46" in group.text
    for page in subjects:
        assert not page.images
        assert "no picture" in page.text
        assert "assets/niivue.js" not in page.links


def test_a_map_on_another_grid_leaves_the_figures_standing(run: Derivatives, tmp_path: Path) -> None:
    scan = tmp_path / "scans" / "case1" / "case1_flair.nii.gz"
    image = nib.load(scan)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:-2], image.affine), scan)
    _, subjects = pages_of(run)
    assert sum("is not on the grid" in page.text for page in subjects) == 1


def test_maps_of_a_prior_alone_are_drawn(run: Derivatives) -> None:
    for label in run.subjects():
        run.refined_mask(label).unlink()
    _, subjects = pages_of(run)
    assert all(len(page.images) == 6 for page in subjects)


def test_an_empty_map_is_drawn(run: Derivatives, tmp_path: Path) -> None:
    scan = tmp_path / "scans" / "case1" / "case1_flair.nii.gz"
    empty = np.zeros(nib.load(scan).shape)
    run.write_prior_probability("case1", "gmm", empty, scan)
    run.write_mask("case1", empty, scan)
    assert all(page.images for page in pages_of(run)[1])


def test_where_the_deviation_reaches_a_half_is_undecided(run: Derivatives, tmp_path: Path) -> None:
    scan = tmp_path / "scans" / "case1" / "case1_flair.nii.gz"
    probability, deviation = np.zeros((2, *nib.load(scan).shape))
    probability[10:20, 10:20, 10:20], deviation[10:20, 10:20, 10:20] = 0.7, 0.1
    deviation[10:12, 10:20, 10:20] = 0.25  # 200 voxels of 8 mm^3
    run.write_probability("case1", probability, scan)
    run.write_mask("case1", probability >= 0.5, scan)
    run.write_uncertainty("case1", deviation, scan)
    assert Maps.load(run, "case1").undecided_ml() == pytest.approx(1.6)
    group, subjects = pages_of(run)
    assert "1.60" in group.text
    assert "uncertainty" in next(page for page in subjects if "case1" in page.path.name).data["volumes"]


def test_outliers_are_named(run: Derivatives) -> None:
    (template,) = run.read_table("summary.tsv")[:1]
    volumes = [10, 11, 12, 13, 14, 15, 16, 400]
    rows = [
        {**template, "participant_id": f"sub-{index}", "source": f"s{index}", "prior_ml": volume, "degenerate": ""}
        | {"remarks": "left out: no brain"}
        for index, volume in enumerate(volumes)
    ]
    run.write_table("summary.tsv", rows)
    text = write_report(run.root).read_text(encoding="utf-8")
    assert text.count("outlier: prior<") == 1
    assert 'data-id="sub-7" data-warnings="1" data-remarks="1" data-unusual="1"' in text


def test_two_hundred_subjects_are_a_light_page(run: Derivatives) -> None:
    (template,) = run.read_table("summary.tsv")[:1]
    rows = [
        {**template, "participant_id": f"sub-{index}", "source": f"s{index}", "remarks": "left out: " + 200 * "x"}
        for index in range(200)
    ]
    run.write_table("summary.tsv", rows)
    page = write_report(run.root)
    assert page.stat().st_size < 1e6
    assets = sum(path.stat().st_size for path in (page.parent / "assets").iterdir())
    picture = 30_000  # more than any has, of which there are none here
    assert page.stat().st_size + assets + 200 * picture < 30e6


def test_a_run_that_is_not_complete_is_refused(run: Derivatives, tmp_path: Path) -> None:
    record = read_json(run.root / "run.json")
    write_json(run.root / "run.json", {**record, "status": "running"})
    for folder in (run.root, tmp_path / "nowhere"):
        with pytest.raises(BadInputError, match="no complete run"):
            write_report(folder, tmp_path / "pages")
    assert not (tmp_path / "pages").exists()


def test_a_map_that_was_removed_is_named(run: Derivatives, tmp_path: Path) -> None:
    run.refined_mask("case1").unlink()
    run.prior_probability("case1", "gmm").unlink()
    with pytest.raises(BadInputError, match="no map of sub-case1"):
        write_report(run.root, tmp_path / "pages")
    assert not (tmp_path / "pages" / "index.html").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"status": "complete"}', "\0", "participant_id\tsource\n1\n"])
@pytest.mark.parametrize("name", ["run.json", "summary.tsv"])
def test_a_damaged_file_of_the_run_is_named_in_one_line(
    run: Derivatives, tmp_path: Path, name: str, content: str
) -> None:
    ledger = Ledger(run.root)
    ledger.start("key")
    ledger.record([run.root / "summary.tsv"])
    (run.root / name).write_text(content)
    with pytest.raises(BadInputError, match=name.replace(".", r"\.")) as caught:
        write_report(run.root, tmp_path / "pages")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pages" / "index.html").exists()


@pytest.mark.parametrize(
    "content", ["", "participant_id\tsource\n1\n", "a\tb\n1\t2\n", "\n\n", "participant_id\tsource\nsub-../../x\ty\n"]
)
def test_a_summary_of_somebody_else_is_named_in_one_line(run: Derivatives, tmp_path: Path, content: str) -> None:
    (run.root / "summary.tsv").write_text(content)
    before = files(tmp_path)
    with pytest.raises(BadInputError, match=r"summary\.tsv"):
        write_report(run.root)
    assert files(tmp_path) == before


HARM = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


def assert_harmless(*pages: Outline) -> None:
    """`Outline` found all tags closed and all that they refer to in place; here: nothing that would run was added."""
    for page in pages:
        text = page.path.read_text(encoding="utf-8")
        assert "<script>" not in text
        assert "onerror" not in page.attributes


COLUMNS = ["source", "prior_ml", "refined_ml", "changed_ml", "dice_prior_refined", "fraction", "contrast", "components"]
COLUMNS += ["largest_ml", "edge_share", "degenerate", "remarks", "choice"]


@pytest.mark.parametrize("column", COLUMNS)
def test_no_column_of_the_table_becomes_markup(run: Derivatives, column: str) -> None:
    rows = [{**row, column: HARM} for row in run.read_table("summary.tsv")]
    run.write_table("summary.tsv", rows)
    group, subjects = pages_of(run)
    assert any(HARM in page.text for page in (group, *subjects))
    assert_harmless(group, *subjects)


def test_nothing_in_the_record_becomes_markup(run: Derivatives) -> None:
    record = read_json(run.root / "run.json")
    record["options"] = {"prior": {"name": HARM}, "preset": HARM, "modalities": [HARM], "seed": HARM, HARM: HARM}
    changes = {"versions": {"cgckit": HARM, HARM: HARM}, "machine": {"device": HARM}}
    write_json(run.root / "run.json", {**record, **changes})
    group, subjects = pages_of(run)
    assert group.text.count(HARM) >= 8
    assert_harmless(group, *subjects)


@pytest.mark.parametrize(
    "change", [{"options": None}, {"options": {}}, {"options": {"modalities": 5}}, {"versions": []}, {"training": 3}]
)
def test_a_record_that_is_not_as_it_was_written_is_one_line(run: Derivatives, change: dict[str, object]) -> None:
    record = read_json(run.root / "run.json")
    write_json(run.root / "run.json", {**record, **change})
    with pytest.raises(BadInputError, match=r"run\.json or summary\.tsv") as caught:
        write_report(run.root)
    assert len(str(caught.value).splitlines()) == 1


def test_a_table_without_a_subjects_name_is_one_line(run: Derivatives) -> None:
    run.write_table("summary.tsv", [{"participant_id": "sub-case1"}])
    with pytest.raises(BadInputError, match=r"summary\.tsv"):
        write_report(run.root)
