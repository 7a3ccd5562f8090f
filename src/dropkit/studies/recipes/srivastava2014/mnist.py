"""How the recipes train on MNIST: the pictures, the paper's rates and constraint, and what is not as in the paper."""

from typing import Any

from dropkit.runs.config import TrainConfig
from dropkit.studies.recipes.recipe import Sizes

RATES = "input=0.2,fc=0.5"  # the paper keeps .8 of the inputs and .5 of the hidden units (appendix B.1)
MAX_NORM = 2.0  # appendix B.1
MOMENTUM = 0.95  # appendix B.1
PICTURES = {"quick": Sizes(2_000, 1_000), "paper": Sizes(50_000, 10_000)}


def training(model: str, dropout: str, *, epochs: int, **changes: Any) -> TrainConfig:
    """Return a training on MNIST by the paper's way, as far as it is told: SGD with much momentum, a falling rate."""
    given: dict[str, Any] = {"optimizer": "sgd", "momentum": MOMENTUM, "lr": 0.02, "lr_schedule": "cosine"}
    return TrainConfig(data="mnist", model=model, dropout=dropout, epochs=epochs, **{**given, **changes})


def differences(budget: str, epochs: str) -> tuple[str, ...]:
    """Return what is not as in the paper, or not told there, whatever the table.

    Args:
        budget: of the recipe.
        epochs: how long is trained, in words.
    """
    sizes = PICTURES[budget]
    validation = f"{sizes.val:,} others choose the epoch (lowest validation loss)"
    if budget == "paper":
        validation += "; the paper trains on those too in the end"
    return (
        f"{sizes.train:,} of MNIST's 60,000 training pictures are trained on, {validation}. All 10,000 test pictures "
        f"are tested on.",
        f"Training: {epochs} in batches of 128, the learning rate of SGD with Nesterov momentum {MOMENTUM:g} falling "
        f"to 0 as half a cosine; the paper makes a million steps.",
        "Pictures are normalised by the mean and the standard deviation of the training pictures; weights begin as "
        "torch's do.",
    )


def why(budget: str) -> str:
    """Return the clause that tells why figures differ from the paper's."""
    if budget == "quick":
        return f"with {PICTURES[budget].train:,} training pictures instead of 60,000 and a short training"
    return "with 50,000 training pictures instead of 60,000 and a shorter training"
