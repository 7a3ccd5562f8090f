"""What a study's record says of the search before it: the trials, what they teach, what they took, how to use it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from dropkit.runs.config import TrainConfig
from dropkit.runs.run import train_command
from dropkit.studies.halving import rungs
from dropkit.studies.response import importance, response, seen_in
from dropkit.studies.search import Search, Trial, policy_name

AGAINST = ("hurts", "diverged")
WHY = {
    "none": "best in the search, but not shown to help",
    "undertrained": "best in the search, but not trained long enough to be judged",
    "hurts": "what the search found is shown to hurt",
    "diverged": "what the search found diverges",
}
"""What a verdict means for the use of what was found, where nothing is shown to help."""


class SearchRecord:
    """The search's part of a study's record.

    Args:
        search: that has been run.
        arms: what was compared: no dropout, the tutorial's policy, and what was found, last, if it is neither.
        shape: of the pictures.
        url: of the storage, without its password.
        command: that makes the search.
    """

    def __init__(
        self,
        search: Search,
        arms: Sequence[TrainConfig],
        shape: tuple[int, int, int],
        url: str,
        command: str,
    ) -> None:
        self.search, self.arms = search, arms
        self.shape, self.url, self.command = shape, url, command

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the record with the search in it."""
        search, best = self.search, self.search.finalists[0]
        trials = [trial.to_json() for trial in search.trials]
        used, why = self._used(record)
        seen = seen_in(trials, [trial.rows for trial in search.trials], rungs(search.epochs))
        told = {
            "sentence": self._sentence(trials),
            "command": self.command,
            "storage": self.url,
            "epochs": search.epochs,
            "rungs": list(rungs(search.epochs)),
            "space": search.space.to_json(),
            "trials": trials,
            "finalists": [_short(trial) for trial in search.finalists],
            "chosen": _short(best),
            "response": response(search.space, seen, best.params or {}),
            "importance": importance(search.space, seen),
            **self._time(),
            "use": {"policy": policy_name(search.base, used), "why": why},
            "train": train_command(dataclasses.replace(used, seed=0, out=None, threads=None)),
            "python": _python(used, self.shape),
        }
        return {**record, "question": "tune", "command": self.command, "search": told}

    def _used(self, record: dict[str, Any]) -> tuple[TrainConfig, str]:
        """Return the training to use, and why: what helps; else what was found, if nothing speaks against it."""
        rows = record["policies"]
        kinds = [(row["verdict"] or {}).get("kind") for row in rows]
        if "helps" in kinds:
            place = [row["name"] for row in rows].index(record["recommendation"]["policy"])
            return self.arms[place], "shown to help"
        return (self.arms[0] if kinds[-1] in AGAINST else self.arms[-1]), WHY[str(kinds[-1])]

    def _sentence(self, trials: Sequence[dict[str, Any]]) -> str:
        best = self.search.finalists[0]
        stopped = sum(trial["status"] == "stopped" for trial in trials)
        own = best.config.weight_decay != self.search.base.weight_decay
        return (
            f"Of {len(trials) - len(self.arms) + 1} policies tried on the validation loss beside none and "
            f"{self.search.space.tutorial}, {best.policy} was best: {best.loss:.3f} nats. "
            f"{stopped} were stopped early."
            + (" Its weight decay is another one, so that not all of a difference need be dropout's." if own else "")
        )

    def _time(self) -> dict[str, Any]:
        """Return what the search took, and what as many whole trainings would have taken."""
        trained = [rows for rows in self.search.trained() if rows]
        whole = [trial.rows for trial in self.search.trials if trial.status == "finished"]
        count = len(self.search.trials)
        epochs, seconds = sum(map(len, trained)), sum(float(rows[-1]["seconds"]) for rows in trained)
        full = {
            "epochs": round(count * sum(map(len, whole)) / len(whole)),
            "seconds": count * sum(float(rows[-1]["seconds"]) for rows in whole) / len(whole),
        }
        spent = {"trainings": len(trained), "epochs": epochs, "seconds": seconds}
        return {"spent": spent, "whole": full, "saved": 1 - seconds / full["seconds"]}


def _short(trial: Trial) -> dict[str, Any]:
    """Return a finalist as plain JSON; its loss in nats."""
    return {"number": trial.number, "policy": trial.policy, "loss": trial.loss if math.isfinite(trial.loss) else None}


def _python(config: TrainConfig, shape: tuple[int, int, int]) -> str:
    """Return the lines that bring a policy into a network of the user's own."""
    optimizer = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}[config.optimizer]
    decay = f", weight_decay={config.weight_decay:g}" if config.weight_decay else ""
    momentum = f", momentum={config.momentum:g}, nesterov=True" if config.optimizer == "sgd" else ""
    example = f"torch.zeros(2, {', '.join(map(str, shape))})"
    return "\n".join(
        (
            "import dropkit, torch",
            "model = ...  # your network",
            f'dropkit.insert(model, "{config.dropout}", {example})',
            f"optimizer = torch.optim.{optimizer}(model.parameters(), lr={config.learning_rate:g}{momentum}{decay})",
            *_beside(config),
            "# train as ever: model.train() for each epoch, model.eval() before you measure",
        )
    )


def _beside(config: TrainConfig) -> list[str]:
    """Return what else the trials had that a training loop has to do."""
    lines = []
    if config.schedule != "constant" and config.dropout != "none":
        lines.append(f'rates = dropkit.schedule.Scheduled(model, dropkit.schedule.parse("{config.schedule}"))')
        lines.append("# before each step: rates.apply(share of the training that is done)")
    if config.max_norm is not None:
        lines.append(f"# after each optimizer.step(): dropkit.max_norm(model, {config.max_norm:g})")
    if config.finetune:
        lines.append("# the trials gave published weights a tenth of that learning rate")
    return lines
