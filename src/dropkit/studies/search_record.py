"""What a study's record says of the search before it: the trials, what they teach, what they took, how to use it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from dropkit.runs.config import TrainConfig
from dropkit.runs.run import train_command
from dropkit.studies.halving import rungs
from dropkit.studies.response import importance, response, seen_in
from dropkit.studies.search import Finalist, Search


class SearchRecord:
    """The search's part of a study's record.

    Args:
        search: that has been run.
        finalists: from the best on.
        arms: what was compared: no dropout, the tutorial's policy, and what was found, last, if it is neither.
        shape: of the pictures.
        url: of the storage, without its password.
        command: that makes the search.
    """

    def __init__(
        self,
        search: Search,
        finalists: Sequence[Finalist],
        arms: Sequence[TrainConfig],
        shape: tuple[int, int, int],
        url: str,
        command: str,
    ) -> None:
        self.search, self.finalists, self.arms = search, finalists, arms
        self.shape, self.url, self.command = shape, url, command

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the record with the search in it."""
        search, best = self.search, self.finalists[0]
        trials = [trial.to_json() for trial in search.trials]
        used = self._used(record)
        seen = seen_in(trials, [trial.rows for trial in search.trials], rungs(search.epochs))
        told = {
            "sentence": self._sentence(trials),
            "command": self.command,
            "storage": self.url,
            "epochs": search.epochs,
            "rungs": list(rungs(search.epochs)),
            "space": search.space.to_json(),
            "trials": trials,
            "finalists": [finalist.to_json() for finalist in self.finalists],
            "chosen": best.to_json(),
            "response": response(search.space, seen, best.trial.params or {}),
            "importance": importance(search.space, seen),
            **self._time(),
            "train": train_command(dataclasses.replace(used, seed=0, out=None, threads=None)),
            "python": _python(used, self.shape),
        }
        return {**record, "question": "tune", "command": self.command, "search": told}

    def _used(self, record: dict[str, Any]) -> TrainConfig:
        """Return the training to use: what the search found, unless the comparison says that it hurts."""
        hurts = record["policies"][-1]["verdict"]["kind"] in ("hurts", "diverged")
        return self.arms[0] if hurts else self.arms[-1]

    def _sentence(self, trials: Sequence[dict[str, Any]]) -> str:
        best = self.finalists[0]
        stopped = sum(trial["status"] == "stopped" for trial in trials)
        return (
            f"Of {len(trials)} policies tried on the validation loss, {best.trial.policy} was best: {best.mean:.3f} "
            f"nats, mean of {len(best.losses)} seeds. {stopped} were stopped early."
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
            "# train as ever: model.train() for each epoch, model.eval() before you measure",
        )
    )
