"""Figure 8: with dropout, the activations of hidden units become sparse (section 7.2)."""

from dropkit.studies.recipes.recipe import Claim, Measure, PaperValue, Recipe, Row
from dropkit.studies.recipes.srivastava2014 import mnist

NETWORK = "mlp:256"
DROPOUT = "fc=0.5"
EPOCHS = {"quick": 40, "paper": 100}
ARMS = {"no dropout": ("none", 2.0), "dropout": (DROPOUT, 0.7)}


def recipe(budget: str) -> Recipe:
    """Return the recipe of Figure 8."""
    epochs = EPOCHS[budget]
    configs = {arm: mnist.training(NETWORK, policy, epochs=epochs) for arm, (policy, _) in ARMS.items()}
    means = tuple(
        Row(
            name=f"mean activation, {arm}",
            config=configs[arm],
            measure=Measure("activation"),
            paper=PaperValue(value, about=True),
            series=arm,
        )
        for arm, (_, value) in ARMS.items()
    )
    zeros = tuple(Row(name=f"zeros, {arm}", config=configs[arm], measure=Measure("zeros"), series=arm) for arm in ARMS)
    return Recipe(
        paper="srivastava2014",
        table="figure-8",
        budget=budget,
        title="Dropout makes activations sparse, MNIST",
        where="Srivastava et al. 2014, Figure 8",
        rows=(*means, *zeros),
        pictures={"mnist": mnist.PICTURES[budget]},
        claims=(
            Claim("mean activation, dropout", "mean activation, no dropout"),
            Claim("zeros, no dropout", "zeros, dropout"),
        ),
        why="with a classifier in the place of an autoencoder",
        differences=(
            "The hidden layer of 256 ReLU units is a classifier's; the paper's is an autoencoder's, so that only the "
            "direction can be compared, not the figures, which the paper gives in words.",
            "Activations are measured on 2,000 test pictures, without dropout.",
            *mnist.differences(budget, f"{epochs} epochs"),
        ),
        seeds=5,
    )
