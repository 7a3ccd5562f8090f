"""Synthetic records: made by a seeded generator, shaped as those of a real study, measured on nothing."""

import math
import random
from typing import Any

POLICIES = ("none", "fc=0.5", "input=0.1,conv[0]=0.25,conv[1]=0.25,fc=0.5")
CONFIG = {
    "data": "digits",
    "model": "cnn",
    "epochs": None,
    "batch_size": 128,
    "optimizer": "adam",
    "lr": 0.001,
}
ENVIRONMENT = {
    "python": "3.12.1",
    "torch": "2.13.0",
    "dropkit": "0.1.0",
    "cpu": "synthetic",
    "cores": 2,
    "device": "cpu",
}
DATA = {
    "name": "digits",
    "pictures": 1797,
    "classes": 10,
    "train": 1077,
    "val": 360,
    "test": 360,
    "shape": [1, 8, 8],
}


def epochs(rng: random.Random, strength: float, count: int) -> list[dict[str, Any]]:
    """A training that overfits the more, the less `strength` (0 to 1) its dropout has."""
    rows = []
    luck = rng.gauss(1, 0.09)  # what sets one seed apart from another
    for epoch in range(1, count + 1):
        fall = math.exp(-epoch / (2.5 + 3 * strength))
        train = 2.2 * fall + 0.01 + 0.05 * strength + rng.gauss(0, 0.006)
        gap = (
            luck * (0.34 - 0.22 * strength) * (1 - fall)
            + luck * (0.016 - 0.012 * strength) * epoch
            + rng.gauss(0, 0.012)
        )
        rows.append(
            {
                "epoch": epoch,
                "step": 9 * epoch,
                "train_loss": max(train, 0.002),
                "val_loss": max(train, 0.002) + max(gap, 0.0),
                "train_error": max(0.8 * fall + 0.004 * strength + rng.gauss(0, 0.002), 0.0),
                "val_error": 0.8 * fall + luck * (0.10 - 0.035 * strength) + rng.gauss(0, 0.006),
                "images_per_second": 21000.0,
                "seconds": 0.05,
            }
        )
    return rows


def run(policy: str, seed: int, strength: float) -> dict[str, Any]:
    rng = random.Random(f"{policy}/{seed}")
    rows = epochs(rng, strength, rng.randint(20, 26) + round(14 * strength))
    best = min(rows, key=lambda row: row["val_loss"])
    validation = {"error": best["val_error"], "nll": best["val_loss"], "ece": 0.02 + 0.02 * (1 - strength)}
    train = {"error": best["train_error"], "nll": best["train_loss"], "ece": 0.01}
    return {
        "policy": policy,
        "seed": seed,
        "folder": f"runs/digits-cnn-{policy}-seed{seed}",
        "status": "finished",
        "summary": {
            "best_epoch": best["epoch"],
            "epochs": len(rows),
            "test": validation,
            "val": validation,
            "train": train,
            "gap": best["val_loss"] - best["train_loss"],
            "seconds": 1.9 * len(rows),
        },
        "epochs": rows,
    }


def header(kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "dropkit": "0.1.0",
        "data": dict(DATA),
        "config": dict(CONFIG),
        "environment": dict(ENVIRONMENT),
        "command": "dropkit compare digits --policies none fc=0.5",
        "seconds": 812.3,
    }


def verdict(kind: str, sentence: str, difference: float | None, p: float = 0.0021) -> dict[str, Any]:
    known = difference is not None
    return {
        "kind": kind,
        "sentence": sentence,
        "difference": difference,
        "low": difference - 0.011 if known else None,
        "high": difference + 0.011 if known else None,
        "p_value": p if known else None,
        "p_holm": 2 * p if known else None,
        "from_seeds": 0.38 if known else None,
        "from_pictures": 0.62 if known else None,
    }


def metric(mean: float, half: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "unit": "fraction"}


def policy(name: str, runs: list[dict[str, Any]], judged: dict[str, Any] | None) -> dict[str, Any]:
    summaries = [run["summary"] for run in runs]

    def mean(key: str) -> float:
        return sum(summary["test"][key] for summary in summaries) / len(summaries)

    return {
        "name": name,
        "n": len(runs),
        "diverged": 0,
        "metrics": {
            "error": metric(mean("error"), 0.009),
            "balanced_error": metric(mean("error") + 0.004, 0.011),
            "train_loss": metric(sum(summary["train"]["nll"] for summary in summaries) / len(summaries), 0.004),
            "train_error": metric(sum(summary["train"]["error"] for summary in summaries) / len(summaries), 0.001),
            "nll": metric(mean("nll"), 0.03),
            "ece": metric(mean("ece"), 0.006),
            "gap": metric(sum(summary["gap"] for summary in summaries) / len(summaries), 0.025),
        },
        "best_epoch": [summary["best_epoch"] for summary in summaries],
        "epochs": [summary["epochs"] for summary in summaries],
        "budget": 200,
        "verdict": judged,
    }


def study(seeds: int = 5, names: tuple[str, ...] = POLICIES) -> dict[str, Any]:
    """A study of three policies: the first without dropout, the second weak, the third strong."""
    strengths = (0.0, 0.45, 1.0)
    runs = [run(name, seed, strengths[i]) for i, name in enumerate(names) for seed in range(seeds)]
    judged = [
        None,
        verdict("none", f"{names[1]} makes no difference that these 5 seeds could show.", -0.0091, 0.0934),
        verdict("helps", f"{names[2]} lowers the test error, and the interval leaves out zero.", -0.0312),
    ]
    policies = [
        policy(name, [r for r in runs if r["policy"] == name], verdict)
        for name, verdict in zip(names, judged, strict=True)
    ]
    return {
        **header("study"),
        "question": "compare",
        "metric": "error",
        "seeds": list(range(seeds)),
        "policies": policies,
        "recommendation": {
            "policy": names[2],
            "sentence": "Train with dropout after every stage: it lowers the test error and narrows the gap.",
            "command": f"dropkit train digits --dropout '{names[2]}'",
        },
        "verdict": "Dropout pays here: dropped after every stage, it cuts the test error by 3.1 percentage "
        "points. The 95 % interval, 2.0 to 4.2 points, leaves out zero. Dropout in the fully connected layer "
        "alone makes no difference that five seeds could show.",
        "runs": runs,
    }


def sweep() -> dict[str, Any]:
    """A sweep of nine rates: the gap falls and the training loss climbs; the best validation loss is between."""
    rates = [step / 10 for step in range(9)]
    names = tuple(f"fc={rate:g}" for rate in rates)
    runs = [run(name, seed, 1.2 * rate) for name, rate in zip(names, rates, strict=True) for seed in range(3)]
    judged = [None, *(verdict("none", f"{name} makes no difference.", -0.01 * i) for i, name in enumerate(names[1:]))]
    policies = [
        policy(name, [r for r in runs if r["policy"] == name], found) for name, found in zip(names, judged, strict=True)
    ]
    for row, rate in zip(policies, rates, strict=True):
        train, gap, error = 0.05 + 0.6 * rate**3, 0.4 - 0.42 * rate, 0.1 - 0.1 * rate + 0.18 * rate**3
        row["rate"] = rate
        row["metrics"].update(
            train_loss=metric(train, 0.01),
            gap=metric(gap, 0.02),
            nll=metric(train + gap, 0.02),
            error=metric(error, 0.006),
        )
        for one in runs:
            if one["policy"] == row["name"]:
                one["summary"]["val"]["nll"] = train + gap + 0.001 * one["seed"]
    return {
        **header("study"),
        "question": "compare",
        "metric": "error",
        "seeds": [0, 1, 2],
        "policies": policies,
        "runs": runs,
        "verdict": "A rate of 0.5 at fc has the lowest validation loss. Higher rates underfit.",
        "sweep": {
            "text": "fc=0:0.8:0.1",
            "site": "fc",
            "kind": "unit",
            "lowest": {"policy": "fc=0.5", "rate": 0.5},
            "overfits_below": 0.2,
            "underfits_above": 0.7,
            "sentence": "The validation loss is lowest at fc=0.5; below it overfits, above it underfits.",
        },
    }


def trial(number: int, params: dict[str, Any], status: str, length: int) -> dict[str, Any]:
    """A trial whose loss is lowest near conv=channel:0.15,fc=0.45; without dropout it climbs after its best epoch."""
    rng = random.Random(f"trial/{number}")
    conv, fc = params["conv"], params["fc"]
    kind = {"unit": "", "channel": "channel:", "dropblock": "dropblock:"}[params["conv kind"]]
    items = [*([f"conv={kind}{conv:g}"] if conv else []), *([f"fc={fc:g}"] if fc else [])]
    best = 0.36 + 1.1 * (conv - 0.15) ** 2 + 0.4 * (fc - 0.45) ** 2 + (0 if kind == "channel:" else 0.05 * conv)
    climb = 0.006 * max(0.45 - fc - conv, 0.0)
    curve = [
        best + 1.9 * math.exp(-epoch / (2.5 + 3 * fc)) + climb * epoch + rng.gauss(0, 0.008)
        for epoch in range(1, length + 1)
    ]
    loss = min(curve)
    gap = 0.2 - 0.3 * fc - 0.2 * conv + rng.gauss(0, 0.01)
    return {
        "number": number,
        "policy": ",".join(items) or "none",
        "params": params,
        "status": status,
        "epochs": length,
        "seconds": 0.37 * length,
        "best_epoch": curve.index(loss) + 1,
        "val_loss": loss,
        "val_error": 0.38 * loss,
        "train_loss": loss - gap,
        "gap": gap,
        "curve": curve,
    }


def trials(count: int = 30) -> list[dict[str, Any]]:
    """The two references, which are trained to the end, and generations of nine, thinned out at epochs 5 and 14."""
    rng = random.Random("trials")
    plain = {"conv": 0.0, "conv kind": "unit", "fc": 0.0, "weight_decay": 0.0}
    made = [trial(0, plain, "finished", 40), trial(1, {**plain, "fc": 0.5}, "finished", 40)]
    for number in range(2, count):
        params = {
            "conv": round(0.05 * rng.randint(0, 10), 2),
            "conv kind": rng.choice(["unit", "channel", "dropblock"]),
            "fc": round(0.05 * rng.randint(0, 16), 2),
            "weight_decay": rng.choice([0.0, 1e-5, 1e-4, 1e-3]),
        }
        place = (number - 2) % 9
        if number == 12:
            params |= {"conv": 0.15, "conv kind": "channel", "fc": 0.45}
        length = 40 if place == 1 else 14 if place in (3, 7) else 5
        made.append(trial(number, params, "finished" if length == 40 else "stopped", length))
    return made


def response(site: str, best: float, most: float, others: str) -> dict[str, Any]:
    """The bands of a Gaussian process that saw little at high rates."""
    rates = [round(0.05 * step, 2) for step in range(round(most / 0.05) + 1)]
    loss = [0.36 + 0.7 * (rate - best) ** 2 for rate in rates]
    gap = [0.1 - 0.2 * rate for rate in rates]
    half = [0.012 + 0.03 * rate for rate in rates]

    def band(means: list[float]) -> dict[str, list[float]]:
        low, high = ([m + sign * h for m, h in zip(means, half, strict=True)] for sign in (-1, 1))
        return {"mean": means, "low": low, "high": high}

    kind = {"conv": "channel", "fc": "unit"}[site]
    return {"site": site, "kind": kind, "others": others, "rates": rates, "loss": band(loss), "gap": band(gap)}


def search() -> dict[str, Any]:
    """A study that was searched for before: thirty trials, three finalists, the chosen one confirmed."""
    chosen, tried = "conv=channel:0.15,fc=0.45", trials()
    finalists = [
        {"number": one["number"], "policy": one["policy"], "loss": one["val_loss"]}
        for one in sorted((tried[number] for number in (12, 3, 21)), key=lambda one: float(one["val_loss"]))
    ]
    shares = (("fc rate", 0.55, 0.31, 0.79), ("conv rate", 0.22, 0.08, 0.41), ("conv kind", 0.06, 0.01, 0.17))
    found = {
        "sentence": f"Of 30 policies tried on validation loss, {chosen} was best.",
        "epochs": 40,
        "rungs": [5, 14],
        "space": {
            "sites": {
                "conv": {"kinds": ["unit", "channel", "dropblock"], "most": 0.5},
                "fc": {"kinds": ["unit"], "most": 0.8},
            },
            "step": 0.05,
            "weight_decays": [0.0, 1e-5, 1e-4, 1e-3],
        },
        "trials": tried,
        "finalists": finalists,
        "chosen": next(one for one in finalists if one["number"] == 12),
        "response": [response("conv", 0.15, 0.5, "fc=0.45"), response("fc", 0.45, 0.8, "conv=channel:0.15")],
        "importance": [
            *({"name": name, "share": share, "low": low, "high": high} for name, share, low, high in shares),
            {"name": "weight decay", "share": 0.02, "low": 0.0, "high": 0.09},
        ],
        "spent": {"trainings": 33, "epochs": 499, "seconds": 184.2},
        "whole": {"epochs": 1200, "seconds": 440.0},
        "saved": 0.58,
        "storage": "sqlite:///trials.db",
        "use": {"policy": chosen, "why": "best in the search, but not shown to help"},
        "train": f"dropkit train pets --dropout {chosen}",
        "python": f'import dropkit, torch\nmodel = ...  # your network\ndropkit.insert(model, "{chosen}", example)',
    }
    return {**study(names=("none", "fc=0.5", chosen)), "question": "tune", "search": found}


def single_run() -> dict[str, Any]:
    """The record of one run, as its own page gets it."""
    record = run("fc=0.5", 3, 0.45)
    return {**header("run"), "command": "dropkit train digits", **record}
