"""The page in a real browser: it draws everything, loads nothing, says nothing on the console, fits a phone."""

import copy
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dropkit.report.page import write_page

selenium = pytest.importorskip("selenium", reason="selenium is not installed: pip install selenium")
from selenium import webdriver  # noqa: E402  # only where it is installed
from selenium.webdriver.chrome.service import Service  # noqa: E402

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="chromium and chromedriver are not both installed"
)

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
EVIL = "</script><img src=x onerror=console.error('ran')>\"'\n\u202eevil שלום %{x} <b>"
WAIT = 60  # seconds until a page that is not drawn is a failure; a drawn one takes one or two

MARKS = """
const marks = (figure) => figure.querySelectorAll(".point, .js-line, .heatmaplayer image, .bars path").length;
return [...document.querySelectorAll(".figure")].filter((f) => !f.closest("[hidden]"))
  .map((f) => [f.id, f.querySelectorAll("svg.main-svg").length > 0 && marks(f)]);
"""
TOO_WIDE = """
const width = document.documentElement.clientWidth;
return [...document.querySelectorAll("main *, footer *")]
  .filter((e) => !e.closest("svg, .scroll, .id, [hidden]") && e.getBoundingClientRect().right > width + 1)
  .map((e) => e.tagName + "." + e.className);
"""
CLIPPED = """
return [...document.querySelectorAll(".figure")]
  .filter((f) => !f.closest("[hidden]") && f.scrollWidth > f.clientWidth + 1).map((f) => f.id);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, synthetic: ModuleType, synthetic_details: ModuleType) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    classes = ["cat", "dog", "a long name of a class that must not make the page wide", "owl"]
    sweep = synthetic.sweep()
    sweep["policies"] = [row for row in sweep["policies"] if row["rate"] in (0.0, 0.5, 0.8)]
    names = tuple(row["name"] for row in sweep["policies"])
    study = {**sweep, "details": synthetic_details.details(names, classes, 3)}
    write_page(study, folder / "study.html")
    write_page(poison(study), folder / "evil.html")
    run = {**synthetic.single_run(), "details": synthetic_details.details(("fc=0.5",), classes, 1)}
    write_page({**run, "uncertainty": synthetic_details.uncertainty()}, folder / "run.html")
    gallery = synthetic_details.predictions(classes)
    write_page(gallery, folder / "gallery.html")
    hostile = {"classes": {name + EVIL: count for name, count in gallery["classes"].items()}}  # poison leaves keys
    write_page({**poison(gallery), **hostile}, folder / "evil-gallery.html")
    return folder


def poison(value: Any) -> Any:
    """Every text that a user could have written made hostile; pictures stay."""
    if isinstance(value, dict):
        return {k: v if k in ("kind", "status", "metric", "image") else poison(v) for k, v in value.items()}
    if isinstance(value, list):
        return [poison(item) for item in value]
    return value + EVIL if isinstance(value, str) else copy.copy(value)


def emulate(browser: Any, theme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def theme(browser: Any) -> str:
    return str(browser.execute_script("return document.documentElement.dataset.theme"))


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < end, f"still not so after {WAIT} s"
        time.sleep(0.02)


Open = Callable[..., Any]


@pytest.fixture
def show(browser: Any, pages: Path) -> Open:
    def opened(name: str, *, theme: str = "light", width: int = 1180) -> Any:
        emulate(browser, theme)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get((pages / f"{name}.html").as_uri())
        until(lambda: browser.execute_script("return document.body.dataset.figures") == "drawn")
        return browser

    return opened


def colours(browser: Any) -> tuple[int, int]:
    """How light the page and its text are, 0 to 255."""
    script = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
    page, ink = (text[text.index("(") + 1 : -1].split(",")[0] for text in browser.execute_script(script))
    return int(page), int(ink)


def open_tabs(browser: Any) -> dict[str, int]:
    """Choose every tab in turn; return how many marks each figure has, whichever tab it is on."""
    drawn = dict(browser.execute_script(MARKS))
    for tab in browser.execute_script("return [...document.querySelectorAll('[role=tab]')].map((tab) => tab.id)"):
        browser.execute_script("document.getElementById(arguments[0]).click()", tab)
        pane = "pane-" + tab.removeprefix("tab-")
        assert not browser.execute_script("return document.getElementById(arguments[0]).hidden", pane)
        drawn |= dict(browser.execute_script(MARKS))
    return drawn


@pytest.mark.parametrize("name", ["study", "evil", "run"])
def test_all_is_drawn_nothing_is_loaded_and_the_console_stays_empty(show: Open, name: str) -> None:
    browser = show(name)
    drawn = open_tabs(browser)
    figures = browser.execute_script("return Object.keys(JSON.parse(document.getElementById('figures').textContent))")
    assert set(drawn) == set(figures)
    assert [figure for figure, marks in drawn.items() if not marks] == []
    seen = browser.execute_script("return [...document.images].map((i) => [i.alt, i.complete && i.naturalWidth])")
    assert len(seen) >= 13  # a dozen mistakes, and filters
    assert all(alt and width > 0 for alt, width in seen)
    asked = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    addresses = {json.loads(message)["message"]["params"].get("request", {}).get("url", "") for message in asked}
    assert f"{name}.html" in "".join(addresses)
    assert [address for address in addresses if address and not address.startswith(("file:", "data:", "blob:"))] == []
    assert browser.get_log("browser") == []


def test_both_themes_and_the_switch(show: Open) -> None:
    browser = show("study")
    tick = "return getComputedStyle(document.querySelector('.x2tick text')).fill"
    light = colours(browser), browser.execute_script(tick)
    emulate(browser, "dark")
    until(lambda: theme(browser) == "dark")  # the page is told a moment later
    dark = colours(browser), browser.execute_script(tick)
    (page, ink), _ = light
    assert page > 200 > 100 > ink
    (page, ink), _ = dark
    assert page < 100 < 200 < ink
    assert light[1] != dark[1]  # the figures' text goes with the page
    button = browser.find_element("id", "theme")
    assert button.text == "Light"
    button.click()
    assert (colours(browser), browser.execute_script(tick)) == light
    button.click()
    assert (colours(browser), browser.execute_script(tick)) == dark


@pytest.mark.parametrize(
    ("name", "width"), [("evil", 360), ("run", 360), ("study", 820), ("evil-gallery", 360), ("gallery", 820)]
)
def test_a_narrow_window_needs_no_sideways_scrolling(show: Open, name: str, width: int) -> None:
    browser = show(name, theme="dark", width=width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(TOO_WIDE) == []
    assert browser.execute_script(CLIPPED) == []
    assert browser.get_log("browser") == []


def test_tabs_answer_to_the_arrow_keys(show: Open) -> None:
    browser = show("run", width=360)
    first, second = "tab-learning-loss", "tab-learning-error"
    browser.execute_script("document.getElementById(arguments[0]).focus()", first)
    browser.switch_to.active_element.send_keys("\ue014")  # the right arrow
    assert browser.switch_to.active_element.get_attribute("id") == second
    chosen = "return document.getElementById(arguments[0]).getAttribute('aria-selected')"
    assert browser.execute_script(chosen, second) == "true"
    assert browser.execute_script("return document.getElementById('pane-learning-loss').hidden") is True


@pytest.mark.parametrize("name", ["gallery", "evil-gallery"])
def test_the_gallery_is_filtered_by_class_and_text_and_turned(show: Open, name: str) -> None:
    browser = show(name)
    titles = "return [...document.querySelectorAll('.shots li')].filter((li) => li.offsetHeight > 0)"
    seen = titles + ".map((li) => li.querySelector('.id').textContent)"
    everything = browser.execute_script(seen)
    assert len(everything) == 12
    enter = """
      const input = document.getElementById(arguments[0]);
      input.value = arguments[1];
      input.dispatchEvent(new Event("input"));
    """
    second = browser.execute_script("return document.getElementById('filter').options[2].value")
    browser.execute_script(enter, "filter", second)
    assert browser.execute_script(seen) == everything[1::4]
    assert browser.find_element("id", "filter-count").text == "3 of 12"
    browser.execute_script(enter, "filter", "")
    browser.execute_script(enter, "filter-text", "/00")
    assert browser.execute_script(seen) == everything[:10]
    browser.find_element("id", "turn").click()
    assert browser.execute_script(seen) == [*everything[4::-1], *everything[9:4:-1]]
    assert browser.get_log("browser") == []
