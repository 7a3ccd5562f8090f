"""Pictures from a folder with a sub-folder for each class."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from dropkit.data.listing import Listing, gather
from dropkit.data.names import printable, storable
from dropkit.data.picture_files import PictureFiles
from dropkit.data.pictures import SPLIT_OF, SPLITS, Pictures, Reading
from dropkit.errors import DropkitError

SUFFIXES = frozenset(
    [".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)
"""What the name of a picture ends with, in small letters or capitals; other files are left alone."""

_SHOWN = 5


def read(path: Path, how: Reading | None = None) -> Pictures:
    """Return the pictures of a folder as uint8, grayscale when every one is, else RGB.

    The folder holds a sub-folder for each class, or `train` with these sub-folders and beside it, if there
    are such splits, `val` (or `valid`, `validation`) and `test`, in small letters or capitals. Classes are numbered by
    sorted name; those
    of train count, and a class may be absent from val or test. Pictures may lie in folders inside a class;
    links are followed. Hidden files are left alone without a word, files whose names do not end as a picture's
    (SUFFIXES) with a note. How a file becomes pixels: dropkit.data.decoding.decode.

    Raises DropkitError when there are fewer than two classes, when a class has no picture, when pictures
    cannot be read (unless they are to be skipped), and when they are to keep their size but have several.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         (Path(folder) / name).mkdir()
    ...         Image.new("RGB", (7, 5)).save(Path(folder) / name / "1.png")
    ...     pictures = read(Path(folder))
    >>> pictures.class_names, pictures.shape, pictures.ids
    (('cat', 'dog'), (3, 64, 64), ('cat/1.png', 'dog/1.png'))
    """
    roots = _splits(path)
    class_names = sorted(folder.name for folder in _folders(roots[0][1]))
    if len(class_names) < 2:
        found = f"only {class_names[0]!r}" if class_names else "none"
        raise DropkitError(
            f"folder {str(roots[0][1])!r} needs a sub-folder with pictures for each of two classes or more, "
            f"and has {found}."
        )
    other: Counter[str] = Counter()
    counts, files, labels = [], [], []
    for split, root in roots:
        found_here = _files(root, class_names, other)
        counts.append((split, len(found_here)))
        files += [file for file, _ in found_here]
        labels += [label for _, label in found_here]
    ids = tuple(storable(file.relative_to(path).as_posix()) for file in files)
    listing = Listing(
        name=storable(path.resolve().name),
        class_names=tuple(storable(name) for name in class_names),
        counts=counts,
        labels=np.array(labels, dtype=np.int64),
        ids=ids,
        source=PictureFiles(str(path), ids, lambda: iter(files)),
        stamp=[str(path.resolve()), [_stamp(file, name) for file, name in zip(files, ids, strict=True)]],
        is_folder=True,
        notes=_note_others(other) + _note_loose(path, roots),
    )
    return gather(listing, how or Reading())


def _stamp(file: Path, name: str) -> tuple[str, int, int]:
    try:
        stat = file.stat()
    except OSError:  # a link that leads nowhere: decoding will say so
        return name, 0, 0
    return name, stat.st_size, stat.st_mtime_ns


def _note_others(other: Counter[str]) -> list[str]:
    count = other.total()
    return [f"{count:,} file{'s' if count > 1 else ''} left alone: {_by_ending(other)}"] if other else []


def _note_loose(path: Path, roots: Sequence[tuple[str | None, Path]]) -> list[str]:
    loose = [file for _, root in roots for file in sorted(root.iterdir()) if _may_be_picture(file) and file.is_file()]
    if not loose:
        return []
    what = "picture beside the class folders belongs" if len(loose) == 1 else "pictures beside the class folders belong"
    return [f"{len(loose):,} {what} to no class, such as {storable(loose[0].relative_to(path).as_posix())!r}"]


def _by_ending(other: Counter[str]) -> str:
    """Return counts by ending, the most frequent first, such as "10 .heic, 2 .txt"."""
    ranked = sorted(other.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {len(ranked) - _SHOWN} other endings" if len(ranked) > _SHOWN else ""
    return ", ".join(f"{count} {printable(ending) or 'without ending'}" for ending, count in ranked[:_SHOWN]) + more


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _splits(path: Path) -> list[tuple[str | None, Path]]:
    """Return the folder of each split, train first; the folder itself where it has only classes."""
    folders = {folder.name: folder for folder in _folders(path)}
    named = [name for name in folders if name.lower() in SPLIT_OF]
    others = [name for name in folders if name not in named]
    if not named or (others and [name.lower() for name in named] == ["train"] and _is_class(folders[named[0]])):
        _refuse_disguised_splits(path, list(folders.values()))
        return [(None, path)]
    if others:
        raise DropkitError(
            f"folder {str(path)!r} has {_listed(others)} beside the splits {_listed(named)}: allowed "
            "are splits with a sub-folder for each class, or classes alone. Move or rename the sub-folders."
        )
    return _by_split(path, [folders[name] for name in named])


def _by_split(path: Path, named: Sequence[Path]) -> list[tuple[str | None, Path]]:
    """Return folders that are called as splits, train first."""
    listed = _listed(folder.name for folder in named)
    roots = {SPLIT_OF[folder.name.lower()]: folder for folder in named}
    if "train" not in roots:
        raise DropkitError(
            f"folder {str(path)!r} has {listed} but no 'train': put the training pictures into a "
            "sub-folder 'train', with a sub-folder for each class."
        )
    if len(roots) < len(named):
        raise DropkitError(
            f"folder {str(path)!r} has {listed}: only one of them can hold the {_of_several(named)} pictures. "
            "Keep one of 'train', one of 'val', 'valid' and 'validation', and one of 'test'."
        )
    return [(split, roots[split]) for split in SPLITS if split in roots]


def _of_several(named: Sequence[Path]) -> str:
    """Return what the pictures are for that several folders are called after."""
    counts = Counter(SPLIT_OF[folder.name.lower()] for folder in named)
    return {"train": "training", "val": "validation", "test": "test"}[counts.most_common(1)[0][0]]


def _refuse_disguised_splits(path: Path, folders: Sequence[Path]) -> None:
    """Refuse folders such as Training/ and Testing/, which would else be learned as two classes."""
    inside = Counter(entry.name for folder in folders for entry in _folders(folder))
    shared = sorted(name for name, count in inside.items() if count > 1)
    names = all(folder.name.lower().startswith(("train", "test", "val", "dev", "eval")) for folder in folders)
    if names and shared and not any(_is_class(folder) for folder in folders):
        raise DropkitError(
            f"folder {str(path)!r} has {_listed(folder.name for folder in folders)}, with sub-folders of the same "
            "names "
            f"{_listed(shared)}: these look like splits, not classes. Name splits 'train', 'val' and 'test'."
        )


def _is_class(folder: Path) -> bool:
    """Tell a class that happens to be called "train" from a split: it holds pictures and not classes."""
    return any(_may_be_picture(file) and file.is_file() for file in folder.iterdir())


def _may_be_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _listed(names: Iterable[str], shown: int = _SHOWN) -> str:
    listed = [repr(name) for name in names]
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more


def _files(root: Path, class_names: Sequence[str], other: Counter[str]) -> list[tuple[Path, int]]:
    """Return each picture of a split with its label, class by class; count other files by ending."""
    files: list[tuple[Path, int]] = []
    for folder in _folders(root):
        if folder.name not in class_names:
            near = get_close_matches(folder.name, class_names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DropkitError(
                f"folder {str(folder)!r} is a class without training pictures: the classes in train are "
                f"{_listed(class_names, 20)}.{hint} Rename the folder, or add the class to train."
            )
        inside = list(walk(folder, frozenset()))
        found = [file for file in inside if _may_be_picture(file)]
        rest = Counter(storable(file.suffix.lower()) for file in inside if not _may_be_picture(file))
        if not found:
            holds = f", only {_by_ending(rest)}" if rest else ""
            raise DropkitError(
                f"folder {str(folder)!r} has no picture{holds}: names may end with {' '.join(sorted(SUFFIXES))}. "
                "Add pictures of the class (convert other formats to JPEG or PNG), or remove the folder."
            )
        other.update(rest)
        label = class_names.index(folder.name)
        files += [(file, label) for file in sorted(found, key=lambda file: file.as_posix())]
    if not files:
        raise DropkitError(f"folder {str(root)!r} has no class folders: add them, or remove the folder.")
    return files


def walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files in a folder and the folders in it, hidden ones left out.

    Links to folders are followed, but not back into a folder that is being walked. A folder that may not be read
    raises its PermissionError: pathlib's rglob would skip it without a word.
    """
    stat = folder.stat()
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from walk(entry, above | {here})
        else:
            yield entry
