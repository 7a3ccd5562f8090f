"""A headless Chromium that turns plotly figures into SVG files, and parts of pages into PNG files."""

import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--window-size=1180,2000",
)
TO_SVG = """
const [figure, done] = arguments;
Plotly.toImage(JSON.parse(figure), {format: "svg", width: null, height: null}).then(done, (e) => done("error: " + e));
"""


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a browser without a window.

    Raises:
        SystemExit: if chromium, its driver or selenium is missing, naming them.
    """
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        sys.exit("drawing needs chromium and chromedriver on the PATH (Debian: chromium, chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in OPTIONS:
        options.add_argument(option)
    started = webdriver.Chrome(options=options, service=Service(driver))
    started.set_script_timeout(60)
    try:
        yield started
    finally:
        started.quit()


def to_svg(chrome: Any, figure: go.Figure, name: str, digest: str) -> str:
    """Return the figure as an SVG document.

    Args:
        chrome: a browser.
        figure: what is drawn.
        name: stands in the place of plotly's random marks, so that the same figure gives the same file.
        digest: kept in the file's description.
    """
    if not chrome.execute_script("return typeof Plotly === 'object'"):
        chrome.get("about:blank")
        chrome.execute_script(get_plotlyjs())
    url = chrome.execute_async_script(TO_SVG, figure.to_json())
    if not url.startswith("data:image/svg+xml,"):
        raise RuntimeError(f"plotly did not draw {name}: {url[:200]}")
    svg = unquote(url.removeprefix("data:image/svg+xml,"))
    for number, mark in enumerate(dict.fromkeys(re.findall(r'(?:id="\w*?|\btrace|-cb)([0-9a-f]{6})', svg))):
        svg = svg.replace(mark, f"{name}{number}")
    head, _, rest = svg.partition(">")
    return f"{head}><desc>{digest}</desc>{rest}\n"


def cut_out(chrome: Any, page: Path, parts: Mapping[str, str], folder: Path) -> None:
    """Write parts of a page as PNG files.

    Args:
        chrome: a browser.
        page: an HTML file.
        parts: from the name of the file to the CSS selector of what is cut out.
        folder: where the files go.
    """
    chrome.get(page.resolve().as_uri())
    height = chrome.execute_script("return document.documentElement.scrollHeight")
    chrome.set_window_size(1180, height + 200)
    for name, selector in parts.items():
        chrome.find_element("css selector", selector).screenshot(str(folder / f"{name}.png"))
