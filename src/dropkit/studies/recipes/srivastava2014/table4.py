"""Table 4: the convolutional network on CIFAR-10 without dropout, with it in two layers, and with it in all."""

from dropkit.studies.recipes.recipe import Claim, Recipe, Row, at_most, falling, percent
from dropkit.studies.recipes.srivastava2014 import cifar10

EPOCHS = {"quick": (12, 20, 50), "paper": (25, 60, 200)}  # each as long as it goes on getting better


def recipe(budget: str) -> Recipe:
    """Return the recipe of the column CIFAR-10 of Table 4."""
    none, some, every = EPOCHS[budget]
    rows = (
        Row(
            name="no dropout",
            config=cifar10.training(budget, "none", epochs=none),
            paper=percent(14.98),
        ),
        Row(
            name="fully connected layers",
            config=cifar10.training(budget, cifar10.FULLY_CONNECTED, epochs=some),
            paper=percent(14.32),
        ),
        Row(
            name="all layers",
            config=cifar10.training(budget, cifar10.ALL_LAYERS, epochs=every),
            paper=percent(12.61),
        ),
    )
    order = tuple(row.name for row in rows)
    return Recipe(
        paper="srivastava2014",
        table="table-4",
        budget=budget,
        title="Where to drop in a convolutional network, CIFAR-10",
        where="Srivastava et al. 2014, Table 4",
        rows=rows,
        pictures={"cifar10": cifar10.PICTURES[budget]},
        claims=(
            Claim("fully connected layers", "no dropout"),
            Claim("all layers", "fully connected layers"),
            Claim("all layers", "no dropout"),
        ),
        why=cifar10.why(budget),
        differences=(
            "The paper's figure without dropout, 14.98%, is that of another network, which Snoek et al. (2012) tuned; "
            "ours differs from the other rows in its dropout and the length of its training alone.",
            *cifar10.differences(
                budget,
                f"{none} epochs without dropout, {some} with it in the fully connected layers and {every} in all, each "
                f"about as long as it gets better",
            ),
        ),
        marks=(falling(*order), at_most("all layers", 12.61)) if budget == "paper" else (),
    )
