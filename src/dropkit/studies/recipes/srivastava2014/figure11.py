"""Figure 11: averages of k sampled networks against weight scaling, the single pass without dropout (section 7.5)."""

from dropkit.studies.recipes.recipe import Claim, Measure, Recipe, Row
from dropkit.studies.recipes.srivastava2014 import mnist

NETWORK = {"quick": "mlp:512-512", "paper": "mlp:1024-1024-2048"}
EPOCHS = {"quick": 60, "paper": 200}
DRAWS = (1, 2, 5, 10, 20, 50, 100)


def recipe(budget: str) -> Recipe:
    """Return the recipe of Figure 11."""
    epochs = EPOCHS[budget]
    config = mnist.training(NETWORK[budget], mnist.RATES, epochs=epochs, max_norm=mnist.MAX_NORM)
    averages = tuple(
        Row(name=f"average of {k}", config=config, measure=Measure("average", k), series="average of k", x=float(k))
        for k in DRAWS
    )
    return Recipe(
        paper="srivastava2014",
        table="figure-11",
        budget=budget,
        title="Averaging thinned networks against weight scaling, MNIST",
        where="Srivastava et al. 2014, Figure 11",
        rows=(Row(name="weight scaling", config=config), *averages),
        pictures={"mnist": mnist.PICTURES[budget]},
        claims=(
            Claim("weight scaling", "average of 1"),
            Claim("average of 50", "average of 1"),
            Claim("average of 50", "weight scaling", alike=True),
        ),
        why=mnist.why(budget),
        differences=(
            f"The network is {NETWORK[budget].removeprefix('mlp:')}; the paper does not say which one it samples. It "
            f"gives a curve, no figures: about 50 networks match weight scaling.",
            f"{max(DRAWS)} thinned networks are drawn of each training, and averaged in as many groups of k as there "
            f"are; probabilities are averaged.",
            *mnist.differences(budget, f"{epochs} epochs"),
        ),
        axis="k, thinned networks that are averaged",
        logarithmic=True,
    )
