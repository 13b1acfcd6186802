"""The report of load runs, opened in a real browser as a customer would."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from load_runs import a_broken_run, a_run
from strongroom.lab.load import report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine (Debian: apt install chromium)"
)

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""A container's root has no sandbox; the others keep the browser from calling its makers."""

DESK, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}

CHARTS = ["rate", "latency", "percentiles", "queued", "connections", "cpu", "memory"]

COLOURS_DRAWN = """canvas => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let at = 0; at < data.length; at += 4)
    if (data[at + 3] > 200) seen.add(`${data[at]},${data[at + 1]},${data[at + 2]}`);
  return [...seen];
}"""

CELLS = """table => [...table.tBodies[0].rows].map(
  row => [...row.cells].map(cell => cell.textContent.trim()))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield found
        found.close()


class Opened:
    """A page with what it complained of and whom it asked."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def drawn(self) -> dict[str, set[str]]:
        """The colours of each chart's canvas."""
        return {
            plot.get_attribute("id").removeprefix("plot-"): set(
                plot.query_selector("canvas").evaluate(COLOURS_DRAWN)
            )
            for plot in self.page.query_selector_all(".plot")
        }

    def colour(self, name: str) -> str:
        """A colour of the style, as the canvas tells it."""
        hexed = self.page.evaluate(
            "name => getComputedStyle(document.documentElement).getPropertyValue(name)", name
        ).strip()
        return ",".join(str(int(hexed[at : at + 2], 16)) for at in (1, 3, 5))

    def overflow(self) -> int:
        return int(
            self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file: Path = tmp_path_factory.mktemp("report") / "one.html"
    report.write_html([a_run()], file)
    return file


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file: Path = tmp_path_factory.mktemp("report") / "two.html"
    report.write_html([a_run(), a_broken_run()], file)
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn_and_nothing_is_asked_of_anybody(
    browser: Any, single: Path, scheme: str
) -> None:
    opened = Opened(browser, single, viewport=DESK, color_scheme=scheme)
    drawn = opened.drawn()
    assert list(drawn) == CHARTS
    lines = {"rate": ["--s0", "--s1", "--s6"], "latency": ["--s0", "--s1", "--bad"]}
    for name, colours in drawn.items():
        assert {opened.colour(one) for one in lines.get(name, ["--s0"])} <= colours, name
    assert opened.complaints == []
    assert opened.asked == [single.as_uri()]


def test_two_runs_have_a_colour_each(browser: Any, double: Path) -> None:
    opened = Opened(browser, double, viewport=DESK)
    for name, colours in opened.drawn().items():
        # Where both are equal, the second run's line covers the first's.
        wanted = ["--s1"] if name in ("rate", "connections", "cpu", "memory") else ["--s0", "--s1"]
        assert {opened.colour(one) for one in wanted} <= colours, name
    assert (opened.complaints, opened.asked) == ([], [double.as_uri()])


def test_the_tables_say_what_the_run_found(browser: Any, single: Path) -> None:
    run = a_run()
    opened = Opened(browser, single, viewport=DESK)
    rows = opened.page.query_selector("#streams-A").evaluate(CELLS)
    assert [row[0] for row in rows] == [one.name for one in run.streams]
    for row, stream in zip(rows, run.streams, strict=True):
        counts = [int(cell.replace(",", "")) for cell in row[1:5]]
        ok = stream.statuses[202]
        answered = sum(stream.statuses.values())
        assert counts == [stream.intended, answered, ok, stream.intended - ok]
        latencies = [float(cell.replace(",", "")) for cell in row[5:]]
        told = (stream.p50_ms, stream.p95_ms, stream.p99_ms, stream.p999_ms, stream.max_ms)
        assert latencies == pytest.approx(told, rel=0.005)


def test_a_narrow_page_needs_no_sideways_scrolling(browser: Any, double: Path) -> None:
    opened = Opened(browser, double, viewport=PHONE, is_mobile=True, has_touch=True)
    assert opened.overflow() == 0
    assert all(opened.drawn().values())


def test_charts_follow_the_width_of_the_window(browser: Any, single: Path) -> None:
    opened = Opened(browser, single, viewport=DESK)
    opened.page.set_viewport_size(PHONE)
    opened.page.wait_for_function(
        "document.querySelector('#plot-rate canvas').clientWidth < 400", timeout=10_000
    )
    assert opened.overflow() == 0


def test_without_javascript_the_tables_are_all_there(browser: Any, double: Path) -> None:
    opened = Opened(browser, double, viewport=DESK, java_script_enabled=False)
    text = opened.page.inner_text("body")
    assert "The charts are drawn by JavaScript, which is off here." in text
    assert "30,000" in text and "Not held" in text and "25.00×" in text
    assert opened.page.locator("details").count() == 4


def test_paper_is_white_even_where_screens_are_dark(browser: Any, single: Path) -> None:
    opened = Opened(browser, single, viewport=DESK, color_scheme="dark")
    dark = opened.colour("--s0")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.colour("--surface") == "255,255,255"
    assert dark not in opened.drawn()["rate"]
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert dark in opened.drawn()["rate"]
    assert opened.page.pdf(format="A4").startswith(b"%PDF")
    assert opened.complaints == []


def test_a_hostile_name_runs_no_script(browser: Any, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=\"console.log('run')\"><script>console.log('run')</script>"
    run = a_run(scenario=evil, says=evil, settings={evil: evil})
    run.streams[0].name = evil
    file = tmp_path / "evil.html"
    report.write_html([run, run], file)
    opened = Opened(browser, file, viewport=DESK)
    assert list(opened.drawn()) == CHARTS
    assert (opened.complaints, opened.asked) == ([], [file.as_uri()])
