"""What `dropkit tune` takes, beside a full grid of rates and beside plain optuna driving the tutorial's script.

    python benchmarks/search_time.py DATA.npz OUT [--seed 0] [--epochs 40] [--max-train 2000] [--only tune plain grid]

One after the other, in one run: `dropkit tune` (30 trials and its confirmation), `plain_optuna.py` (30 trials, each to
its end), and `dropkit compare` over 5 conv rates x 5 fc rates with 3 seeds. Every line that they print is stamped, so
that what was reached when is known. Prints the wall-clock time of each, the search's share of the grid's, and how long
both searches took to the higher of their two final validation losses. OUT keeps the studies and `times.json`; a part
whose times are there is not run again.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import optuna
import torch

from dropkit.files import read_json, write_json
from dropkit.runs.environment import cpu_name

CONV, FC = (0, 0.1, 0.2, 0.3, 0.5), (0, 0.25, 0.5, 0.7, 0.8)
LOWEST = re.compile(r"lowest (?:validation loss so far )?([0-9.]+)")


def grid_policies() -> list[str]:
    """Return the policies of the grid, no dropout first."""
    items = [[f"{site}={rate}" for site, rate in (("conv", c), ("fc", f)) if rate] for c in CONV for f in FC]
    return [",".join(each) or "none" for each in items]


def stamped(command: list[str], log: Path) -> list[tuple[float, str]]:
    """Run a command; return its lines of both streams, each with the seconds since the start."""
    began, lines = time.perf_counter(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1) as process:
        for line in process.stdout or ():
            lines.append((time.perf_counter() - began, line.rstrip()))
            print(f"{lines[-1][0]:8.1f}  {lines[-1][1]}", file=sys.stderr, flush=True)
    log.write_text("\n".join(f"{seconds:.2f} {line}" for seconds, line in lines))
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return [*lines, (time.perf_counter() - began, "")]


def reached(lines: list[tuple[float, str]]) -> list[tuple[float, float]]:
    """Return when each lowest validation loss was said."""
    return [(seconds, float(found[1])) for seconds, line in lines if (found := LOWEST.search(line))]


def when(trajectory: list[tuple[float, float]], target: float) -> float:
    """Return the seconds until a loss at or under the target."""
    return next(seconds for seconds, loss in trajectory if loss <= target + 5e-4)


def main() -> None:
    """Run what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--max-train", type=int, default=2000)
    parser.add_argument("--only", nargs="+", choices=("tune", "plain", "grid"), default=("tune", "plain", "grid"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "times.json"
    times = read_json(file) if file.is_file() else {}
    how = [options.data, "--max-train", str(options.max_train), "--epochs", str(options.epochs)]
    seed = str(options.seed)
    dropkit = [sys.executable, "-m", "dropkit"]
    commands = {
        "tune": [*dropkit, "tune", *how, "--first-seed", seed, "--out", str(options.out / "tune")],
        "plain": [sys.executable, str(Path(__file__).with_name("plain_optuna.py")), *how, "--seed", seed],
        "grid": [*dropkit, "compare", *how, "--seeds", "3", "--first-seed", seed, "--metric", "nll"],
    }
    commands["grid"] += ["--out", str(options.out / "grid"), "--policies", *grid_policies()]
    for name in options.only:
        if name not in times:
            lines = stamped(commands[name], options.out / f"{name}.log")
            searched = max((s for s, line in lines if line.startswith("search ") and "lowest" in line), default=None)
            times[name] = {"seconds": searched or lines[-1][0], "reached": reached(lines)}
            write_json(file, times)
    print(f"{cpu_name()}, torch {torch.__version__}, optuna {optuna.__version__}, {torch.get_num_threads()} threads")
    for name, found in times.items():
        print(f"{name}: {found['seconds']:.0f} s" + (" (search alone)" if name == "tune" else ""))
    if {"tune", "grid"} <= set(times):
        spent = read_json(options.out / "tune" / "study.json")["search"]["spent"]
        runs = read_json(options.out / "grid" / "study.json")["runs"]
        summed = sum(run["summary"]["seconds"] for run in runs)
        epochs = sum(run["summary"]["epochs"] for run in runs)
        print(
            f"the search's share of the grid's: {times['tune']['seconds'] / times['grid']['seconds']:.3f} of the time, "
            f"{spent['seconds'] / summed:.3f} of the trainings' summed, {spent['epochs'] / epochs:.3f} of the epochs"
        )
    if {"tune", "plain"} <= set(times):
        both = {name: times[name]["reached"] for name in ("tune", "plain")}
        target = max(min(loss for _, loss in each) for each in both.values())
        for name, each in both.items():
            print(f"{name}: lowest {min(loss for _, loss in each):.4f}; {target:.4f} after {when(each, target):.0f} s")


if __name__ == "__main__":
    main()
