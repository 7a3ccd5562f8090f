"""How the recipes train on CIFAR-10: the paper's convolutional network, its rates, and what is not as in the paper."""

from typing import Any

from dropkit.runs.config import TrainConfig
from dropkit.studies.recipes.recipe import Sizes

# Appendix B.2: kept from the input to the last hidden layer are .9 .75 .75 .5 .5 .5.
ALL_LAYERS = "input=0.1,conv[0]=0.25,conv[1]=0.25,conv[2]=0.5,fc=0.5"
FULLY_CONNECTED = "fc=0.5"
MAX_NORM = 4.0  # appendix B.2
MOMENTUM = 0.95  # appendix B.2
NETWORK = {"quick": "paper-cnn:24-32-64-256-256", "paper": "paper-cnn"}
PICTURES = {"quick": Sizes(2_500, 1_000), "paper": Sizes(45_000, 5_000)}


def training(budget: str, dropout: str, *, epochs: int, **changes: Any) -> TrainConfig:
    """Return a training on CIFAR-10 with the paper's constraint and momentum."""
    given: dict[str, Any] = {"optimizer": "sgd", "momentum": MOMENTUM, "lr": 0.01, "lr_schedule": "cosine"}
    given |= {"max_norm": MAX_NORM, "model": NETWORK[budget]}
    return TrainConfig(data="cifar10", dropout=dropout, epochs=epochs, **{**given, **changes})


def gaussian(policy: str) -> str:
    """Return a policy with Gaussian noise of the same variance in the place of each dropout.

    >>> gaussian("input=0.2,fc=0.5")
    'input=gaussian:0.2,fc=gaussian:0.5'
    """
    return policy.replace("=", "=gaussian:")


def differences(budget: str, epochs: str) -> tuple[str, ...]:
    """Return what is not as in the paper, or not told there, whatever the table.

    Args:
        budget: of the recipe.
        epochs: how long is trained, in words.
    """
    sizes = PICTURES[budget]
    network = "convolutions of 96, 128 and 256 maps and 2,048 units in each fully connected layer"
    narrower = (
        f"The network has {_widths(budget)}; the paper's has {network}."
        if budget == "quick"
        else f"The network is the paper's: {network}. That convolutions keep the picture's size is not told there."
    )
    return (
        f"{sizes.train:,} of CIFAR-10's 50,000 training pictures are trained on, {sizes.val:,} others choose the epoch "
        f"(lowest validation loss). All 10,000 test pictures are tested on.",
        narrower,
        "Pictures are normalised per channel; the paper's are contrast-normalised and ZCA-whitened.",
        f"Training: {epochs} in batches of 128, the learning rate of SGD with Nesterov momentum {MOMENTUM:g} falling "
        f"to 0 as half a cosine; the paper gives neither the rates nor the size of a batch. Max-norm c = {MAX_NORM:g} "
        f"on all weights, as there.",
    )


def _widths(budget: str) -> str:
    first, second, third, wide, last = NETWORK[budget].partition(":")[2].split("-")
    return f"{first}, {second} and {third} maps, and {wide} and {last} units in the fully connected layers"


def why(budget: str) -> str:
    """Return the clause that tells why figures differ from the paper's."""
    if budget == "quick":
        return f"with {PICTURES[budget].train:,} training pictures instead of 50,000 and a smaller network"
    return "with other preprocessing and another schedule"
