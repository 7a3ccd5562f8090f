"""Figures of where-and-how-much.md that redraw what results.md reports: its tables are read, so that both agree."""

import re
from typing import Any

import plotly.graph_objects as go
from sources import look
from sources.figure import GUIDE, Figure

RESULTS = GUIDE.parent / "results.md"
NUMBER = r"-?\d+(?:\.\d+)?"


def section(title: str) -> str:
    """Return the text of a section of results.md."""
    found = re.search(rf"^## {re.escape(title)}\n((?:(?!## ).*\n)*)", RESULTS.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"docs/results.md has no section {title!r}: the guide's figures read its tables")
    return found[1]


def rows(text: str, first: str) -> list[list[str]]:
    """Return the cells of the Markdown table whose first line begins with `first`, without its head's dashes."""
    lines = text[text.index(f"| {first}") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|---")]


# ------------------------------------------------------------------------------------------ one seed


def measure_single_seeds() -> dict[str, Any]:
    """Differences of five single seeds, and the intervals of five and of sixteen."""
    text = section("Fashion-MNIST, 2,000 training pictures")
    head, *lines = rows(text, "seed |")
    words = " ".join(text.split())
    policies = {}
    for line in lines:
        name = line[0].removesuffix(" less none")
        sentences = [
            match.groupdict()
            for match in re.finditer(
                rf"(?<!,){re.escape(name)} helps[^%]*?(?:changes by|falls by) (?P<value>{NUMBER}) points "
                rf"\(95% interval (?P<low>{NUMBER}) to (?P<high>{NUMBER})",
                words,
            )
        ]
        five, sixteen = ({key: float(value) for key, value in found.items()} for found in sentences)
        if sixteen["value"] > 0:  # "falls by": told without its sign
            sixteen = {"value": -sixteen["value"], "low": -sixteen["high"], "high": -sixteen["low"]}
        policies[name] = {"seeds": [float(cell) for cell in line[1:]], "five": five, "sixteen": sixteen}
    return {"seeds": len(head) - 1, "policies": policies}


def draw_single_seeds(values: dict[str, Any]) -> go.Figure:
    """Each seed's difference as a ring; means of five and sixteen with their intervals."""
    figure = look.plain(300, "test error less that of none, percentage points", "", top=14)
    for row, policy in enumerate(values["policies"].values()):
        ring = {"size": 10, "color": look.NONE, "symbol": "circle-open", "line": {"width": 2}}
        figure.add_scatter(
            x=policy["seeds"],
            y=[3 * row] * values["seeds"],
            mode="markers",
            marker=ring,
            name="one seed",
            showlegend=row == 0,
        )
        for place, (kind, words, colour) in enumerate(
            (
                ("five", "mean of 5 seeds, 95% interval", look.OTHER),
                ("sixteen", "mean of 16 fresh seeds", look.DROPOUT),
            ),
            1,
        ):
            found = policy[kind]
            figure.add_scatter(
                x=[found["value"]],
                y=[3 * row + place * 0.7],
                error_x={
                    "array": look.rounded([found["high"] - found["value"]]),
                    "arrayminus": look.rounded([found["value"] - found["low"]]),
                    "thickness": 2,
                    "width": 5,
                },
                mode="markers",
                marker={"size": 10, "color": colour},
                name=words,
                showlegend=row == 0,
            )
    figure.add_vline(x=0, line={"color": look.INK, "width": 1.5})
    names = list(values["policies"])
    figure.update_yaxes(tickvals=[3 * row + 0.7 for row in range(len(names))], ticktext=names, autorange="reversed")
    figure.update_xaxes(range=[-2.1, 2.9])
    look.legend(figure, 0.99, 0.98)
    return figure


def quote_single_seeds(values: dict[str, Any]) -> str:
    """The range of single seeds, and what sixteen say."""
    parts = []
    for name, policy in values["policies"].items():
        found = policy["sixteen"]
        parts.append(
            f"`{name}`: single seeds say anything from {min(policy['seeds']):+.2f} to "
            f"{max(policy['seeds']):+.2f} points, sixteen {found['value']:+.1f} "
            f"[{found['low']:+.1f}, {found['high']:+.1f}]"
        )
    return f"*{'; '.join(parts)}.*"


# ------------------------------------------------------------------------------------------ the grid


def measure_grid() -> dict[str, Any]:
    """Test error and validation loss of 25 policies."""
    head, *lines = rows(section("A full grid of rates, 2,000 training pictures of Fashion-MNIST"), "conv")
    cells = [[re.findall(NUMBER, cell) for cell in line[1:]] for line in lines]
    return {
        "fc": [float(cell) for cell in head[1:]],
        "conv": [float(line[0]) for line in lines],
        "loss": [[float(cell[0]) for cell in line] for line in cells],
        "error": [[float(cell[2]) for cell in line] for line in cells],
        "error_half": [[float(cell[3]) for cell in line] for line in cells],
    }


def draw_grid(values: dict[str, Any]) -> go.Figure:
    """Errors as a heat map with its numbers."""
    figure = look.plain(380, "rate after the fully connected layer", "rate after each convolution stage", top=12)
    text = [
        [f"{error:.1f}<br>±{half:.1f}" for error, half in zip(*line, strict=True)]
        for line in zip(values["error"], values["error_half"], strict=True)
    ]
    heat = go.Heatmap(
        x=[f"{rate:g}" for rate in values["fc"]],
        y=[f"{rate:g}" for rate in values["conv"]],
        z=values["error"],
        text=text,
        texttemplate="%{text}",
        colorscale=[[0, "#dcebf5"], [0.3, "#9cc4df"], [1, "#d98b4f"]],
        colorbar={
            "title": {"text": "test error (%)", "side": "right", "font": {"size": 12.5}},
            "thickness": 14,
            "outlinewidth": 0,
        },
        xgap=2,
        ygap=2,
    )
    figure.add_trace(heat)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    return figure


def quote_grid(values: dict[str, Any]) -> str:
    """How many cells cannot be told apart."""
    errors = sorted(error for line in values["error"] for error in line)
    near = max(sum(low <= error <= low + 1 for error in errors) for low in errors)
    worst = max(errors)
    return (
        f"*Test error in % of {len(errors)} policies, n = 3 seeds each with 95% t intervals; {near} of the "
        f"{len(errors)} means lie within one point of each other, between {errors[0]} and {worst}%.*"
    )


# ------------------------------------------------------------------------------------------ kinds on CIFAR-10


def measure_kinds() -> dict[str, Any]:
    """Test error of five policies."""
    text = section("Kinds of dropout on CIFAR-10")
    lines = re.findall(rf"^(\S+) +(\d+) +({NUMBER})% ±({NUMBER})", text, re.MULTILINE)
    return {"policies": [{"name": n, "n": int(k), "error": float(e), "half": float(h)} for n, k, e, h in lines]}


def draw_kinds(values: dict[str, Any]) -> go.Figure:
    """A point with its interval for each policy."""
    figure = look.plain(270, "test error (%), mean of 3 seeds with its 95% t interval", "", top=12)
    for index, policy in enumerate(values["policies"]):
        figure.add_scatter(
            x=[policy["error"]],
            y=[policy["name"]],
            error_x={"array": [policy["half"]], "thickness": 2, "width": 5},
            mode="markers",
            marker={"size": 11, "color": look.NONE if index == 0 else look.DROPOUT},
        )
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def quote_kinds(values: dict[str, Any]) -> str:
    """The policies' errors in a sentence."""
    parts = [f"`{row['name']}` {row['error']}% ±{row['half']}" for row in values["policies"]]
    return f"*CIFAR-10, 10,000 training pictures, `bn-cnn`, n = {values['policies'][0]['n']}: {', '.join(parts)}.*"


CHAPTER = "where-and-how-much.md"
FIGURES = [
    Figure("single-seeds", CHAPTER, measure_single_seeds, draw_single_seeds, quote_single_seeds),
    Figure("rate-grid", CHAPTER, measure_grid, draw_grid, quote_grid),
    Figure("cifar-kinds", CHAPTER, measure_kinds, draw_kinds, quote_kinds),
]
