"""The pages of a report in a browser: no error, no overflow, accessible, and what is rated can be taken along."""

from __future__ import annotations

import base64
import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from cgckit.derivatives import Derivatives
from cgckit.images.cohort import Cohort
from cgckit.jobs import Ratings
from cgckit.report.write import write_report
from cgckit.sealed import write_json

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not in this environment")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
AXE = Path(__file__).parents[2] / "build" / "axe-core" / "axe.min.js"
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and chromedriver are not here (Debian: chromium-driver)"
)

DESKTOP, PHONE = (1400, 900), (390, 844)
# WebGL by the processor: no machine that tests needs a graphics card.
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_GL = ("--disable-3d-apis",)
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


@pytest.fixture(scope="module")
def pages(write_subjects: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of four subjects: one has a warning, one is an outlier, and one was left out."""
    folder = tmp_path_factory.mktemp("report")
    cohort = Cohort.find([write_subjects(folder / "scans", 3)])
    out = Derivatives.create(folder / "out")
    rows: list[dict[str, object]] = []
    for index, subject in enumerate(cohort):
        scan = subject.files["flair"]
        prior = np.zeros(nib.load(scan).shape)
        prior[12:18, 20:26, 15:21] = 0.9
        refined = np.roll(prior, 4, 0)
        out.write_prior_probability(subject.label, "gmm", prior, scan)
        out.write_probability(subject.label, refined, scan)
        out.write_mask(subject.label, refined >= 0.5, scan)
        out.write_uncertainty(subject.label, 0.1 * refined, scan)
        row = {"participant_id": f"sub-{subject.label}", "source": f"Önal {index}", "prior_ml": 1.728 + index / 100}
        row |= {"refined_ml": 1.7, "changed_ml": 1.2, "dice_prior_refined": 0.9 - index / 10, "dropped_parts": index}
        rows.append({**row, "remarks": "", "fraction": 0.02, "choice": "K = 4"})
    rows[1]["remarks"] = "warning: most of the prior is thrown away; scattered"
    rows.append({"participant_id": "sub-x", "source": "x", "dropped_parts": 90, "remarks": "left out: no brain"})
    out.write_table("summary.tsv", rows)
    options = {"prior": {"name": "gmm"}, "preset": "light", "modalities": ["flair", "t1"]}
    record = {"status": "complete", "key": "k", "options": options, "versions": {"cgckit": "0.1.0"}}
    write_json(out.root / "run.json", {**record, "warnings": ["warning: training has not converged"]})
    return write_report(out.root).parent


@pytest.fixture
def browse(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a browser of a certain size; all are ended after the test."""
    started = []

    def start(size: tuple[int, int], *arguments: str) -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        profile = f"--user-data-dir={tmp_path / f'profile{len(started)}'}"
        for argument in (*QUIET, *(arguments or SOFTWARE_GL), profile):
            options.add_argument(argument)
        options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
        started.append(browser)
        browser.set_script_timeout(120)
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        return browser

    yield start
    for browser in started:
        browser.quit()


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition; what it is about where it never holds."""
    end = time.monotonic() + 120
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return found


def visit(browser: Any, page: Path, state: str = "ready") -> None:
    """Open a page; where it has a viewer, wait until that is in a certain state."""
    browser.get(page.as_uri())
    script = "return document.getElementById('viewer')?.dataset.state ?? arguments[0]"
    until(lambda: browser.execute_script(script, state) == state, f"the viewer is {state}")


def errors(browser: Any) -> list[str]:
    """What the console complains of; that drawing by the processor is slow is no fault of the page."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["source"] != "rendering"]


def all_pages(folder: Path) -> list[Path]:
    return [folder / "index.html", *sorted(folder.glob("sub-*.html"))]


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_pages_open_from_the_disk_without_an_error_and_fit_the_screen(
    pages: Path, browse: Callable[..., Any], size: tuple[int, int]
) -> None:
    browser = browse(size)
    for page in all_pages(pages):
        visit(browser, page)
        assert errors(browser) == [], page.name
        widths = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths == [size[0], size[0]], page.name
        asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert all(name.startswith((pages.as_uri(), "data:", "blob:")) for name in asked)
    narrow = browser.execute_script("return Math.min(...[...document.images].map((image) => image.clientWidth), 999)")
    assert narrow >= 150, "a slice can be read"


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not here: tools/vendor_niivue.sh --axe fetches it")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(pages: Path, browse: Callable[..., Any], scheme: str) -> None:
    browser = browse(DESKTOP)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    for page in all_pages(pages):
        visit(browser, page)
        browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
        browser.execute_script(AXE.read_text(encoding="utf-8"))
        found = browser.execute_async_script("axe.run().then(arguments[0])")
        wrong = [f"{item['id']}: {item['nodes'][0]['html']}" for item in found["violations"]]
        assert wrong == [], page.name


def test_the_table_is_filtered_and_sorted(pages: Path, browse: Callable[..., Any]) -> None:
    browser = browse(DESKTOP)
    visit(browser, pages / "index.html")

    def shown() -> list[str]:
        rows = "[...document.querySelectorAll('tbody tr, .gallery article')].filter((row) => !row.hidden)"
        ids = browser.execute_script(f"return {rows}.map((row) => row.dataset.id)")
        assert ids[: len(ids) // 2] == ids[len(ids) // 2 :], "table and pictures agree"
        return [name.removeprefix("sub-") for name in ids[: len(ids) // 2]]

    def choose(what: str) -> list[str]:
        script = "const show = document.getElementById('show'); show.value = arguments[0];"
        browser.execute_script(script + "show.dispatchEvent(new Event('change'))", what)
        return shown()

    assert choose("warnings") == ["case2", "x"]
    assert choose("remarks") == ["case2", "x"]
    assert choose("unusual") == ["x"]
    assert choose("unrated") == choose("all") == ["case1", "case2", "case3", "x"]
    browser.find_element("id", "search").send_keys("THROWN")
    assert shown() == ["case2"]
    browser.find_element("id", "search").clear()
    browser.find_element("id", "search").send_keys("önal")
    assert shown() == ["case1", "case2", "case3"]
    button = browser.find_element("css selector", "[data-sort=dice_prior_refined]")
    for expected, direction in (
        (["case3", "case2", "case1"], "ascending"),
        (["case1", "case2", "case3"], "descending"),
    ):
        button.click()
        assert shown() == expected
        assert button.find_element("xpath", "..").get_attribute("aria-sort") == direction
    browser.find_element("css selector", "[data-sort=remarks]").click()
    assert shown()[0] == "case2"


def test_what_is_rated_stays_and_is_what_exclude_reads(pages: Path, browse: Callable[..., Any], tmp_path: Path) -> None:
    browser = browse(DESKTOP)
    visit(browser, pages / "sub-case1.html")
    browser.find_element("css selector", "#rating input[value=bad]").click()
    note = 'moved; "a\tlot" <b>'
    browser.execute_script(
        "const note = document.querySelector('[name=note]'); note.value = arguments[0];"
        "note.dispatchEvent(new Event('input', {bubbles: true}))",
        note,
    )
    browser.find_element("id", "canvas").send_keys("n")  # the key for the next subject
    until(lambda: "sub-case2" in browser.current_url, "the next subject is shown")
    until(lambda: browser.find_element("id", "viewer").get_attribute("data-state") == "ready", "it is ready")
    browser.find_element("id", "canvas").send_keys("g")
    browser.refresh()
    assert browser.find_element("css selector", "#rating input[value=good]").is_selected()
    browser.find_element("link text", "All subjects").click()
    until(lambda: "index.html" in browser.current_url, "the group is shown")
    assert "2 rated" in browser.find_element("id", "count").text
    assert browser.find_element("css selector", "tr[data-id=sub-case1] .note").text == 'moved; "a lot" <b>'
    browser.find_element("id", "export").click()
    path = tmp_path / "downloads" / "ratings.tsv"
    until(path.exists, "the ratings are exported")
    head, *rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    assert head == ["participant_id", "source", "rating", "note", "rated_at"]
    assert [row[:4] for row in rows] == [
        ["sub-case1", "Önal 0", "bad", 'moved; "a lot" <b>'],
        ["sub-case2", "Önal 1", "good", "n/a"],
    ]
    assert Ratings.read(path).apply([("Önal 0", "case1"), ("Önal 1", "case2")]) == {"Önal 0": 'bad: moved; "a lot" <b>'}

    other = browse(DESKTOP)
    visit(other, pages / "index.html")
    other.find_element("id", "import").send_keys(str(path))
    until(lambda: "2 ratings read" in other.find_element("id", "count").text, "the ratings are imported")
    assert other.find_element("css selector", "tr[data-id=sub-case1] select").get_property("value") == "bad"
    assert errors(browser) == errors(other) == []


def test_pages_that_share_no_storage_hand_ratings_on_by_their_links(pages: Path, browse: Callable[..., Any]) -> None:
    browser = browse(DESKTOP)
    visit(browser, pages / "sub-case1.html")
    browser.find_element("css selector", "#rating input[value=doubtful]").click()
    link = browser.find_element("link text", "All subjects").get_attribute("href")
    browser.execute_script("localStorage.clear()")
    browser.get(link)
    assert browser.find_element("css selector", "tr[data-id=sub-case1] select").get_property("value") == "doubtful"
    assert "#" not in browser.current_url
    browser.get(pages.joinpath("index.html").as_uri() + "#ratings=%7Bcut")
    assert errors(browser) == []


def test_the_viewer_draws_what_is_switched_on(pages: Path, browse: Callable[..., Any]) -> None:
    browser = browse(DESKTOP)
    visit(browser, pages / "sub-case1.html")

    def colours() -> dict[str, int]:
        """Pixels of the canvas that are amber (prior), light blue (refined), and of any colour."""
        picture = canvas_of(browser)
        red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
        amber, light_blue = (red - blue > 100) & (red > green), (blue - red > 100) & (green > red)
        return {"prior": int(amber.sum()), "refined": int(light_blue.sum())}

    def switch(name: str, value: str | None = None) -> None:
        one = f"#controls [name={name}]" + (f"[value={value}]" if value else "")
        browser.find_element("css selector", one).click()

    outlined = colours()
    assert outlined["prior"] > 0
    assert outlined["refined"] > 0
    switch("outlines")
    filled = colours()
    assert filled["refined"] > outlined["refined"], "a fill has more pixels than an outline"
    switch("layer", "prior")
    assert colours()["prior"] == 0
    switch("layer", "refined")
    assert colours() == {"prior": 0, "refined": 0}
    switch("layer", "uncertainty")
    switch("layer", "probability")
    assert canvas_of(browser).std(axis=2).max() > 30, "maps are coloured"

    place = browser.find_element("id", "location").text
    assert "mm" in place
    browser.find_element("id", "canvas").send_keys(webdriver.Keys.ARROW_UP)
    assert browser.find_element("id", "location").text != place
    before = canvas_of(browser)
    switch("radiological")
    assert (canvas_of(browser) != before).any()
    browser.get((pages / "sub-case2.html").as_uri())
    assert browser.find_element("css selector", "[name=radiological]").is_selected(), "it holds for the next subject"


def canvas_of(browser: Any) -> np.ndarray:
    """What the canvas shows, [rows, columns, 3]."""
    content = base64.b64decode(browser.find_element("id", "canvas").screenshot_as_base64)
    return (matplotlib.image.imread(io.BytesIO(content), format="png")[..., :3] * 255).round()


def test_without_webgl_the_pictures_remain_and_a_sentence_says_so(pages: Path, browse: Callable[..., Any]) -> None:
    browser = browse(PHONE, *NO_GL)
    visit(browser, pages / "sub-case1.html", state="missing")
    assert "no WebGL 2" in browser.find_element("id", "viewer-message").text
    assert not browser.find_element("id", "stage").is_displayed()
    pictures = browser.find_elements("css selector", ".slices img")
    assert len(pictures) == 6
    assert all(picture.is_displayed() for picture in pictures)
    assert errors(browser) == []
