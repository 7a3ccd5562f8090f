"""Synthetic details of a record: predictions drawn by a seeded generator, pictures drawn by Pillow."""

import base64
import io
import random
from typing import Any

from PIL import Image, ImageDraw

BINS = 10


def png(size: tuple[int, int], seed: object, text: str = "") -> str:
    """A small grey picture as a data URI: noise, and a text over it."""
    rng = random.Random(f"png/{seed}")
    picture = Image.frombytes("L", size, bytes(rng.randrange(70) for _ in range(size[0] * size[1])))
    if text:
        ImageDraw.Draw(picture).text((size[0] / 2, size[1] / 2), text[:3], fill=230, anchor="mm")
    data = io.BytesIO()
    picture.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def filters(name: str, shape: tuple[int, int, int, int] = (32, 1, 3, 3)) -> dict[str, Any]:
    count, _, height, width = shape
    rng = random.Random(f"filters/{name}")
    grid = Image.new("LA", (8 * (width + 1) - 1, -(-count // 8) * (height + 1) - 1))  # transparent between the filters
    for index in range(count):
        weights = Image.frombytes("L", (width, height), bytes(rng.randrange(256) for _ in range(width * height)))
        grid.paste(weights.convert("LA"), (index % 8 * (width + 1), index // 8 * (height + 1)))
    data = io.BytesIO()
    grid.save(data, "PNG")
    image = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    return {"layer": "conv1", "shape": list(shape), "shown": count, "columns": 8, "seed": 3, "image": image}


def confusion(rng: random.Random, support: list[int], runs: int, strength: float) -> list[list[int]]:
    """Counts over all runs: each class is mostly right, and what is wrong falls on a few neighbours."""
    classes = len(support)
    rows = []
    for true, n in enumerate(support):
        right = 0.86 + 0.07 * strength + rng.uniform(-0.08, 0.05) if true % 7 != 3 else 0.58 + 0.16 * strength
        row = [0] * classes
        for _ in range(n * runs):
            step = 0 if rng.random() < right else rng.choice((1, 1, 1, 2, -1, 5))
            row[(true + step) % classes] += 1
        rows.append(row)
    return rows


def recall(matrix: list[list[int]], runs: int) -> list[dict[str, Any] | None]:
    found: list[dict[str, Any] | None] = []
    for true, row in enumerate(matrix):
        mean = row[true] / sum(row) if sum(row) else None
        half = 0.03 if runs > 1 else None
        low, high = (None, None) if mean is None or half is None else (mean - half, min(mean + half, 1.0))
        found.append(None if mean is None else {"mean": mean, "low": low, "high": high})
    return found


def calibration(rng: random.Random, n: int, strength: float) -> dict[str, Any]:
    """The more dropout, the nearer to the diagonal; the lowest bin is empty, as of ten classes it must be."""
    shares = [0, 0.004, 0.008, 0.014, 0.02, 0.028, 0.036, 0.05, 0.09]
    count = [round(share * n) for share in shares]
    count.append(n - sum(count))
    confidence = [(i + 0.5) / BINS + rng.uniform(-0.01, 0.01) if c else None for i, c in enumerate(count)]
    confidence[-1] = 0.985
    accuracy = [None if c is None else max(c - (0.16 - 0.12 * strength) * (1.1 - c), 0.0) for c in confidence]
    ece = sum(k * abs(c - a) for k, c, a in zip(count, confidence, accuracy, strict=True) if c is not None) / n
    edges = [i / BINS for i in range(BINS + 1)]
    return {"edges": edges, "confidence": confidence, "accuracy": accuracy, "count": count, "ece": ece}


def policy(name: str, classes: list[str], runs: int, strength: float, support: list[int]) -> dict[str, Any]:
    rng = random.Random(f"details/{name}")
    matrix = confusion(rng, support, runs, strength)
    n = runs * sum(support)
    return {
        "name": name,
        "runs": runs,
        "n": n,
        "support": support,
        "confusion": matrix,
        "recall": recall(matrix, runs),
        "calibration": calibration(rng, n, strength),
        "filters": filters(name),
    }


def mistakes(classes: list[str], count: int) -> list[dict[str, Any]]:
    rng = random.Random("mistakes")
    found = []
    for place in range(count):
        true = rng.randrange(len(classes))
        found.append(
            {
                "id": f"{classes[true]}/picture_{place:03d}.png",
                "image": png((29, 29), place, classes[true]),
                "true": true,
                "predicted": (true + 1) % len(classes),
                "confidence": 0.99997 - 0.011 * place,
            }
        )
    return found


def changes(classes: list[str], count: int, *, fixed: bool) -> list[dict[str, Any]]:
    found = []
    for row in mistakes(classes, count):
        wrong = {"predicted": row["predicted"], "confidence": row.pop("confidence") - 0.2}
        right = {"predicted": row["true"], "confidence": 0.71}
        del row["predicted"]
        before, after = (wrong, right) if fixed else (right, wrong)
        found.append({**row, "before": before, "after": after})
    return found


def details(names: tuple[str, ...], classes: list[str], runs: int, support: list[int] | None = None) -> dict[str, Any]:
    """Details of the policies, the first without dropout, the last with the most."""
    support = support or [(29, 31, 37, 41, 43)[index % 5] for index in range(len(classes))]
    strengths = [index / max(len(names) - 1, 1) for index in range(len(names))]
    single = len(names) == 1
    return {
        "classes": classes,
        "policies": [policy(name, classes, runs, s, support) for name, s in zip(names, strengths, strict=True)],
        "pictures": {
            "policy": names[-1],
            "against": None if single else names[0],
            "runs": runs,
            "n": sum(support),
            "mistakes": mistakes(classes, 12),
            "fixed": [] if single else changes(classes, 11, fixed=True),
            "broken": [] if single else changes(classes, 5, fixed=False),
            "counts": {"mistakes": 23, "fixed": 0 if single else 17, "broken": 0 if single else 5},
        },
    }


def uncertainty(samples: int = 20, classes: int = 4) -> dict[str, Any]:
    """What `dropkit uncertainty` measured of a run, with another data set."""
    rng = random.Random("uncertainty")

    def method(way: str, scaled: bool, temperature: float) -> dict[str, Any]:
        figures = {name: rng.uniform(0.01, 0.4) for name in ("error", "nll", "brier", "ece", "ece_mass", "aurc")}
        return {"way": way, "scaled": scaled, "temperature": temperature if scaled else 1.0, **figures}

    diagram = {
        "edges": [i / BINS for i in range(BINS + 1)],
        "confidence": [None, None, *(0.05 + i / BINS for i in range(2, BINS))],
        "accuracy": [None, None, *(i / BINS for i in range(2, BINS))],
        "count": [0, 0, *(7 * i for i in range(2, BINS))],
        "ece": 0.05,
    }
    curve = {"coverage": [0.1, 0.5, 1.0], "risk": [0.0, 0.05, 0.2]}
    scales = {"single": 1.31, "average": 0.87}
    return {
        "kind": "uncertainty",
        "samples": samples,
        "test": 308,
        "validation": 97,
        "temperature": scales,
        "methods": [method(way, scaled, scales[way]) for way in scales for scaled in (False, True)],
        "averages": [
            {"k": k, "groups": samples // k, "error": 0.2 + 0.1 / k, "nll": 0.6 + 0.2 / k}
            | ({"error_se": 0.01, "nll_se": 0.02} if k < samples else {"error_se": None, "nll_se": None})
            for k in (1, 2, 5, 10, samples)
        ],
        "reliability": {way: {"before": diagram, "after": diagram} for way in scales},
        "risk_coverage": dict.fromkeys(scales, curve),
        "ood": {
            "name": "noise",
            "pictures": 61,
            "of": 89,
            "auroc": {"single_entropy": 0.81, "entropy": 0.86, "mutual_information": 0.93},
            "edges": [0.0, 0.5, 1.0, 1.386],
            "histograms": {
                signal: {"test": [200, 80, 28], "ood": [1, 20, 40]} for signal in ("single_entropy", "entropy")
            },
        },
        "notes": [],
        "seconds": 3.1,
    }


def predictions(classes: list[str], surest: int = 5, unsure: int = 7) -> dict[str, Any]:
    """The record of a gallery of predictions; those of the least sure are missing where there are few."""

    def row(place: int, share: float) -> dict[str, Any]:
        return {
            "picture": f"pictures/{place:03}.png",
            "class": classes[place % len(classes)],
            "probability": 1 - 0.6 * share,
            "interval": [0.9 - 0.8 * share, 1.0],
            "std": 0.3 * share,
            "entropy": 1.2 * share,
            "mutual_information": 0.5 * share,
            "image": png((28, 28), place),
        }

    count = surest + unsure
    rows = [row(place, place / count) for place in range(count)]
    return {
        "kind": "predictions",
        "dropkit": "0.1.0",
        "network": {"data": "animals", "policy": "fc=0.5", "model": "cnn", "seed": 3, "run": "runs/a"},
        "samples": 20,
        "level": 0.95,
        "of_classes": len(classes),
        "read": count if not unsure else 1000,
        "errors": 2,
        "classes": dict.fromkeys(classes, 250),
        "surest": rows[:surest],
        "unsure": rows[surest:],
        "seconds": 12.0,
    }
