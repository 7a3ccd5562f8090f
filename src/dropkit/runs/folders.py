"""Pictures from a folder with a sub-folder for each class."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from dropkit.errors import DropkitError
from dropkit.runs.pictures import SPLITS, Part, Pictures, join

SUFFIXES = frozenset(
    [".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)
"""What the name of a picture ends with, in small letters or capitals; other files are left alone."""

_SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_GRAY = {"1", "L", "LA", "La"}
_DEEP = {
    "I",
    "F",
    "I;16",
    "I;16L",
    "I;16B",
    "I;16N",
}  # Pillow would clip their values to 0..255 without a word
_SHOWN = 5

Picture = npt.NDArray[np.uint8]


def read(path: Path) -> Pictures:
    """Return the pictures of a folder as uint8, grayscale when every one is, else RGB.

    The folder holds a sub-folder for each class, or `train` with these sub-folders and beside it, if there
    are such splits, `val` (or `valid`, `validation`) and `test`. Classes are numbered by sorted name; those
    of train count, and a class may be absent from val or test. Pictures may lie in folders inside a class.
    EXIF orientation is applied, transparency left out, of an animation the first picture taken. Hidden files,
    and files whose names do not end as a picture's (SUFFIXES), are left alone.

    Raises DropkitError when there are fewer than two classes, when a class has no picture, when pictures
    cannot be read and when not all have one size.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         (Path(folder) / name).mkdir()
    ...         Image.new("RGB", (7, 5)).save(Path(folder) / name / "1.png")
    ...     pictures = read(Path(folder))
    >>> pictures.class_names, pictures.shape, pictures.ids
    (('cat', 'dog'), (3, 5, 7), ('cat/1.png', 'dog/1.png'))
    """
    roots = _splits(path)
    class_names = sorted(folder.name for folder in _folders(roots[0][1]))
    if len(class_names) < 2:
        found = f"only {class_names[0]!r}" if class_names else "none"
        raise DropkitError(
            f"folder {str(roots[0][1])!r} needs a sub-folder with pictures for each of two classes or more, "
            f"and has {found}."
        )
    files = {split: _files(root, class_names) for split, root in roots}
    pictures = _decode(path, [file for listed in files.values() for file, _ in listed])
    return join(path.resolve().name, _parts(path, files, _stack(pictures)), class_names)


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _splits(path: Path) -> list[tuple[str | None, Path]]:
    """Return the folder of each split, train first; the folder itself where it has only classes."""
    folders = {folder.name: folder for folder in _folders(path)}
    named = [name for name in folders if name in _SPLIT_OF]
    others = [name for name in folders if name not in _SPLIT_OF]
    if not named or (others and named == ["train"] and _is_class(folders["train"])):
        _refuse_disguised_splits(path, list(folders.values()))
        return [(None, path)]
    if others:
        raise DropkitError(
            f"folder {str(path)!r} has {_listed(others)} beside the splits {_listed(named)}: allowed "
            "are splits with a sub-folder for each class, or classes alone. Move or rename the sub-folders."
        )
    if "train" not in folders:
        raise DropkitError(
            f"folder {str(path)!r} has {_listed(named)} but no 'train': put the training pictures into a "
            "sub-folder 'train', with a sub-folder for each class."
        )
    roots = {split: folders[name] for name, split in _SPLIT_OF.items() if name in folders}
    if len(roots) < len(named):
        raise DropkitError(
            f"folder {str(path)!r} has {_listed(named)}: only one of them can hold the validation pictures. "
            "Keep one of 'val', 'valid' and 'validation'."
        )
    return [(split, roots[split]) for split in SPLITS if split in roots]


def _refuse_disguised_splits(path: Path, folders: Sequence[Path]) -> None:
    """Refuse folders such as Training/ and Testing/, which would else be learned as two classes."""
    inside = [{entry.name for entry in _folders(folder)} for folder in folders]
    if len(folders) < 2 or len(inside[0]) < 2 or any(other != inside[0] for other in inside):
        return
    names = all(folder.name.lower().startswith(("train", "test", "val", "dev", "eval")) for folder in folders)
    if names and not any(_is_class(folder) for folder in folders):
        raise DropkitError(
            f"folder {str(path)!r} has {_listed(folder.name for folder in folders)}, each with the same sub-folders "
            f"{_listed(sorted(inside[0]))}: these look like splits, not classes. Name splits 'train', 'val' and 'test'."
        )


def _is_class(folder: Path) -> bool:
    """Tell a class that happens to be called "train" from a split: it holds pictures and not classes."""
    return any(_is_picture(file, folder) for file in folder.iterdir())


def _listed(names: Iterable[str], shown: int = _SHOWN) -> str:
    listed = [repr(name) for name in names]
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more


def _files(root: Path, class_names: Sequence[str]) -> list[tuple[Path, int]]:
    """Return each picture of a split with its label, class by class."""
    files: list[tuple[Path, int]] = []
    for folder in _folders(root):
        if folder.name not in class_names:
            near = get_close_matches(folder.name, class_names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DropkitError(
                f"folder {str(folder)!r} is a class without training pictures: the classes in train are "
                f"{_listed(class_names, 20)}.{hint} Rename the folder, or add the class to train."
            )
        found = [file for file in folder.rglob("*") if _is_picture(file, folder)]
        if not found:
            raise DropkitError(
                f"folder {str(folder)!r} has no picture: names may end with {' '.join(sorted(SUFFIXES))}. "
                "Add pictures of the class, or remove the folder."
            )
        label = class_names.index(folder.name)
        files += [(file, label) for file in sorted(found, key=lambda file: file.as_posix())]
    if not files:
        raise DropkitError(f"folder {str(root)!r} has no class folders: add them, or remove the folder.")
    return files


def _is_picture(file: Path, folder: Path) -> bool:
    hidden = any(name.startswith(".") for name in file.relative_to(folder).parts)
    return file.suffix.lower() in SUFFIXES and not hidden and file.is_file()


def _decode(path: Path, files: Sequence[Path]) -> list[Picture]:
    """Return each picture as [H, W] or [H, W, 3], all of one size."""
    pictures: list[Picture] = []
    unreadable: list[str] = []
    sized: Path | None = None  # the picture whose size the others must have
    for file in files:
        try:
            picture = _pixels(file)
        except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
            unreadable.append(f"{_id(file, path)} ({_reason(error)})")
            continue
        if sized is None:
            sized, size = file, picture.shape[:2]
        if picture.shape[:2] != size:
            raise DropkitError(
                f"the pictures in {str(path)!r} have different sizes: {_id(sized, path)} is {_size(size)}, "
                f"{_id(file, path)} is {_size(picture.shape)} (width x height). "
                "Resize them all to one size first."
            )
        pictures.append(picture)
    if unreadable:
        raise DropkitError(
            f"{len(unreadable)} of {len(files)} pictures in {str(path)!r} cannot be read: "
            f"{'; '.join(unreadable[:_SHOWN])}{'; ...' if len(unreadable) > _SHOWN else ''}. "
            "Mend or remove them."
        )
    return pictures


def _id(file: Path, path: Path) -> str:
    return file.relative_to(path).as_posix()


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its text repeats the path
        return "not a picture in any format that Pillow knows"
    return str(error) or type(error).__name__


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _pixels(file: Path) -> Picture:
    with Image.open(file) as opened:
        if opened.mode in _DEEP:
            raise ValueError(f"its pixels are of Pillow's mode {opened.mode}: save it with 8 bits a channel")
        picture: Image.Image = ImageOps.exif_transpose(opened)
        if picture.mode in _GRAY:
            return np.asarray(picture.convert("L"))
        if "transparency" in picture.info:  # Pillow wants this detour, or warns
            picture = picture.convert("RGBA")
        return np.asarray(picture.convert("RGB"))


def _stack(pictures: list[Picture]) -> Picture:
    """Return [N, 1, H, W] when every picture is grayscale, else [N, 3, H, W]."""
    if all(picture.ndim == 2 for picture in pictures):
        return np.stack(pictures)[:, None]
    out: Picture = np.empty((len(pictures), 3, *pictures[0].shape[:2]), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        out[i] = picture if picture.ndim == 2 else picture.transpose(2, 0, 1)
    return out


def _parts(path: Path, files: dict[str | None, list[tuple[Path, int]]], images: Picture) -> list[Part]:
    parts: list[Part] = []
    start = 0
    for split, listed in files.items():
        stop = start + len(listed)
        labels = np.array([label for _, label in listed], dtype=np.int64)
        ids = tuple(_id(file, path) for file, _ in listed)
        parts.append(Part(split, images[start:stop], labels, ids))
        start = stop
    return parts
