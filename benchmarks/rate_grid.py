"""A study of a full grid of conv and fc rates as one table: lowest validation loss and test error of every cell.

    python benchmarks/rate_grid.py STUDY

STUDY is the folder of a finished `dropkit compare` whose policies are none, fc=RATE, conv=RATE and conv=RATE,fc=RATE.
Prints mean and half width of the 95% interval (Student's t) over the seeds, and what is said of the grid in
docs/results.md.
"""

import argparse
from pathlib import Path

import numpy as np

from dropkit.files import read_json
from dropkit.models.policy import Policy
from dropkit.runs.intervals import mean_interval


def shown(values: np.ndarray, digits: int) -> str:
    """Return mean and half width of the 95% interval."""
    mean, low, _ = mean_interval(list(values))
    return f"{mean:.{digits}f} ±{mean - (low or mean):.{digits}f}"


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    record = read_json(parser.parse_args().study / "study.json")
    cells: dict[tuple[float, float], list[tuple[float, float]]] = {}
    for run in record["runs"]:  # a policy's seeds stand in the same order
        rates = {item.site: item.rate for item in Policy.parse(run["policy"]).items}
        summary = run["summary"]
        figures = (summary["val"]["loss"], 100 * summary["test"]["error"])
        cells.setdefault((rates.get("conv", 0.0), rates.get("fc", 0.0)), []).append(figures)
    grid = {cell: np.array(values).T for cell, values in cells.items()}
    convs, fcs = (sorted({cell[axis] for cell in grid}) for axis in (0, 1))
    print("| conv \\ fc | " + " | ".join(f"{fc:g}" for fc in fcs) + " |\n|" + "---|" * (len(fcs) + 1))
    for conv in convs:
        row = [f"{shown(grid[conv, fc][0], 3)}, {shown(grid[conv, fc][1], 1)}%" for fc in fcs]
        print(f"| {conv:g} | " + " | ".join(row) + " |")
    losses = np.array([values[0] for values in grid.values()])
    errors = np.sort([values[1].mean() for values in grid.values()])
    point = max(int(((errors >= low) & (errors <= low + 1)).sum()) for low in errors)
    lowest = np.bincount(losses.argmin(1), minlength=losses.shape[1])
    seconds = sum(run["summary"]["seconds"] for run in record["runs"])
    print(f"\n{point} of {len(errors)} test errors within one point of each other")
    print(f"cells in which each seed has the lowest validation loss: {lowest.tolist()}")
    print(f"{len(record['runs'])} trainings, {seconds:,.0f} s summed")


if __name__ == "__main__":
    main()
