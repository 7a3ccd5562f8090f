"""Kill it, and see whether anything is lost: trainings, studies, searches and predictions, at random moments.

    python benchmarks/drill.py              # about 10 minutes on two cores; make drill
    python benchmarks/drill.py --seed 7     # other moments
    python benchmarks/drill.py train study  # some of it

Each row does its work once undisturbed, and once killed again and again (half of the times just when a file is being
written) and gone on with by the same command. What comes out has to be the same: weights to the bit, records but for
their times. Exits with 1 where anything differs.
"""

import argparse
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import dropkit

TIMES = {"seconds", "images_per_second", "started", "looks", "trained", "command", "spent", "saved", "whole", "cpu"}


@dataclass
class Row:
    """What one part of the drill came to."""

    what: str
    stops: int
    while_writing: int
    same: bool
    seconds: float
    note: str = ""


class Drill:
    """Starts commands, stops them at random moments, and goes on with them.

    Args:
        folder: where all of it happens.
        seed: of the moments.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)

    def command(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command of dropkit in a process group of its own."""
        log = (self.folder / "log.txt").open("ab")
        words = [sys.executable, "-m", "dropkit", *words]
        return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, cwd=self.folder)

    def spans(self, words: Sequence[str], stops: int) -> tuple[float, float]:
        """Let a command run to its end, and again: it then only reads. Return the span within which to stop it.

        So many stops have to fit before the work is done.
        """
        whole = self.once(words)
        start = self.once(words)
        return 0.5 * start, start + 3 * max(whole - start, 0.0) / stops

    def once(self, words: Sequence[str]) -> float:
        """Let a command run to its end; return the seconds that it took."""
        began = time.perf_counter()
        code = self.command(words).wait()
        if code:
            raise SystemExit(f"dropkit {' '.join(words)} ended with {code}: see {self.folder / 'log.txt'}")
        return time.perf_counter() - began

    def stopped_until_done(
        self, words: Sequence[str], watched: Path, *, stops: int, span: tuple[float, float], how: int = signal.SIGKILL
    ) -> tuple[int, int, int]:
        """Start a command and stop it, over and over; then let it run to its end.

        Args:
            words: of the command.
            watched: the folder in which files are written.
            stops: how often it is stopped, if it is not done before.
            span: seconds after its beginning between which it is stopped.
            how: the signal.

        Returns:
            (stops, those while a file was being written, exit codes other than the signal's).
        """
        made, writing, others = 0, 0, 0
        while made < stops:
            child = self.command(words)
            aimed = made % 2 == 1
            hit = self._wait(child, watched, span, aimed)
            if child.poll() is not None:
                break
            os.killpg(child.pid, how)
            code = child.wait()
            made, writing = made + 1, writing + hit
            others += code not in (-how, 128 + how)
            wait_for_group(child.pid)
        self.once(words)
        return made, writing, others

    def _wait(self, child: "subprocess.Popen[bytes]", watched: Path, span: tuple[float, float], aimed: bool) -> bool:
        """Wait for a random moment, or, after it, for the next file that is being written; return whether it was."""
        moment = time.perf_counter() + self.random.uniform(*span)
        while time.perf_counter() < moment and child.poll() is None:
            time.sleep(0.002)
        deadline = time.perf_counter() + 2.0
        while aimed and child.poll() is None and time.perf_counter() < deadline:
            if any(name.endswith(".part") for _, _, names in os.walk(watched) for name in names):
                return True
        return False


def wait_for_group(number: int) -> None:
    """Wait until no process of a group is left."""
    for _ in range(3000):
        try:
            os.killpg(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise SystemExit("a process of the killed command goes on")


def photos(folder: Path, count: int = 40, classes: int = 3) -> Path:
    """Make a folder of pictures of several sizes that can be told apart."""
    generator = np.random.default_rng(0)
    from PIL import Image

    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 120, (30 + number % 7, 33, 3)) + 60 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"class{label}" / f"{number}.png")
    return folder


def plain(value: object) -> object:
    """Return a record without what depends on time and place."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items() if key not in TIMES and key != "out"}
    return [plain(part) for part in value] if isinstance(value, list) else value


def same_run(one: Path, other: Path) -> bool:
    """Whether two runs have the same weights, predictions and metrics."""
    files = ("model.safetensors", "test.safetensors", "split.json")
    if any((one / name).read_bytes() != (other / name).read_bytes() for name in files):
        return False
    rows = [
        [plain(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)
    ]
    return rows[0] == rows[1]


def same_runs(one: Path, other: Path) -> bool:
    """Whether two studies have the same runs."""
    names = [sorted(path.name for path in (study / "runs").iterdir()) for study in (one, other)]
    return names[0] == names[1] and all(same_run(one / "runs" / name, other / "runs" / name) for name in names[0])


def same_record(one: Path, other: Path, keys: Sequence[str]) -> bool:
    """Whether two records agree in these parts."""
    records = [json.loads(path.read_text()) for path in (one, other)]
    return all(plain(records[0][key]) == plain(records[1][key]) for key in keys)


TRAININGS = {
    "plateau, adam, augmentation, class weights, pictures from disk": (
        "PHOTOS --model bn-cnn --dropout conv=0.1,head=0.2 --patience 6 --min-steps 300 --max-epochs 60 --batch-size 4 "
        "--class-weights balanced --stream yes --image-size 32"
    ),
    "sgd, schedules of rate and learning rate, max-norm": (
        "digits --model cnn --dropout fc=0.5,conv=channel:0.1 --epochs 150 --optimizer sgd --lr 0.02 "
        "--lr-schedule cosine --schedule early:0.7 --max-norm 3"
    ),
}


def train(drill: Drill) -> list[Row]:
    """SIGKILL and SIGTERM in single trainings."""
    rows = []
    photos(drill.folder / "photos")
    for number, (name, text) in enumerate(TRAININGS.items()):
        words = ["train", *text.replace("PHOTOS", str(drill.folder / "photos")).split(), "--threads", "1", "--out"]
        whole = drill.folder / f"train{number}"
        span = drill.spans([*words, str(whole)], 20)
        for signal_name, stops in (("SIGKILL", 20), ("SIGTERM", 10)):
            began, out = time.perf_counter(), drill.folder / f"train{number}-{signal_name}"
            how = getattr(signal, signal_name)
            made, writing, others = drill.stopped_until_done([*words, str(out)], out, stops=stops, span=span, how=how)
            note = f"{others} other exit codes" if others else "exit code 143" if how == signal.SIGTERM else ""
            rows.append(
                Row(
                    f"train, {signal_name}: {name}",
                    made,
                    writing,
                    same_run(whole, out),
                    time.perf_counter() - began,
                    note,
                )
            )
    return rows


def study(drill: Drill) -> list[Row]:
    """A comparison in two processes, killed as a group."""
    words = ["compare", "digits", "--model", "mlp", "--epochs", "15", "--seeds", "3", "--workers", "2", "--policies"]
    words += ["none", "fc=0.5", "input=0.1,fc=0.5", "--out"]
    whole, out = drill.folder / "study", drill.folder / "study-killed"
    span = drill.spans([*words, str(whole)], 8)
    began = time.perf_counter()
    made, writing, _ = drill.stopped_until_done([*words, str(out)], out, stops=8, span=span)
    same = same_runs(whole, out) and same_record(whole / "study.json", out / "study.json", ["policies", "verdict"])
    return [Row("compare, two processes", made, writing, same, time.perf_counter() - began)]


def search(drill: Drill) -> list[Row]:
    """A search with its confirmation."""
    words = [
        "tune",
        "digits",
        "--model",
        "mlp",
        "--max-train",
        "300",
        "--epochs",
        "12",
        "--trials",
        "6",
        "--seeds",
        "3",
    ]
    words += ["--workers", "2", "--out"]
    whole, out = drill.folder / "search", drill.folder / "search-killed"
    span = drill.spans([*words, str(whole)], 8)
    began = time.perf_counter()
    made, writing, _ = drill.stopped_until_done([*words, str(out)], out, stops=8, span=span)
    records = [json.loads((folder / "study.json").read_text()) for folder in (whole, out)]
    trials = [[plain(trial) for trial in record["search"]["trials"]] for record in records]
    same = trials[0] == trials[1] and same_record(whole / "study.json", out / "study.json", ["policies"])
    return [Row("tune, two processes, a file for optuna", made, writing, same, time.perf_counter() - began)]


def predict(drill: Drill) -> list[Row]:
    """A prediction with a gallery: the page is whole or not there."""
    photos(drill.folder / "new", count=500)
    run = drill.folder / "predict-run"
    drill.once(["train", str(drill.folder / "new"), "--epochs", "1", "--image-size", "32", "--out", str(run)])
    words = ["predict", str(run), str(drill.folder / "new"), "--samples", "20", "--html", "--out"]
    longest = drill.once([*words, str(drill.folder / "whole.html")])
    began, page = time.perf_counter(), drill.folder / "killed" / "page.html"
    page.parent.mkdir()
    made, writing, _ = drill.stopped_until_done(
        [*words, str(page)], page.parent, stops=6, span=(0.5 * longest, longest)
    )
    pages = [re.sub(r"Took [^.]+\.\d s", "", path.read_text()) for path in (page, drill.folder / "whole.html")]
    same = pages[0] == pages[1]
    left = [path.name for path in page.parent.iterdir() if path != page]
    return [Row("predict, a gallery", made, writing, same and not left, time.perf_counter() - began, ", ".join(left))]


def full_disk(drill: Drill) -> list[Row]:
    """A disk that is full, then a little larger, and so on."""
    place, words = (
        drill.folder / "disk",
        ["train", "digits", "--model", "mlp", "--epochs", "4", "--threads", "1", "--out"],
    )
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        return [Row("a full disk", 0, 0, True, 0.0, "not done: no file system may be mounted here")]
    whole, began, refused = drill.folder / "disk-whole", time.perf_counter(), 0
    try:
        drill.once([*words, str(whole)])
        for size in (1, 3, 6, 9, 12, 20):
            subprocess.run(["mount", "-o", f"remount,size={size}m", place], check=True)
            code = drill.command([*words, str(place / "run")]).wait()
            refused += code == 2
            if code == 0:
                break
        same = same_run(whole, place / "run")
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
    return [
        Row("a disk of 1, 3, 6, ... MB", refused, refused, same, time.perf_counter() - began, "exit code 2 each time")
    ]


PARTS: dict[str, Callable[[Drill], list[Row]]] = {
    "train": train,
    "study": study,
    "search": search,
    "predict": predict,
    "full-disk": full_disk,
}


def main() -> None:
    """Run the drill and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all runs and the log")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    folder = Path(tempfile.mkdtemp(prefix="dropkit-drill-"))
    rows = []
    for name in given.parts or PARTS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        place = folder / name
        place.mkdir()
        rows += PARTS[name](Drill(place, given.seed))
    print(f"dropkit {dropkit.__version__}, torch {torch.__version__}, Python {platform.python_version()}, ", end="")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, seed {given.seed}\n")
    print("| what | stops | while writing | the same | s | |\n|---|---|---|---|---|---|")
    for row in rows:
        same = "yes" if row.same else "**NO**"
        print(f"| {row.what} | {row.stops} | {row.while_writing} | {same} | {row.seconds:.0f} | {row.note} |")
    if all(row.same for row in rows) and not given.keep:
        shutil.rmtree(folder)
    else:
        print(f"\nkept: {folder}")
    sys.exit(not all(row.same for row in rows))


if __name__ == "__main__":
    main()
