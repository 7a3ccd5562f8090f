"""The optimizer of a training, and which of the network's parameters it treats alike."""

import math
from typing import Any

from torch import nn, optim

from dropkit.layers.learned import ConcreteDropout
from dropkit.models.zoo import classifier_paths
from dropkit.runs.config import TrainConfig

BACKBONE_RATE = 0.1  # of the learning rate, for weights that were trained before


def make_optimizer(config: TrainConfig, model: nn.Module) -> optim.Optimizer:
    """Return the optimizer that the config asks for, with the network's parameters in their groups."""
    rate, decay = config.learning_rate, config.weight_decay
    # One pass over the parameters instead of a dozen.
    fused = all(parameter.device.type in ("cpu", "cuda", "mps") for parameter in model.parameters())
    groups = _groups(config, model)
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        return optim.SGD(groups, rate, config.momentum, 0, decay, nesterov, fused=fused)
    family = optim.Adam if config.optimizer == "adam" else optim.AdamW
    return family(groups, rate, weight_decay=decay, fused=fused)


def _groups(config: TrainConfig, model: nn.Module) -> list[dict[str, Any]]:
    """Return the parameters in groups: with and without weight decay, and those of published weights apart.

    Decay of the logit of a learned rate would draw the rate to 1/2, and the loss of learned rates already decays the
    weights that read what it drops. What has been trained before moves at a tenth of the rate of what has not.
    """
    learned = [module for module in model.modules() if isinstance(module, ConcreteDropout)]
    logits = {id(module.p_logit) for module in learned}
    free = logits | {id(module.reader[0].weight) for module in learned if module.reader is not None}
    new = logits | _of_classifier(config, model) if config.finetune else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        slow = config.finetune and id(parameter) not in new
        groups.setdefault((id(parameter) in free, slow), []).append(parameter)
    return [
        {
            "params": parameters,
            **({"weight_decay": 0.0} if is_free else {}),
            **({"lr": BACKBONE_RATE * config.learning_rate} if slow else {}),
        }
        for (is_free, slow), parameters in sorted(groups.items(), key=lambda entry: entry[0])
    ]


def _of_classifier(config: TrainConfig, model: nn.Module) -> set[int]:
    """Return the parameters, by id, of the classifier that took the place of the published one."""
    paths = classifier_paths(model, config.model)
    return {id(parameter) for path in paths for parameter in model.get_submodule(path).parameters()}


class LearningRate:
    """Sets an optimizer's learning rate as the config's schedule says: a function of progress, with no state to lose.

    Args:
        config: names the schedule.
        optimizer: each of its groups keeps its own share of the rate.
    """

    def __init__(self, config: TrainConfig, optimizer: optim.Optimizer) -> None:
        self.name, self.optimizer = config.lr_schedule, optimizer
        self.full = [group["lr"] for group in optimizer.param_groups]

    def apply(self, done: float) -> None:
        """Set the rate for the step before which this share, 0 to 1, of the training's steps has been made."""
        if self.name == "constant":
            return
        share = (1 + math.cos(math.pi * done)) / 2 if self.name == "cosine" else 1 - done
        for group, full in zip(self.optimizer.param_groups, self.full, strict=True):
            group["lr"] = full * share
