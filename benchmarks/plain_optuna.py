"""What people do today: plain PyTorch and optuna over dropout rates and weight decay, every trial trained to its end.

    python benchmarks/plain_optuna.py FASHION_MNIST.npz [--trials 30] [--epochs 40] [--max-train 2000] [--seed 0]
        [--threads N] [--precision float32]

The tutorial's network with torch.nn's dropout after both poolings (one rate, 0 to .5) and after the hidden fully
connected layer (0 to .8), in steps of .05, and weight decay 0, 1e-5, 1e-4 or 1e-3. Adam, optuna's default sampler, one
trial after the other; every trial begins with the same seed. A trial is worth the lowest validation loss of its epochs.
Pictures, split, normalisation, batch size and learning rate are those of `dropkit train`; the training is the
tutorial's loop, its pictures normalised once. With bfloat16 forward and evaluation run under autocast and
channels-last, as dropkit's do.

Prints a line a trial, then a line of JSON: seconds since the start (imports are not counted, loading the data is) and
the lowest validation loss so far, at the end of each trial.
"""

import argparse
import json
import time
from dataclasses import dataclass

import optuna
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset
from tutorial_vs_dropkit import TutorialNet

from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError
from dropkit.runs.batches import Batches
from dropkit.runs.config import TrainConfig
from dropkit.runs.environment import cpu_name
from dropkit.runs.training import load_data

WEIGHT_DECAYS = [0.0, 1e-5, 1e-4, 1e-3]
EVALUATION_BATCH = 1000


class TutorialNetWithRates(TutorialNet):
    """The tutorial's network with dropout after its poolings too."""

    def __init__(self, conv: float, fc: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(fc)
        self.conv_dropout = nn.Dropout(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.conv_dropout(torch.max_pool2d(torch.relu(self.conv1(x)), kernel_size=2, stride=2))
        x = self.conv_dropout(torch.max_pool2d(torch.relu(self.conv2(x)), kernel_size=2, stride=2))
        x = x.reshape(x.size(0), -1)
        return self.fc2(self.dropout(torch.relu(self.fc1(x))))


@dataclass
class Job:
    """What all trials share."""

    config: TrainConfig
    train: TensorDataset
    val: TensorDataset
    precision: str

    @property
    def memory_format(self) -> torch.memory_format:
        """How pictures and weights lie in memory."""
        return torch.contiguous_format if self.precision == "float32" else torch.channels_last

    def forward(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return the logits in float32."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            return model(x.contiguous(memory_format=self.memory_format)).float()


def normalised(pictures: Pictures, split: Split, part: str) -> TensorDataset:
    """Return the pictures of one part as dropkit normalises them, and their labels."""
    batches = Batches(pictures, split, torch.device("cpu"))
    x, y = batches.read(getattr(batches, part))
    return TensorDataset(x.contiguous(), y)


def lowest_validation_loss(job: Job, conv: float, fc: float, weight_decay: float) -> float:
    """Train to the end; return the lowest validation loss of all epochs, in nats."""
    torch.manual_seed(job.config.seed)
    model = TutorialNetWithRates(conv, fc).to(memory_format=job.memory_format)
    optimizer = optim.Adam(model.parameters(), lr=job.config.learning_rate, weight_decay=weight_decay)
    loader = DataLoader(job.train, batch_size=job.config.batch_size, shuffle=True)
    losses = []
    for _ in range(job.config.epoch_limit):
        model.train()
        for inputs, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(job.forward(model, inputs), labels).backward()
            optimizer.step()
        losses.append(validation_loss(job, model))
    return min(losses)


def validation_loss(job: Job, model: nn.Module) -> float:
    """Return the mean cross-entropy of the validation pictures, in nats."""
    model.eval()
    x, y = job.val.tensors
    with torch.inference_mode():
        logits = torch.cat([job.forward(model, part) for part in x.split(EVALUATION_BATCH)])
    return F.cross_entropy(logits.double(), y).item()


def search(job: Job, trials: int, began: float) -> dict[str, object]:
    """Run the trials; return seconds and lowest loss at the end of each, and what was best."""
    seconds: list[float] = []
    lowest: list[float] = []

    def objective(trial: optuna.Trial) -> float:
        conv = trial.suggest_float("conv", 0.0, 0.5, step=0.05)
        fc = trial.suggest_float("fc", 0.0, 0.8, step=0.05)
        weight_decay = trial.suggest_categorical("weight_decay", WEIGHT_DECAYS)
        loss = lowest_validation_loss(job, conv, fc, weight_decay)
        lowest.append(min([*lowest[-1:], loss]))
        seconds.append(time.perf_counter() - began)
        chosen = f"conv={conv:.2f},fc={fc:.2f}, weight decay {weight_decay:g}"
        print(f"{seconds[-1]:8.1f} s  {loss:.4f}  lowest {lowest[-1]:.4f}  {chosen}", flush=True)
        return loss

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=job.config.seed))
    study.optimize(objective, n_trials=trials)
    return {"seconds": seconds, "lowest": lowest, "best": study.best_params}


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    for name, default in (("trials", 30), ("epochs", 40), ("max-train", 2000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    began = time.perf_counter()
    try:
        config = TrainConfig(data=given.data, max_train=given.max_train, epochs=given.epochs, seed=given.seed)
        pictures, split = load_data(config)
    except DropkitError as error:
        parser.error(str(error))
    if (pictures.shape, pictures.classes) != ((1, 28, 28), 10):
        is_given = f"{list(pictures.shape)} of {pictures.classes}"
        parser.error(f"the tutorial's network takes pictures [1, 28, 28] of 10 classes, but these are {is_given}")
    train, val = (normalised(pictures, split, part) for part in ("train", "val"))
    found = search(Job(config, train, val, given.precision), given.trials, began)
    versions = {"torch": torch.__version__, "optuna": optuna.__version__}
    settings = {"precision": given.precision, "threads": torch.get_num_threads(), "cpu": cpu_name()}
    print(json.dumps({**found, "trials": given.trials, "epochs": given.epochs, **versions, **settings}))


if __name__ == "__main__":
    main()
