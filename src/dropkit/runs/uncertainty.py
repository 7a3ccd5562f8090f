"""How well a run knows what it does not know: the single pass and the average of thinned networks, side by side.

RUN/uncertainty.json holds what `measure` returns; the run's page shows it.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dropkit.data.counting import counting
from dropkit.data.pictures import Pictures, load
from dropkit.data.split import Split
from dropkit.errors import DropkitError
from dropkit.files import read_record, write_json
from dropkit.runs.config import TrainConfig
from dropkit.runs.environment import describe_environment
from dropkit.runs.features import image_size_of
from dropkit.runs.inference import ReadyNetwork
from dropkit.runs.outside import Outside, load_outside
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run, write_run_page
from dropkit.runs.scores import Averages, Scores
from dropkit.runs.training import say
from dropkit.uncertainty.calibration import fit_temperature, temperature_scaled
from dropkit.uncertainty.prediction import statistics
from dropkit.uncertainty.ranking import auroc
from dropkit.uncertainty.sampling import Sampler

KS = (1, 2, 5, 10, 20, 50)
WAYS = ("single", "average")
BATCH, BATCH_OF_DEVICE = 128, 1024
BATCH_NUMBERS = 1 << 22  # logits of all draws of a batch
FIT_NUMBERS = 1 << 24  # logits that are kept to fit a temperature: half a gigabyte with what is computed of them
HISTOGRAM = 30  # bins

Batch = tuple[Tensor, Tensor, Tensor]
"""Places [B] in the list of pictures, logits of the single pass [B, K], and of the draws [n, B, K], on the CPU."""


def measure(
    run: Run,
    *,
    samples: int = 50,
    ood: str | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Return how well a run's probabilities hold, with and without an average of thinned networks.

    On the run's own test pictures: error, NLL, Brier score, calibration error and AURC, each also after temperature
    scaling that was fitted on its validation pictures; averages of 1, 2, 5, ... draws beside the single pass
    (Srivastava et al., JMLR 15, 2014, Figure 11); and how well entropy and mutual information tell apart pictures of
    another data set. Memory does not grow with the number of draws times pictures times classes.

    Args:
        run: a finished run with dropout.
        samples: n, how many thinned networks.
        ood: data of another kind, as `dropkit train` takes them, or any folder with pictures: labels are not needed.
            At most as many pictures are taken as for the test.
        seed: of the masks and of what is chosen; an integer from 0 to 2**64 - 1.
        device: where the network computes.
        progress: show progress on standard error.

    Returns:
        Plain JSON; `docs/uncertainty.md` says what each figure is.

    Raises:
        DropkitError: if the run has no network or no dropout, its data are not what they were, or `ood` cannot be used.
    """
    _require_samples(samples)
    began = time.perf_counter()
    network = ReadyNetwork(run, device)
    network.require_dropout(seed)
    pictures, split = _own_pictures(run, progress)
    outside = _outside(run, network, ood, len(split.test), seed, progress)
    draw = _Draw(network, samples, seed, progress)
    temperatures, fitted_on, notes = _temperatures(draw, pictures, split, seed)
    test = _test(draw, pictures, split, temperatures)
    return {
        "kind": "uncertainty",
        "environment": describe_environment(network.device, torch.float32),
        "policy": run.config.dropout,
        "samples": samples,
        "seed": seed,
        "test": len(split.test),
        "validation": fitted_on,
        "temperature": temperatures,
        **test.record(),
        "ood": None if outside is None else _against(draw, test, outside, len(split.test) + len(split.val)),
        "notes": notes,
        "seconds": time.perf_counter() - began,
    }


def keep(run: Run, record: dict[str, Any]) -> Path:
    """Write what `measure` returned into the run's folder, and its page anew; return the page's path."""
    write_json(RunFolder(run.folder).uncertainty, record)
    return write_run_page(run)


def require_writable(run: Run) -> None:
    """Refuse a folder that the record cannot be written to, before the work is done.

    Raises:
        DropkitError: naming the folder.
    """
    if not os.access(run.folder, os.W_OK):
        raise DropkitError(
            f"cannot write to the folder {str(run.folder)!r}, where the record and the page are to stand: change its "
            "permissions, or copy the run"
        )


def _require_samples(samples: Any) -> None:
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise DropkitError(
            f"samples must be the number of thinned networks, 2 or more (50 is usual), but got {samples!r}"
        )


def _own_pictures(run: Run, progress: bool) -> tuple[Pictures, Split]:
    """Return the run's pictures, and its split as it was."""
    config: TrainConfig = run.config
    pictures = load(
        config.data,
        image_size=image_size_of(config),
        on_bad_image=config.on_bad_image,
        stream=config.stream,
        progress=progress,
    )
    return pictures, Split.from_json(read_record(RunFolder(run.folder).split), pictures)


def _outside(
    run: Run, network: ReadyNetwork, source: str | None, most: int, seed: int, progress: bool
) -> Outside | None:
    if source is None:
        return None
    shape = (network.channels, network.size[0], network.size[1])
    fingerprint = read_record(RunFolder(run.folder).split)["fingerprint"]
    outside = load_outside(source, shape, most=most, seed=seed, fingerprint=fingerprint, progress=progress)
    if outside.unreadable:
        many = "1 file" if outside.unreadable == 1 else f"{outside.unreadable:,} files"
        say(f"note: {many} of --ood could not be read")
    return outside


class _Draw:
    """Draws thinned networks for pictures, batch by batch."""

    def __init__(self, network: ReadyNetwork, samples: int, seed: int, progress: bool) -> None:
        self.network = network
        self.samples = samples
        self.progress = progress
        most = BATCH if network.device.type == "cpu" else BATCH_OF_DEVICE
        self.batch = max(1, min(most, BATCH_NUMBERS // (samples * len(network.class_names))))
        self.sampler = Sampler(network.model, samples, seed)  # what it finds to say, `require_dropout` has said

    def __call__(self, what: str, read: Callable[[Tensor], Tensor], indices: Tensor, first: int = 0) -> Iterator[Batch]:
        """Yield what the network says of pictures.

        Args:
            what: the pictures, for whoever watches.
            read: from indices to pictures uint8 [B, C, H, W].
            indices: of the pictures [N].
            first: the number of the first one, on which its masks depend.
        """
        title = f"{self.samples} thinned networks on {what}"
        with counting(title, len(indices), show=self.progress) as tick:
            for places in torch.arange(len(indices)).split(self.batch):
                x = self.network.normalised(read(indices[places]))
                draws = self.sampler(x, first + int(places[0]))
                yield places, self._single(x), draws.float().cpu()
                tick(len(places))

    def _single(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = self.network.model(x)
        return logits.float().cpu()


def _temperatures(draw: _Draw, pictures: Pictures, split: Split, seed: int) -> tuple[dict[str, float], int, list[str]]:
    """Return the temperature of each way to predict, on how many validation pictures it was fitted, and notes."""
    most = max(1, FIT_NUMBERS // (draw.samples * pictures.classes))
    chosen = split.val
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, most, replace=False))
    indices = torch.from_numpy(chosen)
    batches = list(draw("validation pictures", pictures.read, indices, first=len(split.test)))
    logits = (torch.cat([single for _, single, _ in batches]), torch.cat([draws for _, _, draws in batches], dim=1))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = [fit_temperature(each, pictures.labels[indices]) for each in logits]
    return dict(zip(WAYS, found, strict=True)), len(indices), sorted({str(warning.message) for warning in said})


class _Tested:
    """What is gathered over the test pictures.

    Args:
        samples: how many draws there are.
        temperatures: of each way to predict.
        classes: K.
    """

    def __init__(self, samples: int, temperatures: dict[str, float], classes: int) -> None:
        self.temperatures = temperatures
        self.classes = classes
        self.scores = {(way, scaled): Scores() for way in WAYS for scaled in (False, True)}
        self.averages = Averages(samples, sorted({k for k in KS if k <= samples} | {samples}))
        self.signals = _Signals()

    def add(self, single: Tensor, draws: Tensor, labels: Tensor) -> None:
        """Take in a batch."""
        for way, logits in zip(WAYS, (single, draws), strict=True):
            for scaled, temperature in ((False, 1.0), (True, self.temperatures[way])):
                self.scores[way, scaled].add(temperature_scaled(logits, temperature), labels)
        self.averages.add(draws, labels)
        self.signals.add(single, draws)

    def record(self) -> dict[str, Any]:
        """Return the figures as plain JSON."""
        return {
            "methods": [
                {"way": way, "scaled": scaled, "temperature": self.temperatures[way] if scaled else 1.0}
                | scores.figures()
                for (way, scaled), scores in self.scores.items()
            ],
            "averages": self.averages.rows(),
            "reliability": {
                way: {key: self.scores[way, key == "after"].reliability() for key in ("before", "after")}
                for way in WAYS
            },
            "risk_coverage": {way: self.scores[way, False].curve() for way in WAYS},
        }


def _test(draw: _Draw, pictures: Pictures, split: Split, temperatures: dict[str, float]) -> _Tested:
    indices = torch.from_numpy(split.test)
    labels = pictures.labels[indices]
    tested = _Tested(draw.samples, temperatures, pictures.classes)
    for places, single, draws in draw("test pictures", pictures.read, indices):
        tested.add(single, draws, labels[places])
    return tested


class _Signals:
    """What may tell that a picture is strange: entropies and mutual information, of each picture."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Tensor]] = {"single_entropy": [], "entropy": [], "mutual_information": []}

    def add(self, single: Tensor, draws: Tensor) -> None:
        """Take in a batch."""
        average = statistics(draws)
        values = (statistics(single[None]).entropy, average.entropy, average.mutual_information)
        for part, value in zip(self.parts.values(), values, strict=True):
            part.append(value)

    def __getitem__(self, name: str) -> Tensor:
        return torch.cat(self.parts[name])


def _against(draw: _Draw, test: _Tested, outside: Outside, first: int) -> dict[str, Any]:
    """Return how well strange pictures are told from the test pictures."""
    strange = _Signals()
    name = outside.name
    for _, single, draws in draw(f"pictures of {name}", outside.read, outside.chosen, first=first):
        strange.add(single, draws)
    edges = np.linspace(0, np.log(test.classes), HISTOGRAM + 1)
    return {
        "name": name,
        "pictures": len(outside.chosen),
        "of": outside.found,
        "unreadable": outside.unreadable,
        "auroc": {signal: auroc(test.signals[signal], strange[signal]) for signal in strange.parts},
        "edges": edges.tolist(),
        "histograms": {
            signal: {
                which: np.histogram(signals[signal].clamp(0, edges[-1]), edges)[0].tolist()
                for which, signals in (("test", test.signals), ("ood", strange))
            }
            for signal in ("single_entropy", "entropy")
        },
    }
