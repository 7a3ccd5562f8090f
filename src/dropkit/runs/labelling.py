"""Labels for new pictures, from a finished run: what `dropkit predict` prints."""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dropkit.data.decoding import BadPictureError, decode
from dropkit.data.folders import SUFFIXES, walk
from dropkit.errors import DropkitError
from dropkit.runs.inference import ReadyNetwork, said_once
from dropkit.runs.run import Run
from dropkit.uncertainty.prediction import predict

BATCH = 64


@dataclass(frozen=True)
class Sampled:
    """How far the thinned networks agree on one picture; see `dropkit.predict` for what each figure is.

    Attributes:
        samples: how many thinned networks were drawn.
        interval: of the class's probability.
        std: of the class's probability over the thinned networks.
        entropy: of the mean probabilities, in nats.
        expected_entropy: the mean of the thinned networks' entropies, in nats.
        mutual_information: the difference of the two, in nats.
        variation_ratio: the share of the thinned networks that say another class than most.
        seed: of the masks.
    """

    samples: int
    interval: tuple[float, float]
    std: float
    entropy: float
    expected_entropy: float
    mutual_information: float
    variation_ratio: float
    seed: int = 0


@dataclass(frozen=True)
class Label:
    """What a run says of one picture.

    Attributes:
        picture: its path, as it was found.
        probabilities: class name to probability, the most probable first; empty for a picture that cannot be read.
        error: why it cannot be read; None for one that can.
        sampled: how far the thinned networks agree; None where none were drawn.
    """

    picture: str
    probabilities: dict[str, float]
    error: str | None = None
    sampled: Sampled | None = None

    @property
    def class_name(self) -> str | None:
        """The most probable class."""
        return next(iter(self.probabilities), None)

    @property
    def probability(self) -> float | None:
        """The probability of the most probable class."""
        return next(iter(self.probabilities.values()), None)

    @property
    def entropy(self) -> float | None:
        """The entropy of the probabilities, in nats: 0 is sure; None for a picture that cannot be read."""
        if self.sampled is not None:
            return self.sampled.entropy
        if not self.probabilities:
            return None
        return -sum(p * math.log(p) for p in self.probabilities.values() if p > 0) or 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the label as plain JSON values."""
        return {
            "picture": self.picture,
            "class": self.class_name,
            "probability": self.probability,
            "probabilities": self.probabilities,
            **({} if self.sampled is None else asdict(self.sampled)),
            "error": self.error,
        }


def find_pictures(paths: Sequence[str]) -> list[Path]:
    """Return the pictures that paths of files and folders name; a folder means every picture in it, at any depth.

    Raises:
        DropkitError: if a path does not exist, or a folder holds no picture.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise DropkitError(f"there is no file or folder {str(path)!r}: check the path")
        inside = _inside(path) if path.is_dir() else [path]
        if not inside:
            raise DropkitError(
                f"the folder {str(path)!r} has no picture: names may end with {' '.join(sorted(SUFFIXES))}"
            )
        found += inside
    return found


def _inside(folder: Path) -> list[Path]:
    """Return what has a picture's name in a folder; what then is no picture, or no file, is told when it is read."""
    try:
        return [file for file in walk(folder, frozenset()) if file.suffix.lower() in SUFFIXES]
    except OSError as error:
        raise DropkitError(
            f"the folder {str(error.filename or folder)!r} cannot be read: {error.strerror}. Check its permissions"
        ) from None


def label_pictures(
    run: Run, files: Iterable[Path], *, samples: int = 0, seed: int | None = None, device: str = "auto"
) -> Iterator[Label]:
    """Return the labels of pictures, in order, as they are asked for: the pictures are read a batch at a time.

    They are brought to the size and the colours of the training pictures, as those were, and normalised with the
    training pictures' mean and standard deviation. A file that cannot be read is a label with its error.

    Args:
        run: a finished run, whose best weights are used.
        files: pictures in any format, size and colours.
        samples: thinned networks whose mean is the answer, at least 2: one has no spread. 0 for a single pass without
            dropout. The masks of a picture depend on the seed and its place among the files alone.
        seed: of the masks; an integer from 0 to 2**64 - 1, 0 if not given. A single pass has none.
        device: where the network computes.

    Raises:
        DropkitError: before any picture is read, if an argument is out of range, the run diverged before it had any
            weights, or thinned networks are asked for and it has no dropout.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0 or samples == 1:
        raise DropkitError(
            "samples must be 0, for a single pass, or the number of thinned networks, at least 2 because one has no "
            f"interval (50 is usual), but got {samples!r}"
        )
    if seed is not None and not samples:
        raise DropkitError("the seed is that of thinned networks' masks: give --samples too, the number of networks")
    network = ReadyNetwork(run, device)
    if samples:
        network.require_dropout(seed or 0)
    return _labels(_Classifier(network, samples, seed or 0), iter(files))


def _labels(classify: "_Classifier", files: Iterator[Path]) -> Iterator[Label]:
    while batch := list(islice(files, BATCH)):
        yield from classify(batch)


class _Classifier:
    """Labels batches of pictures, which it counts."""

    def __init__(self, network: ReadyNetwork, samples: int, seed: int) -> None:
        self.network = network
        self.samples = samples
        self.seed = seed
        self.seen = 0

    def __call__(self, files: Sequence[Path]) -> list[Label]:
        read = [self._read(file) for file in files]
        # What cannot be read keeps its place, so that the masks of the pictures after it do not depend on it.
        blank = torch.zeros(self.network.channels, *self.network.size, dtype=torch.uint8)
        batch = self.network.normalised(torch.stack([blank if isinstance(one, str) else one for one in read]))
        answers = self._sampled(batch) if self.samples else self._single(batch)
        self.seen += len(files)
        return [
            Label(spelled(file), {}, error=picture) if isinstance(picture, str) else self._label(file, *answer)
            for file, picture, answer in zip(files, read, answers, strict=True)
        ]

    def _read(self, file: Path) -> Tensor | str:
        """Return the picture's pixels in the run's size and channels, or why it cannot be read."""
        size = (self.network.size[0], self.network.size[1])
        try:
            return torch.tensor(decode(file, size=size, channels=self.network.channels))
        except BadPictureError as error:
            return error.reason

    def _single(self, batch: Tensor) -> list[tuple[list[float], None]]:
        with torch.inference_mode():
            answer = self.network.model(batch).double().softmax(1).tolist()
        return [(row, None) for row in answer]

    def _sampled(self, batch: Tensor) -> list[tuple[list[float], Sampled]]:
        with said_once():
            found = predict(self.network.model, batch, n=self.samples, seed=self.seed, first_sample=self.seen)
        columns = ("interval", "std", "entropy", "expected_entropy", "mutual_information", "variation_ratio")
        figures = zip(*(getattr(found, name).tolist() for name in columns), strict=True)
        sampled = [
            Sampled(self.samples, tuple(interval), **dict(zip(columns[1:], rest, strict=True)), seed=self.seed)
            for interval, *rest in figures
        ]
        return list(zip(found.probabilities.tolist(), sampled, strict=True))

    def _label(self, file: Path, probabilities: Sequence[float], sampled: Sampled | None) -> Label:
        pairs = zip(self.network.class_names, probabilities, strict=True)
        return Label(spelled(file), dict(sorted(pairs, key=lambda pair: -pair[1])), sampled=sampled)


def spelled(file: Path) -> str:
    """Return a path as text that can be printed and written, whatever bytes it has."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")
