"""Draw the figures of the guide, from runs that are made here and now.

    python docs/guide/figures.py                  # all: about ten minutes on two cores
    python docs/guide/figures.py variance-shift   # some
    python docs/guide/figures.py --draw           # only draw and quote again what was measured before
    python docs/guide/figures.py --list

Each figure's runs are kept in docs/guide/measured/NAME.json, with the machine, the versions and the time they took;
the picture in docs/guide/images/NAME.svg is drawn from them, and the chapter quotes them between two comments. Needs
chromium and chromedriver on the PATH, and selenium.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).resolve().parent))

from sources import amounts, mistakes, norms, pages, principles, published, tutorial  # noqa: E402
from sources.browser import browser, cut_out, to_svg  # noqa: E402
from sources.figure import GUIDE, IMAGES, Figure, quoted  # noqa: E402

from dropkit.files import read_json, write_atomic, write_json  # noqa: E402
from dropkit.runs.environment import describe_environment  # noqa: E402

SOURCES = (principles, tutorial, norms, published, amounts, mistakes)
FIGURES: dict[str, Figure] = {figure.name: figure for source in SOURCES for figure in source.FIGURES}


def measure(figure: Figure) -> None:
    """Make a figure's runs and keep what they gave."""
    print(f"{figure.name}: measuring", file=sys.stderr)
    begun = time.perf_counter()
    values = figure.measure()
    seconds = round(time.perf_counter() - begun, 1)
    print(f"{figure.name}: {seconds} s", file=sys.stderr)
    figure.record.parent.mkdir(exist_ok=True)
    record = {"figure": figure.name, "seconds": seconds, "environment": machine(), "values": shortened(values)}
    write_json(figure.record, record)


def machine() -> dict[str, Any]:
    """Return the hardware and the versions that the figures were measured with."""
    found = describe_environment(torch.device("cpu"), torch.float32)
    return {name: found[name] for name in ("cpu", "cores", "python", "torch", "dropkit")}


def shortened(value: Any) -> Any:
    """Return JSON with five digits of each number, which is more than the guide shows."""
    if isinstance(value, dict):
        return {name: shortened(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [shortened(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def draw(figures: list[Figure], page: Path | None) -> None:
    """Draw figures from what was measured, and cut a page into its parts."""
    with browser() as chrome:
        for figure in figures:
            svg = to_svg(chrome, figure.draw(figure.values()), figure.name, figure.digest())
            write_atomic(figure.picture, svg.encode())
            print(figure.picture.relative_to(ROOT))
        if page is not None:
            cut_out(chrome, page, pages.PARTS, IMAGES)
            for picture in pages.pictures():
                print(picture.relative_to(ROOT))


def about_the_runs() -> str:
    """Return the sentence of the guide's first page: with what the figures were measured, and how long it took."""
    records = [read_json(figure.record) for figure in FIGURES.values()]
    machines = {json.dumps(record["environment"]): record["environment"] for record in records}
    words = [f"{m['cpu']}, {m['cores']} cores, Python {m['python']}, torch {m['torch']}" for m in machines.values()]
    seconds = sum(record["seconds"] for record in records)
    return (
        f"Measured on: {'; '.join(words)}. All runs together took {seconds / 60:.0f} minutes, those of the page aside."
    )


def quotes() -> dict[str, Callable[[], str]]:
    """Return what makes each quotation."""
    return {"machine": about_the_runs, **{name: figure.quotation for name, figure in FIGURES.items()}}


def quote() -> None:
    """Bring the chapters' quotations up to date."""
    for chapter in sorted(GUIDE.glob("*.md")):
        text = chapter.read_text(encoding="utf-8")
        if (new := quoted(text, quotes())) != text:
            write_atomic(chapter, new.encode())
            print(chapter.relative_to(ROOT))


def main() -> None:
    """Measure, draw and quote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures, or page for the pictures of a page")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--runs", type=Path, default=ROOT / "build" / "guide", help="where the page's study is kept")
    given = parser.parse_args()
    if given.list:
        print(*FIGURES, "page", sep="\n")
        return
    if unknown := set(given.names) - {*FIGURES, "page"}:
        parser.error(f"no figure is called {', '.join(sorted(unknown))}: --list prints their names")
    names = given.names or [*FIGURES, "page"]
    figures = [FIGURES[name] for name in names if name != "page"]
    for figure in [] if given.draw else figures:
        measure(figure)
    page = given.runs / "page" / "report.html" if given.draw else None
    if "page" in names and not given.draw:
        page = pages.compare(given.runs)
    draw(figures, page if page is not None and "page" in names and page.is_file() else None)
    quote()


if __name__ == "__main__":
    main()
