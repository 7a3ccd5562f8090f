"""Much of everything: 200,000 pictures in 1,000 classes, and the page of a study of 1,000 runs.

    python benchmarks/load.py                    # about ten minutes on two cores, 1 GB of temporary files
    python benchmarks/load.py --pictures 20000

Marks: the first step is made within 30 seconds after the pictures were read, in memory that does not grow with the
pictures where they are streamed; the page opens within 10 seconds (needs chromium, chromedriver and selenium; else it
is only written). Beside it, what reading them again takes, as when a training goes on.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import dropkit
from dropkit.report.page import write_page
from dropkit.runs.fitting import Fit
from dropkit.runs.training import load_data

CLASSES, SIDE = 1000, 32
MARK_START, MARK_PAGE = 30.0, 10.0
OPENED = "return document.readyState === 'complete' && document.querySelectorAll('.js-plotly-plot, svg').length > 0"


def draw_class(folder: Path, label: int, count: int) -> None:
    """Write the pictures of a class: noise around a grey of its own."""
    generator = np.random.default_rng(label)
    place = folder / f"class{label:04d}"
    place.mkdir()
    pixels = generator.integers(0, 60, (count, SIDE, SIDE), dtype=np.uint8) + np.uint8(label * 190 // CLASSES)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(place / f"{number}.png", compress_level=1)


def draw(folder: Path, pictures: int) -> None:
    """Write so many pictures, on all cores."""
    folder.mkdir()
    with ProcessPoolExecutor() as pool:
        counts = [pictures // CLASSES] * CLASSES
        list(pool.map(draw_class, [folder] * CLASSES, range(CLASSES), counts, chunksize=20))


def start(folder: str, stream: str, spool: str) -> None:
    """Read the pictures, twice, and make the first step; print what it took as JSON. In a process of its own."""
    config = dropkit.TrainConfig(data=folder, image_size=str(SIDE), epochs=1, stream=stream, dropout="fc=0.5")
    times = {}
    began = time.perf_counter()
    for name in ("first", "again"):
        data = load_data(config, spool=Path(spool), progress=False)
        times[name] = time.perf_counter() - began
        began = time.perf_counter()
    Fit(config, *data).train_epoch(most_steps=1)
    times["step"] = time.perf_counter() - began
    times["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(times))


def started(folder: Path, stream: str, spool: Path) -> dict[str, float]:
    """Return what `start` prints."""
    words = [sys.executable, __file__, "--start", str(folder), stream, str(spool)]
    return dict(
        json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])
    )


def large_study(folder: Path, runs: int) -> Path:
    """Write the page of a study of so many runs: those of a small one, over and over under other seeds."""
    policies = ["none", *(f"fc={rate / 10:g}" for rate in range(1, 10))]
    configs = [
        dropkit.TrainConfig(data="digits", model="mlp", dropout=policy, epochs=20, max_train=200) for policy in policies
    ]
    study = dropkit.compare(configs, seeds=3, out=folder / "study", progress=False)
    record, details = study.record, json.loads((study.folder / "details.json").read_text())
    made = []
    for policy in policies:
        few = [run for run in record["runs"] if run["policy"] == policy]
        made += [{**run, "seed": seed} for seed, run in enumerate(islice(cycle(few), runs // len(policies)))]
    seeds = list(range(runs // len(policies)))
    return write_page({**record, "runs": made, "seeds": seeds, "details": details}, folder / "large.html")


def opening(page: Path) -> float | None:
    """Return the seconds until a browser shows the page; None where there is none."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        return None
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs" / "guide"))
    from sources.browser import browser

    with browser() as chrome:
        began = time.perf_counter()
        chrome.get(page.resolve().as_uri())
        while not chrome.execute_script(OPENED):
            time.sleep(0.05)
        return time.perf_counter() - began


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--start", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.start:
        start(*given.start)
        return
    with tempfile.TemporaryDirectory(prefix="dropkit-load-") as name:
        folder = Path(name)
        began = time.perf_counter()
        draw(folder / "pictures", given.pictures)
        drawn = time.perf_counter() - began
        print(f"dropkit {dropkit.__version__}, torch {torch.__version__}, Python {platform.python_version()}, ", end="")
        print(f"{os.cpu_count()} cores; {given.pictures:,} pictures, {CLASSES:,} classes, drawn in {drawn:.0f} s\n")
        print("| | first reading, s | read again, s | from there to the first step, s | most memory, GiB |")
        print("|---|---|---|---|---|")
        worst = 0.0
        for words, stream in (("in memory", "no"), ("streamed from disk", "yes")):
            found = started(folder / "pictures", stream, folder / f"spool-{stream}")
            worst = max(worst, found["step"])
            cells = " | ".join(f"{found[key]:.1f}" for key in ("first", "again", "step"))
            print(f"| {words} | {cells} | {found['memory']:.2f} |", flush=True)
        print(f"\n- {_mark(worst, MARK_START)}: the first step is made {worst:.1f} s after the reading\n")
        page = large_study(folder, given.runs)
        seconds = opening(page)
        size = page.stat().st_size / 2**20
        shown = "no browser here" if seconds is None else f"opens in {seconds:.1f} s ({_mark(seconds, MARK_PAGE)})"
        print(f"- the page of {given.runs:,} runs has {size:.1f} MiB and {shown}")


def _mark(value: float, most: float) -> str:
    return f"{'reached' if value <= most else 'MISSED'}, at most {most:g} s"


if __name__ == "__main__":
    main()
