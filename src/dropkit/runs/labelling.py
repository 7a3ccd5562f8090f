"""Labels for new pictures, from a finished run: what `dropkit predict` prints."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dropkit.data.decoding import BadPictureError, decode
from dropkit.data.folders import SUFFIXES, walk
from dropkit.errors import DropkitError
from dropkit.runs.fitting import pick_device
from dropkit.runs.run import Run

BATCH = 64


@dataclass(frozen=True)
class Label:
    """What a run says of one picture.

    Attributes:
        picture: its path, as it was found.
        probabilities: class name to probability, the most probable first; empty for a picture that cannot be read.
        error: why it cannot be read; None for one that can.
    """

    picture: str
    probabilities: dict[str, float]
    error: str | None = None

    @property
    def class_name(self) -> str | None:
        """The most probable class."""
        return next(iter(self.probabilities), None)

    @property
    def probability(self) -> float | None:
        """The probability of the most probable class."""
        return next(iter(self.probabilities.values()), None)

    def as_json(self) -> dict[str, Any]:
        """Return the label as plain JSON values."""
        return {
            "picture": self.picture,
            "class": self.class_name,
            "probability": self.probability,
            "probabilities": self.probabilities,
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


def label_pictures(run: Run, files: Iterable[Path], *, device: str = "auto") -> Iterator[Label]:
    """Yield a label for each picture, in order; the pictures are read a batch at a time.

    They are brought to the size and the colours of the training pictures, as those were, and normalised with the
    training pictures' mean and standard deviation. A file that cannot be read is a label with its error.

    Args:
        run: a finished run, whose best weights are used.
        files: pictures in any format, size and colours.
        device: where the network computes.

    Raises:
        DropkitError: if the run diverged before it had any weights.
    """
    if run.summary["test"] is None:
        raise DropkitError(f"the run in {str(run.folder)!r} diverged before an epoch was finished: it has no network")
    classify = _Classifier(run, pick_device(device))
    remaining = iter(files)
    while batch := list(islice(remaining, BATCH)):
        yield from classify(batch)


class _Classifier:
    """A run's network, and how pictures are made ready for it."""

    def __init__(self, run: Run, device: torch.device) -> None:
        data = run.summary["data"]
        self.channels, *self.size = data["shape"]
        self.class_names: list[str] = data["class_names"]
        self.mean = torch.tensor(data["mean"]).view(-1, 1, 1)
        self.std = torch.tensor(data["std"]).view(-1, 1, 1)
        self.device = device
        self.model = run.model().to(device)

    def __call__(self, files: Sequence[Path]) -> list[Label]:
        read = [self._read(file) for file in files]
        pictures = [picture for picture in read if isinstance(picture, Tensor)]
        answers = iter(self._probabilities(pictures) if pictures else ())
        return [
            Label(spelled(file), {}, error=picture) if isinstance(picture, str) else self._label(file, next(answers))
            for file, picture in zip(files, read, strict=True)
        ]

    def _read(self, file: Path) -> Tensor | str:
        """Return the picture as the network takes it, or why it cannot be read."""
        try:
            pixels = decode(file, size=(self.size[0], self.size[1]), channels=self.channels)
        except BadPictureError as error:
            return error.reason
        return (torch.tensor(pixels).float() - self.mean) / self.std

    def _probabilities(self, pictures: Sequence[Tensor]) -> list[list[float]]:
        batch = torch.stack(list(pictures)).to(self.device)
        with torch.inference_mode():
            answer: list[list[float]] = self.model(batch).double().softmax(1).tolist()
        return answer

    def _label(self, file: Path, probabilities: Sequence[float]) -> Label:
        ranked = sorted(zip(self.class_names, probabilities, strict=True), key=lambda pair: -pair[1])
        return Label(spelled(file), dict(ranked))


def spelled(file: Path) -> str:
    """Return a path as text that can be printed and written, whatever bytes it has."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")
