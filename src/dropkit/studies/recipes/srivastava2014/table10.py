"""Table 10: Bernoulli dropout against Gaussian noise of the same variance, on MNIST and CIFAR-10 (section 10)."""

from dropkit.studies.recipes.recipe import Claim, Recipe, Row, no_worse, percent
from dropkit.studies.recipes.srivastava2014 import cifar10, mnist

NETWORK = "mlp:1024-1024"
EPOCHS = {"quick": (60, 50), "paper": (200, 200)}  # MNIST, CIFAR-10


def recipe(budget: str) -> Recipe:
    """Return the recipe of Table 10."""
    of_mnist, of_cifar10 = EPOCHS[budget]

    def digits(dropout: str) -> Row:
        kind, paper = ("Gaussian", (0.95, 0.04)) if "gaussian" in dropout else ("Bernoulli", (1.08, 0.04))
        config = mnist.training(NETWORK, dropout, epochs=of_mnist, max_norm=mnist.MAX_NORM)
        return Row(name=f"MNIST, {kind}", config=config, paper=percent(*paper))

    def objects(dropout: str) -> Row:
        kind, paper = ("Gaussian", (12.5, 0.1)) if "gaussian" in dropout else ("Bernoulli", (12.6, 0.1))
        config = cifar10.training(budget, dropout, epochs=of_cifar10)
        return Row(name=f"CIFAR-10, {kind}", config=config, paper=percent(*paper))

    pairs = ((digits, mnist.RATES), (objects, cifar10.ALL_LAYERS))
    rows = tuple(make(policy) for make, rates in pairs for policy in (rates, cifar10.gaussian(rates)))
    claims = (Claim("MNIST, Gaussian", "MNIST, Bernoulli"), Claim("CIFAR-10, Gaussian", "CIFAR-10, Bernoulli"))
    return Recipe(
        paper="srivastava2014",
        table="table-10",
        budget=budget,
        title="Bernoulli dropout against Gaussian noise",
        where="Srivastava et al. 2014, Table 10",
        rows=rows,
        pictures={"mnist": mnist.PICTURES[budget], "cifar10": cifar10.PICTURES[budget]},
        claims=claims,
        why="with fewer training pictures and a shorter training" if budget == "quick" else cifar10.why(budget),
        differences=(
            "MNIST: 2 layers of 1,024 units, as in the paper.",
            *(f"MNIST: {text}" for text in mnist.differences(budget, f"{of_mnist} epochs")),
            *(f"CIFAR-10: {text}" for text in cifar10.differences(budget, f"{of_cifar10} epochs")),
            "The paper's figures are means over 10 seeds.",
        ),
        marks=tuple(no_worse(claim.lower, claim.higher) for claim in claims) if budget == "paper" else (),
    )
