"""The report in a real browser: no error, no request, everything visible at any width and within reach of the keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_campaign import half, whole

from workflow.report.html import write_report
from workflow.templates import write_template

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: pip install -e '.[dev]'")

SHOTS = Path(__file__).parents[2] / "build" / "report"
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]

MANY = ("ani1x", *(f"omol25_{name}" for name in ("neutral", "charged", "rest")), "transition1x", "x" * 64, "qcml")
FIGURES = """() => [...document.querySelectorAll('figure')].map(figure => {
  const svg = figure.querySelector('svg'), box = svg.getBoundingClientRect()
  const drawn = [...svg.querySelectorAll('path, rect, text')].some(each => each.getBoundingClientRect().width > 0)
  const words = svg.getAttribute('aria-label') || '', title = figure.querySelector('figcaption b').innerText
  return {id: figure.id, width: box.width, height: box.height, drawn, words, title}
})"""
CUT_OFF = """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect()
  return [...svg.querySelectorAll('text')].filter(text => {
    const box = text.getBoundingClientRect()
    return box.left < frame.left - 2 || box.right > frame.right + 2 || box.top < frame.top - 2 || box.bottom > frame.bottom + 2
  }).map(text => `${svg.getAttribute('aria-label').slice(0, 40)}: ${text.textContent}`)
})"""
OVERLAPPING = """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
  const boxes = [...svg.querySelectorAll('text')].filter(text => text.textContent.trim())
    .map(text => [text.textContent, text.getBoundingClientRect()])
  return boxes.flatMap(([one, a], place) => boxes.slice(place + 1)
    .filter(([_, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 3
                     && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
    .map(([other]) => `${svg.getAttribute('aria-label').slice(0, 40)}: ${one} / ${other}`))
})"""
SMALL = """() => [...document.querySelectorAll('figure svg text')].filter(text => {
  const matrix = text.getScreenCTM()
  return Math.hypot(matrix.a, matrix.b) * parseFloat(getComputedStyle(text).fontSize) < 8.5
}).map(text => text.textContent)"""
NAMED = "at => at.tagName + ':' + (at.getAttribute('href') || at.getAttribute('aria-label') || at.innerText)"
REACHED = f"() => document.activeElement === document.body ? '' : ({NAMED})(document.activeElement)"
WANTED = f"""() => [...document.querySelectorAll('a, summary, [tabindex="0"]')]
  .filter(each => !each.closest('details:not([open]) > :not(summary)')).map({NAMED})"""
TABLES = """() => [...document.querySelectorAll('table')].map(each => [!!each.caption,
  each.querySelectorAll('thead th[scope=col]').length, each.querySelectorAll('tbody th[scope=row]').length])"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    whole(folder / "whole")
    half(folder / "half")
    file = write_template("sc26", folder / "sc26.yaml", force=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("made_campaign.BRANCHES", MANY)
        whole(folder / "many")
    return {
        "whole": write_report(folder / "whole", None),
        "half": write_report(folder / "half", None),
        "many": write_report(folder / "many", None),
        "not begun": write_report(folder / "sc26", folder / "sc26.html", file),
    }


@pytest.fixture
def opened(browser: Any, reports: dict[str, Path]) -> Iterator[Any]:
    """Open a report and watch what it does; at the end nothing may have gone wrong."""
    faults: list[str] = []
    pages: list[Any] = []

    def open_report(name: str, width: int = 1280, scheme: str = "light") -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
        page.on("request", lambda request: request.url.startswith("file:") or faults.append(f"request: {request.url[:80]}"))
        page.goto(reports[name].as_uri())
        pages.append(page)
        return page

    yield open_report
    for page in pages:
        page.close()
    assert faults == []


@pytest.mark.parametrize("name", ["whole", "half", "not begun", "many"])
@pytest.mark.parametrize("width", [1280, 400])
def test_every_figure_is_visible_and_nothing_sticks_out(opened: Any, name: str, width: int) -> None:
    page = opened(name, width)
    figures = page.evaluate(FIGURES)
    assert len(figures) == {"whole": 14, "half": 3, "not begun": 2, "many": 14}[name]
    for each in figures:
        assert each["width"] > 300 and each["height"] > 40 and each["drawn"], each
        assert len(each["words"]) > 40 and len(each["title"]) > 10, each
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(OVERLAPPING) == []
    assert page.evaluate(SMALL) == []
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name.replace(' ', '-')}-{width}.png", full_page=True)


def test_the_keyboard_reaches_everything_and_opens_what_is_folded(opened: Any) -> None:
    page = opened("whole")
    wanted = page.evaluate(WANTED)
    assert wanted[0] == "A:#main", "the first stop skips the navigation"
    reached = []
    for _ in range(len(wanted) + 5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(REACHED))
    assert [each for each in reached if each][: len(wanted)] == wanted
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1
    page.locator("a.skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_landmarks_headings_and_tables_are_named(opened: Any) -> None:
    page = opened("whole")
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1, landmark
    levels = [int(each[1]) for each in page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(each => each.tagName)")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    tables = page.evaluate(TABLES)
    assert len(tables) > 10 and all(caption and columns and rows for caption, columns, rows in tables)


@pytest.mark.parametrize(("name", "scheme"), [("whole", "light"), ("whole", "dark"), ("half", "light"), ("not begun", "dark")])
def test_nothing_keeps_a_reader_out(opened: Any, name: str, scheme: str) -> None:
    """WCAG 2.2 AA and best practice, as far as a program can tell, with everything unfolded."""
    page = opened(name, 1280, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    # What is drawn inside of a picture is one image to a reader, named by its label; its texts' colours are tried below.
    found = axe.Axe().run(page, context={"exclude": ["figure svg > *"]}, options={"runOnly": rules}).response
    assert len(found["passes"]) > 20
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_paper(opened: Any, scheme: str) -> None:
    page = opened("whole", 1280, scheme)
    names = ["ink", "soft", "link", "done", "run", "fail", "hold", "wait", *(f"c{number}" for number in range(8))]
    read = "names => names.map(name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim())"
    paper, *colors = page.evaluate(read, ["paper", *names])
    for name, color in zip(names, colors, strict=True):
        least = 3.0 if name[0] == "c" else 4.5  # WCAG 2.2: graphics, text
        assert contrast(color, paper) >= least, (name, color)
    page.screenshot(path=SHOTS / f"whole-{scheme}.png", full_page=True) if SHOTS.is_dir() else None


def test_it_prints_whole(opened: Any, tmp_path: Path) -> None:
    page = opened("whole", 1280, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper').trim()") == "#ffffff"
    assert not page.get_by_role("navigation").is_visible()
    assert page.get_by_text("cause").first.is_visible(), "what is folded is printed"
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, as WCAG defines it."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
