"""Where the pictures of a recipe come from, and the one file that its trainings read.

A recipe trains on some of a data set's training pictures, chooses epochs by others and tests on all of its test
pictures. Those are drawn once, stratified by class, and kept as one .npz beside the trainings: the same pictures
wherever the data came from.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from dropkit.data.dealing import cut
from dropkit.data.pictures import Part, Pictures, join, load
from dropkit.errors import DropkitError, unknown
from dropkit.runs.training import say
from dropkit.studies.recipes.recipe import Sizes

DEFAULT_FOLDER = Path("../shared/data")
SEED = 0  # of the draw: part of the recipe, not of the trainings

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Source:
    """A data set that recipes use.

    Attributes:
        title: what people call it.
        hub: its name on the Hugging Face hub.
        shape: (C, H, W) of its pictures.
        file: its file in a folder, with the arrays of MedMNIST's files.
        parts: files that hold it instead, training parts first, the last one for test: mosaics of pictures.
    """

    title: str
    hub: str
    shape: tuple[int, int, int]
    file: str
    parts: tuple[str, ...] = ()


SOURCES = {
    "mnist": Source("MNIST", "ylecun/mnist", (1, 28, 28), "mnist.npz"),
    "cifar10": Source(
        "CIFAR-10",
        "uoft-cs/cifar10",
        (3, 32, 32),
        "cifar10.npz",
        (*(f"cifar10_train_{part}.npz" for part in range(1, 6)), "cifar10_test.npz"),
    ),
}
CLASSES = 10


def find(name: str, folder: str | Path | None, *, progress: bool = True) -> Pictures:
    """Return the pictures of a source: from a folder's files, or from the Hugging Face hub.

    Args:
        name: "mnist" or "cifar10".
        folder: where mnist.npz and cifar10.npz are, or the parts of CIFAR-10 (cifar10_train_1.npz to _5.npz and
            cifar10_test.npz, mosaics of pictures). None takes ../shared/data where they are there, and else fetches
            the data through the hub (extra `hub`).
        progress: say where they come from, and show how far the reading has come.

    Raises:
        DropkitError: if they are not there, or are not what their name says.
    """
    if name not in SOURCES:
        raise unknown("data of a recipe", name, SOURCES)
    source = SOURCES[name]
    if folder is not None:
        pictures = _in_folder(source, Path(folder), progress)
        if pictures is None:
            raise _not_there(source, Path(folder))
    else:
        pictures = _in_folder(source, DEFAULT_FOLDER, progress) or _from_hub(source, progress)
    _require(source, pictures)
    return pictures


def _in_folder(source: Source, folder: Path, progress: bool) -> Pictures | None:
    """Return the pictures that a folder holds; None where it holds none of them."""
    if (folder / source.file).is_file():
        if progress:
            say(f"{source.title}: from {folder / source.file}")
        return load(folder / source.file, progress=progress)
    if source.parts and all((folder / part).is_file() for part in source.parts):
        if progress:
            say(f"{source.title}: joined from its {len(source.parts)} parts in {folder}")
        return _joined(source, folder)
    return None


def _not_there(source: Source, folder: Path) -> DropkitError:
    parts = f", nor the parts {source.parts[0]} to {source.parts[-1]}" if source.parts else ""
    return DropkitError(
        f"--data {str(folder)!r} has no {source.file}{parts}: name the folder that holds {source.title}, or leave "
        f"--data out to fetch it from the Hugging Face hub"
    )


def _from_hub(source: Source, progress: bool) -> Pictures:
    if progress:
        say(f"{source.title}: fetched from the Hugging Face hub ({source.hub}), or from what it has kept here")
    return load(f"hub:{source.hub}", image_size="native", progress=progress)


def _require(source: Source, pictures: Pictures) -> None:
    """Refuse what is not the data set."""
    if pictures.shape == source.shape and pictures.classes == CLASSES and {"train", "test"} <= set(pictures.given):
        return
    sizes = ["x".join(map(str, shape)) for shape in (pictures.shape, source.shape)]
    raise DropkitError(
        f"what {pictures.name!r} holds is not {source.title}: pictures {sizes[0]} of {pictures.classes} classes with "
        f"the splits {', '.join(pictures.given) or 'none'}, where {sizes[1]}, {CLASSES} classes, train and test are "
        f"needed. Name a folder with the right file by --data"
    )


def _joined(source: Source, folder: Path) -> Pictures:
    """Return a data set whose pictures lie in parts."""
    *train, test = (_read_part(folder / part, source) for part in source.parts)
    splits = {"train": train, "test": [test]}
    made = []
    for split, parts in splits.items():
        images, labels = (np.concatenate([part[key] for part in parts]) for key in ("images", "labels"))
        ids = tuple(f"{split}_images[{i}]" for i in range(len(labels)))
        made.append(Part(split, images, labels.astype(np.int64), ids))
    return join(Path(source.file).stem, made, [str(name) for name in test["class_names"]])


def _read_part(path: Path, source: Source) -> dict[str, Array]:
    """Return the arrays of one part, its pictures as uint8 [N, C, H, W].

    A part has `webp`, compressed mosaics one after the other, `offsets`, where each begins and ends, and `labels`.
    """
    try:
        with path.open("rb") as file, np.load(file) as stored:  # opened here: numpy leaves a damaged one open
            arrays = {name: np.asarray(stored[name]) for name in stored.files}
        data, ends = arrays["webp"].tobytes(), arrays["offsets"].tolist()
        mosaics = [Image.open(io.BytesIO(data[a:b])) for a, b in pairwise(ends)]
        images = np.concatenate([_cut_apart(np.asarray(mosaic.convert("RGB")), source) for mosaic in mosaics])
        if len(images) != len(arrays["labels"]):
            raise ValueError(f"{len(images)} pictures and {len(arrays['labels'])} labels")
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
    ) as error:  # what numpy and Pillow raise at damaged files
        raise DropkitError(f"{str(path)!r} is damaged ({error}): restore it") from error
    return {**arrays, "images": images}


def _cut_apart(mosaic: Array, source: Source) -> Array:
    """Return the pictures of a mosaic [rows * H, columns * W, C], row by row, as [N, C, H, W]."""
    channels, height, width = source.shape
    rows, columns = mosaic.shape[0] // height, mosaic.shape[1] // width
    tiles = mosaic.reshape(rows, height, columns, width, channels).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(tiles).reshape(-1, channels, height, width)


def drawn(name: str, pictures: Pictures, sizes: Sizes) -> bytes:
    """Return the .npz that a recipe's trainings read: some training pictures, others for validation, all test ones.

    Raises:
        DropkitError: if there are fewer than the recipe takes.
    """
    labels = pictures.labels.numpy().astype(np.int64)
    pool = np.arange(*pictures.given["train"], dtype=np.int64)
    if len(pool) < sizes.train + sizes.val:
        raise DropkitError(
            f"{SOURCES[name].title} should have {sizes.train + sizes.val:,} training pictures or more, but "
            f"{pictures.name!r} has {len(pool):,}: give the whole data set"
        )
    order = np.argsort(np.random.Generator(np.random.PCG64(SEED)).permutation(len(labels)))
    val = cut(pool, labels, order, sizes.val)
    rest = np.setdiff1d(pool, val)
    train = rest if len(rest) == sizes.train else cut(rest, labels, order, sizes.train)
    return _archive(pictures, {"train": train, "val": val, "test": np.arange(*pictures.given["test"])})


def _archive(pictures: Pictures, splits: dict[str, Array]) -> bytes:
    arrays: dict[str, Any] = {"class_names": np.array(pictures.class_names, dtype=str)}
    for split, places in splits.items():
        arrays[f"{split}_images"] = pictures.read(places).numpy().transpose(0, 2, 3, 1)
        arrays[f"{split}_labels"] = pictures.labels.numpy()[places]
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def same_arrays(path: Path, content: bytes) -> bool:
    """Whether the .npz at a path holds the same arrays as another one."""
    with np.load(path) as there, np.load(io.BytesIO(content)) as here:
        names: Sequence[str] = here.files
        return sorted(there.files) == sorted(names) and all(np.array_equal(there[n], here[n]) for n in names)
