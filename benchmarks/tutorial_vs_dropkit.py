"""`dropkit train` against the tutorial's plain script, and against a better plain script; same work, in one run.

    python benchmarks/tutorial_vs_dropkit.py FASHION_MNIST.npz [--epochs 10] [--repeats 1]

All three train the tutorial's network (dropout .5, Adam 1e-3, batches of 128) on the same training pictures, for as
many epochs, and classify the same test pictures at the end:

- tutorial: its own script (with the flatten size corrected): a DataLoader over a float tensor, eager float32;
- better: the same in channels-last memory format, under bfloat16 autocast where the hardware is fast at it;
- dropkit: `dropkit train`, which beside that evaluates 9,000 validation and 9,000 training pictures after each epoch,
  keeps a checkpoint an epoch and the best weights, and writes its record and page. All of that is in its time.

Each runs in a process of its own, one after the other; imports are not counted, loading the data is.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from dropkit.runs.config import TrainConfig
from dropkit.runs.environment import cpu_name
from dropkit.runs.fitting import pick_precision
from dropkit.runs.training import load_data, train

METHODS = ("tutorial", "better", "dropkit")
LIMITS = {"tutorial": 1.6, "better": 1.0}
CLOSE = 0.005


class TutorialNet(nn.Module):
    """The tutorial's network as it is written there, with the flatten size corrected."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.dropout = nn.Dropout(p=0.5)
        self.fc1 = nn.Linear(64 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = torch.max_pool2d(torch.relu(self.conv1(x)), kernel_size=2, stride=2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), kernel_size=2, stride=2)
        x = x.reshape(x.size(0), -1)
        return self.fc2(self.dropout(torch.relu(self.fc1(x))))


def plain(data: str, epochs: int, seed: int, fast: bool) -> float:
    """Train as the tutorial does, on the training pictures that dropkit would take; return the test accuracy."""
    pictures, split = load_data(TrainConfig(data=data))
    x = pictures.images.float() / 255
    x = (x - x[split.train].mean()) / x[split.train].std()
    y = pictures.labels
    torch.manual_seed(seed)
    model = TutorialNet()
    if fast:
        model = model.to(memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=0.001)
    loader = DataLoader(TensorDataset(x[split.train], y[split.train]), batch_size=128, shuffle=True)
    half = fast and pick_precision("auto", torch.device("cpu")) == torch.bfloat16
    computing = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
    for _ in range(epochs):
        model.train()
        for inputs, labels in loader:
            optimizer.zero_grad()
            if fast:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            with computing:
                outputs = model(inputs)
            loss = criterion(outputs.float(), labels)
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        answers = torch.cat([model(part).argmax(1) for part in x[split.test].split(1000)])
    return (answers == y[split.test]).float().mean().item()


def with_dropkit(data: str, epochs: int, seed: int) -> float:
    """Train with `dropkit train`; return the test accuracy at its best epoch."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(TrainConfig(data=data, dropout="fc=0.5", epochs=epochs, seed=seed, out=f"{folder}/run"))
        return 1 - run.summary["test"]["error"]


def one(method: str, data: str, epochs: int, seed: int) -> None:
    """Run one method and print its time and accuracy."""
    began = time.perf_counter()
    if method == "dropkit":
        accuracy = with_dropkit(data, epochs, seed)
    else:
        accuracy = plain(data, epochs, seed, fast=method == "better")
    print(json.dumps({"seconds": time.perf_counter() - began, "accuracy": accuracy}))


def main() -> None:
    """Run all, in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--one", choices=METHODS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.one:
        one(given.one, given.data, given.epochs, given.seed)
        return
    results: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    for seed in range(given.repeats):
        for method in METHODS:
            words = [sys.executable, __file__, given.data, "--epochs", str(given.epochs), "--seed", str(seed)]
            done = subprocess.run([*words, "--one", method], capture_output=True, text=True, check=True)
            results[method].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{method}, seed {seed}: {results[method][-1]}", file=sys.stderr, flush=True)
    report(results, given.epochs)


def report(results: dict[str, list[dict[str, float]]], epochs: int) -> None:
    """Print the table and whether the marks are reached."""
    print(
        f"\n{epochs} epochs, n = {len(results['dropkit'])}; {cpu_name()}, {os.cpu_count()} cores; "
        f"torch {torch.__version__}"
    )
    print(f"numpy {np.__version__}; load average {os.getloadavg()[0]:.1f}; {Path(__file__).name}")
    median = {m: statistics.median(row["seconds"] for row in rows) for m, rows in results.items()}
    accuracy = {m: statistics.mean(row["accuracy"] for row in rows) for m, rows in results.items()}
    print(f"precision of the last two: {pick_precision('auto', torch.device('cpu'))}")
    print("| script | seconds (median) | dropkit is faster by | test accuracy (mean) |\n|---|---|---|---|")
    for method in METHODS:
        ratio = median[method] / median["dropkit"]
        mark = "" if method not in LIMITS else f" (mark: {LIMITS[method]}x)"
        print(f"| {method} | {median[method]:.1f} | {ratio:.2f}x{mark} | {accuracy[method]:.4f} |")
    spread = accuracy["dropkit"] - max(accuracy["tutorial"], accuracy["better"])
    print(f"dropkit's accuracy less the better script's: {spread:+.4f} (mark: within {CLOSE})")


if __name__ == "__main__":
    main()
