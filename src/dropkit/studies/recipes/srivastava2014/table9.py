"""Table 9: regularizers on MNIST, the network 784-1024-1024-2048-10 with ReLU (section 6.5)."""

from dropkit.studies.recipes.recipe import Claim, Recipe, Row, at_most, near_paper, percent
from dropkit.studies.recipes.srivastava2014 import mnist

NETWORK = "mlp:1024-1024-2048"
EPOCHS = {"quick": (30, 60), "paper": (40, 200)}  # without dropout, and with: it learns more slowly
DECAY = {"quick": (1e-3, 1e-4), "paper": (1e-4, 1e-5)}  # likewise


def recipe(budget: str) -> Recipe:
    """Return the recipe of Table 9."""
    short, long = EPOCHS[budget]
    plain, beside = DECAY[budget]
    rows = (
        Row(
            name="L2",
            config=mnist.training(NETWORK, "none", epochs=short, weight_decay=plain),
            paper=percent(1.62),
        ),
        Row(
            name="max-norm",
            config=mnist.training(NETWORK, "none", epochs=short, max_norm=mnist.MAX_NORM),
            paper=percent(1.35),
        ),
        Row(
            name="dropout + L2",
            config=mnist.training(NETWORK, mnist.RATES, epochs=long, weight_decay=beside),
            paper=percent(1.25),
        ),
        Row(
            name="dropout + max-norm",
            config=mnist.training(NETWORK, mnist.RATES, epochs=long, max_norm=mnist.MAX_NORM),
            paper=percent(1.05),
        ),
    )
    return Recipe(
        paper="srivastava2014",
        table="table-9",
        budget=budget,
        title="Regularizers on MNIST",
        where="Srivastava et al. 2014, Table 9",
        rows=rows,
        pictures={"mnist": mnist.PICTURES[budget]},
        claims=(
            Claim("dropout + max-norm", "dropout + L2"),
            Claim("dropout + max-norm", "max-norm"),
            Claim("dropout + L2", "L2"),
            Claim("max-norm", "L2"),
        ),
        why=mnist.why(budget),
        differences=(
            "The paper's rows L2 + L1 (1.60%) and L2 + KL-sparsity (1.55%) are left out: dropkit has neither penalty.",
            *mnist.differences(budget, f"{short} epochs without dropout and {long} with it"),
            f"The L2 penalties, {plain:g} without dropout and {beside:g} with it, are ours: the paper gives none. "
            f"Max-norm has the c = {mnist.MAX_NORM:g} of the paper's MNIST networks.",
        ),
        marks=(at_most("dropout + max-norm", 1.05), near_paper(rows, 0.15)) if budget == "paper" else (),
        seeds=3 if budget == "quick" else 5,
    )
