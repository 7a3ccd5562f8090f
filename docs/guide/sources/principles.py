"""Figures of what-dropout-does.md: masks, the spread that they make, their average, and what training pays for it."""

from typing import Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from sources import look
from sources.digits import SEEDS, digits, error, for_each, loss, train, tutorial_network
from sources.figure import Figure, change, table, with_interval

import dropkit

TRAIN, STEPS, RATE = 300, 1500, 0.5
EVERY = 50
DRAWS, SHOWN = 2000, 3
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200)


def trained_network(rate: float, seed: int) -> torch.nn.Module:
    """Return the tutorial's network after STEPS on TRAIN digits, in eval mode."""
    torch.manual_seed(seed)
    learn, _, _ = digits(TRAIN, seed)
    return train(tutorial_network(rate), learn, STEPS).eval()


# ------------------------------------------------------------------------------------------ masks


def measure_thinned() -> dict[str, Any]:
    """The hidden activations of one test digit in the whole network and in thinned ones, and what each answers."""
    network, (pictures, labels) = trained_network(RATE, 0), digits(TRAIN, 0)[2]
    seen: list[torch.Tensor] = []
    network.fc2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    with torch.no_grad():
        unsure = network(pictures).softmax(1).max(1).values.argmin()  # where masks matter most
        picture, seen[:] = pictures[unsure : unsure + 1], []
        answers = [network(picture).softmax(1)[0]]
        network.train()
        for step in range(SHOWN):
            with dropkit.keyed(network, seed=0, step=step):
                answers.append(network(picture).softmax(1)[0])
    return {
        "label": labels[unsure].item(),
        "activations": [units.tolist() for units in seen],
        "answers": [{"class": int(a.argmax()), "probability": float(a.max())} for a in answers],
    }


def draw_thinned(values: dict[str, Any]) -> go.Figure:
    """128 units as small squares, dropped ones orange."""
    names = ["the whole network (eval)", *(f"thinned network {i + 1}" for i in range(SHOWN))]
    titles = [
        f"{name}<br>says {answer['class']} ({answer['probability']:.0%})"
        for name, answer in zip(names, values["answers"], strict=True)
    ]
    figure = make_subplots(1, 1 + SHOWN, subplot_titles=titles, horizontal_spacing=0.03)
    whole, top = values["activations"][0], max(max(units) for units in values["activations"])
    for column, units in enumerate(values["activations"], start=1):
        gone = [None if column == 1 or u > 0 or w == 0 else 1 for u, w in zip(units, whole, strict=True)]
        for squares, colours in ((units, [[0, "#f2f3f4"], [1, "#0b3a5b"]]), (gone, [[0, look.DROPPED]] * 2)):
            rows = [squares[i : i + 8] for i in range(0, 128, 8)]
            heat = go.Heatmap(z=rows, zmin=0, zmax=top, colorscale=[[0, colours[0][1]], [1, colours[1][1]]])
            figure.add_trace(heat.update(showscale=False, xgap=1, ygap=1), 1, column)
    look.settle(figure, 360, 52)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, autorange="reversed")
    return figure


def quote_thinned(values: dict[str, Any]) -> str:
    """What is seen."""
    whole, *thinned = values["activations"]
    active = sum(unit > 0 for unit in whole)
    left = ", ".join(str(sum(unit > 0 for unit in units)) for units in thinned)
    return (
        f"*The 128 units after `fc1` for one test digit, a {values['label']}: the darker, the more active; pale ones "
        f"are 0 for this digit anyway. Of the {active} active units, {left} are left by the three masks at "
        f"p = {RATE}; orange is dropped.*"
    )


# ------------------------------------------------------------------------------------------ spread and scale


def measure_one_answer() -> dict[str, Any]:
    """The logit of a test digit's own class in many thinned networks, as training makes them and without the scale."""
    network, (pictures, labels) = trained_network(RATE, 0), digits(TRAIN, 0)[2]
    with torch.no_grad():
        whole = network(pictures)
        place = (whole.softmax(1).max(1).values - 0.9).abs().argmin()  # a digit of which it is fairly sure
        label = labels[place]
        logits = dropkit.sample(network, pictures[place : place + 1], n=DRAWS)[:, 0, label]
        bias = network.fc2.bias[label]
    kept = (logits - bias) * (1 - RATE) + bias  # the last layer is linear in what is dropped
    return {
        "label": label.item(),
        "draws": DRAWS,
        "eval": whole[place, label].item(),
        "mean": logits.mean().item(),
        "std": logits.std().item(),
        "unscaled_mean": kept.mean().item(),
        "scaled": _histogram(logits),
        "unscaled": _histogram(kept),
    }


def _histogram(values: torch.Tensor) -> dict[str, list[float]]:
    counts, edges = torch.histogram(values.float(), 60)
    return {"centres": ((edges[1:] + edges[:-1]) / 2).tolist(), "shares": (counts / counts.sum()).tolist()}


def draw_one_answer(values: dict[str, Any]) -> go.Figure:
    """Two histograms and the single pass."""
    figure = look.plain(
        320, f"logit of the class {values['label']}", "share of the thinned networks", barmode="overlay"
    )
    kinds = (("scaled", "kept units × 1/q, as training has it", look.DROPOUT), ("unscaled", "not scaled", look.OTHER))
    for kind, name, colour in kinds:
        places, shares = values[kind]["centres"], values[kind]["shares"]
        figure.add_bar(
            x=look.rounded(places),
            y=look.rounded(shares),
            marker={"color": colour, "opacity": 0.55, "line_width": 0},
            width=places[1] - places[0],
            name=name,
        )
    figure.add_vline(x=values["eval"], line={"color": look.INK, "width": 2, "dash": "dash"})
    look.say(figure, "eval()", values["eval"], 1.0, yref="paper", yanchor="bottom")
    look.legend(figure)
    return figure


def quote_one_answer(values: dict[str, Any]) -> str:
    """The two means."""
    return (
        f"*One test digit, {values['draws']:,} thinned networks. With the scale their mean is {values['mean']:.2f} "
        f"(standard deviation {values['std']:.2f}), where the single pass in eval mode gives {values['eval']:.2f}; "
        f"without it, {values['unscaled_mean']:.2f}.*"
    )


# ------------------------------------------------------------------------------------------ averages


def measure_averaging() -> dict[str, Any]:
    """Test error and loss of averages of k thinned networks, and of the single pass."""
    rows = for_each(_averages, [(seed,) for seed in SEEDS])
    return {"counts": list(COUNTS), "train": TRAIN, "test": 497, "seeds": rows}


def _averages(seed: int) -> dict[str, Any]:
    network, (pictures, labels) = trained_network(RATE, seed), digits(TRAIN, seed)[2]
    probabilities = dropkit.sample(network, pictures, n=max(COUNTS), seed=seed).softmax(2).double()
    means = {k: probabilities.view(-1, k, *probabilities.shape[1:]).mean(1) for k in COUNTS}
    wrong = {k: (mean.argmax(2) != labels).double().mean().item() for k, mean in means.items()}
    own = {k: -mean.log()[:, torch.arange(len(labels)), labels].mean().item() for k, mean in means.items()}
    return {
        "error": [wrong[k] for k in COUNTS],
        "loss": [own[k] for k in COUNTS],
        "single_error": error(network, (pictures, labels)),
        "single_loss": loss(network, (pictures, labels)),
    }


def draw_averaging(values: dict[str, Any]) -> go.Figure:
    """Error and loss against the number of thinned networks."""
    figure = make_subplots(1, 2, subplot_titles=("test error (%)", "test loss (nats)"), horizontal_spacing=0.1)
    for column, (kind, scale) in enumerate((("error", 100), ("loss", 1)), start=1):
        by_count = [[scale * v for v in row] for row in zip(*(seed[kind] for seed in values["seeds"]), strict=True)]
        single = [[scale * seed[f"single_{kind}"] for seed in values["seeds"]]] * 2
        where = {"row": 1, "col": column}
        look.curve(figure, [1, values["counts"][-1]], single, look.NONE, "eval(), one pass", dash="dash", **where)
        look.points(figure, values["counts"], by_count, look.DROPOUT, "mean of k thinned networks", **where)
        figure.data[-1].showlegend = figure.data[-2].showlegend = column == 1
    look.settle(figure, 320, 40)
    figure.update_xaxes(type="log", tickvals=values["counts"], ticktext=[str(k) for k in values["counts"]])
    figure.update_xaxes(title_text="k, thinned networks averaged")
    look.legend(figure, 0.42, 0.97)
    return figure


def quote_averaging(values: dict[str, Any]) -> str:
    """A row for some counts and the difference to the single pass."""
    seeds = values["seeds"]
    rows = []
    for k in (1, 10, 50, 200):
        i = values["counts"].index(k)
        rows.append(
            [
                f"mean of {k}" if k > 1 else "one thinned network",
                with_interval([seed["error"][i] for seed in seeds], 100, 2, "%"),
                change([seed["error"][i] for seed in seeds], [seed["single_error"] for seed in seeds], 100),
                with_interval([seed["loss"][i] for seed in seeds], 1, 3),
            ]
        )
    single = with_interval([seed["single_error"] for seed in seeds], 100, 2, "%")
    rows.append(["`eval()`, one pass", single, "", with_interval([seed["single_loss"] for seed in seeds], 1, 3)])
    return table(["", "test error", "less that of the one pass, points", "test loss, nats"], rows)


# ------------------------------------------------------------------------------------------ what it costs


def measure_curves() -> dict[str, Any]:
    """Training and validation loss during training, without and with dropout."""
    rates = (0.0, RATE)
    found = for_each(_watched, [(rate, seed) for rate in rates for seed in SEEDS])
    half = len(SEEDS)
    return {"steps": list(range(EVERY, STEPS + 1, EVERY)), "train": TRAIN, "none": found[:half], "fc": found[half:]}


def _watched(rate: float, seed: int) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    learn, val, test = digits(TRAIN, seed)
    network, seen = tutorial_network(rate), {"train": [], "val": [], "test_error": []}

    def watch(step: int) -> None:
        if step % EVERY == 0:
            network.eval()
            seen["train"].append(loss(network, learn))
            seen["val"].append(loss(network, val))
            seen["test_error"].append(error(network, test))
            network.train()

    train(network, learn, STEPS, watch=watch)
    return seen


def _best(run: dict[str, list[float]]) -> int:
    return min(range(len(run["val"])), key=run["val"].__getitem__)


def draw_curves(values: dict[str, Any]) -> go.Figure:
    """Losses without and with dropout side by side."""
    titles = ("no dropout", f"fc={RATE}")
    figure = make_subplots(1, 2, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04)
    for column, (kind, colour) in enumerate((("none", look.NONE), ("fc", look.DROPOUT)), start=1):
        for part, dash, name in (("train", "dot", "training"), ("val", "solid", "validation")):
            seeds = list(zip(*(run[part] for run in values[kind]), strict=True))
            look.curve(figure, values["steps"], seeds, colour, name, dash=dash, row=1, col=column)
            figure.data[-1].showlegend = column == 1
    look.settle(figure, 330, 40)
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="loss (nats), in eval mode", type="log", dtick=1, row=1, col=1)
    look.legend(figure, 0.44, 0.97)
    return figure


def quote_curves(values: dict[str, Any]) -> str:
    """Losses, gap and the best step of both."""
    rows = []
    for kind, name in (("none", "none"), ("fc", f"fc={RATE}")):
        runs = values[kind]
        best = [_best(run) for run in runs]
        rows.append(
            [
                f"`{name}`",
                with_interval([values["steps"][i] for i in best], 1, 0),
                with_interval([run["val"][i] for run, i in zip(runs, best, strict=True)], 1, 3),
                with_interval([run["val"][i] - run["train"][i] for run, i in zip(runs, best, strict=True)], 1, 3),
                with_interval([run["test_error"][i] for run, i in zip(runs, best, strict=True)], 100, 2, "%"),
            ]
        )
    errors = [[run["test_error"][_best(run)] for run in values[kind]] for kind in ("fc", "none")]
    head = ["policy", "best step", "lowest validation loss", "gap there", "test error there"]
    losses = [[run["val"][_best(run)] for run in values[kind]] for kind in ("fc", "none")]
    gaps = [[run["val"][_best(run)] - run["train"][_best(run)] for run in values[kind]] for kind in ("fc", "none")]
    words = (
        f"The difference in test error, paired by seed, is {change(*errors, 100)} points; in the lowest validation "
        f"loss {change(*losses, digits=3)}, in the gap there {change(*gaps, digits=3)} nats."
    )
    return f"{table(head, rows)}\n\n{words}"


CHAPTER = "what-dropout-does.md"
FIGURES = [
    Figure("thinned-networks", CHAPTER, measure_thinned, draw_thinned, quote_thinned),
    Figure("one-answer", CHAPTER, measure_one_answer, draw_one_answer, quote_one_answer),
    Figure("averaging", CHAPTER, measure_averaging, draw_averaging, quote_averaging),
    Figure("learning-curves", CHAPTER, measure_curves, draw_curves, quote_curves),
]
