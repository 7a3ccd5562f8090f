"""Figure 9: the test error against the rate, with n units a layer, and with the expected number that stay (7.3)."""

from dropkit.studies.recipes.recipe import Claim, Recipe, Row, percent
from dropkit.studies.recipes.srivastava2014 import mnist

RATES = (0.9, 0.7, 0.5, 0.3, 0.1, 0.0)  # of dropping; the paper's axis has 1 - p
EPOCHS = 100
RATE_OF_LEARNING = 0.005  # a quarter of the other recipes': with theirs p = 0.9 stayed near chance
FIXED = {"quick": (512, 512, 512), "paper": (2048, 2048, 2048)}
KEPT = {"quick": (64, 64, 128), "paper": (256, 256, 512)}  # pn of each layer
TOLD = {("n fixed", 0.9): percent(2.7), ("pn fixed", 0.9): percent(1.7)}  # in the text of section 7.3


def recipe(budget: str) -> Recipe:
    """Return the recipe of Figure 9, a and b."""
    widths: dict[str, dict[float, tuple[int, ...]]] = {
        "n fixed": dict.fromkeys(RATES, FIXED[budget]),
        "pn fixed": {rate: tuple(round(kept / (1 - rate)) for kept in KEPT[budget]) for rate in RATES},
    }
    rows = tuple(
        Row(
            name=f"{series}, p={rate:g}",
            config=mnist.training(
                f"mlp:{'-'.join(map(str, widths[series][rate]))}",
                f"fc={rate:g}" if rate else "none",
                epochs=EPOCHS,
                lr=RATE_OF_LEARNING,
                max_norm=mnist.MAX_NORM,
            ),
            paper=TOLD.get((series, rate)),
            series=series,
            x=rate,
        )
        for series in widths
        for rate in RATES
    )
    fixed, kept = ("-".join(map(str, layer[budget])) for layer in (FIXED, KEPT))
    return Recipe(
        paper="srivastava2014",
        table="figure-9",
        budget=budget,
        title="The rate, MNIST",
        where="Srivastava et al. 2014, Figure 9",
        rows=rows,
        pictures={"mnist": mnist.PICTURES[budget]},
        claims=(
            Claim("n fixed, p=0.5", "n fixed, p=0"),
            Claim("n fixed, p=0.5", "n fixed, p=0.9"),
            Claim("pn fixed, p=0.5", "pn fixed, p=0"),
            Claim("pn fixed, p=0.9", "n fixed, p=0.9"),
        ),
        why=mnist.why(budget),
        differences=(
            f"n fixed: three hidden layers {fixed} (the paper's: 2048-2048-2048). pn fixed: as many units that "
            f"{kept} stay in expectation (the paper's: 256-256-512).",
            "The axis is the rate of dropping p; the paper's is that of keeping. The paper gives curves, and the "
            "figures of p = 0.9 in its text.",
            "Nothing is dropped at the input, as in the paper.",
            f"The learning rate begins at {RATE_OF_LEARNING:g} for every row: with the other recipes' 0.02, and 2,000 "
            f"pictures, p = 0.9 stayed near chance.",
            *mnist.differences(budget, f"{EPOCHS} epochs at every rate"),
        ),
        axis="rate p of hidden units",
    )
