"""The pictures that a run was tested on, read again from where its data are."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dropkit.data.decoding import BadPictureError, decode
from dropkit.data.pictures import load
from dropkit.errors import DropkitError
from dropkit.files import read_record
from dropkit.runs.features import image_size_of
from dropkit.runs.record import RunFolder
from dropkit.runs.run import Run


def reread_test_pictures(run: Run, most: int) -> Tensor | None:
    """Return up to `most` pictures of the run's test split, spread over it, uint8 [n, C, H, W].

    Of a folder of pictures only these are read; other data are loaded as they were for the training.

    Returns:
        None where the data are gone, or are others now.
    """
    names = read_record(RunFolder(run.folder).split)["test"]
    wanted = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, most).round().astype(int))]
    found = _from_files(run, wanted)
    return _from_data(run, wanted) if found is None else found


def _from_files(run: Run, names: list[str]) -> Tensor | None:
    """Return the pictures that are files below the data's folder."""
    channels, *size = run.summary["data"]["shape"]
    read = []
    for file in (Path(run.config.data) / name for name in names):
        try:
            read.append(torch.tensor(decode(file, size=(size[0], size[1]), channels=channels)))
        except (BadPictureError, OSError):
            continue
    return torch.stack(read) if read else None


def _from_data(run: Run, names: list[str]) -> Tensor | None:
    config = run.config
    try:
        pictures = load(
            config.data, image_size=image_size_of(config), on_bad_image=config.on_bad_image, stream=config.stream
        )
    except DropkitError:
        return None
    if list(pictures.shape) != run.summary["data"]["shape"]:
        return None
    place = {name: i for i, name in enumerate(pictures.ids)}
    indices = [place[name] for name in names if name in place]
    return pictures.read(torch.tensor(indices)) if indices else None
