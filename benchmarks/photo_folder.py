"""A folder of real photographs as people have them: mixed formats, sizes and colours, and a dozen files that are bad.

    python benchmarks/photo_folder.py CIFAR10.npz OUT [--pictures 3000] [--bad 12] [--seed 0]

The photographs are CIFAR-10's training pictures (an .npz with MedMNIST's array names), one folder a class, each written
as one of the kinds below. The bad files are of the kinds that turn up in real folders.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Writer = Callable[[Image.Image, Path], None]


def _sideways(picture: Image.Image, path: Path) -> None:
    """As a phone held upright writes it: lying on its side, with a note how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), quality=95, exif=exif)


def _deep(picture: Image.Image, path: Path) -> None:
    values = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    Image.fromarray(values).save(path.with_suffix(".png"))


def _wide(picture: Image.Image, path: Path) -> None:
    canvas = picture.resize((60, 40)).convert("RGB")
    canvas.save(path.with_suffix(".png"))


# how often, in percent, and how
KINDS: dict[str, tuple[int, Writer]] = {
    "png": (60, lambda picture, path: picture.save(path.with_suffix(".png"))),
    "jpeg": (15, lambda picture, path: picture.save(path.with_suffix(".jpg"), quality=95)),
    "wide": (6, _wide),
    "rgba": (4, lambda picture, path: picture.convert("RGBA").save(path.with_suffix(".png"))),
    "palette": (4, lambda picture, path: picture.quantize(64).save(path.with_suffix(".png"))),
    "grey": (4, lambda picture, path: picture.convert("L").save(path.with_suffix(".png"))),
    "sideways": (3, _sideways),
    "cmyk": (2, lambda picture, path: picture.convert("CMYK").save(path.with_suffix(".jpg"), quality=95)),
    "16 bit": (2, _deep),
}


def plant_bad_files(folder: Path, names: list[str], count: int) -> list[Path]:
    """Write files that no one can read as pictures; return their paths."""
    good = next((folder / names[0]).glob("*.png")).read_bytes()
    contents = {
        "empty.png": b"",
        "truncated.png": good[: len(good) // 2],
        "text.jpg": b"this was saved from a web page\n",
        "page.png": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "zeros.jpg": bytes(2048),
        "half.jpeg": b"\xff\xd8\xff\xe0" + bytes(40),
        "header-only.gif": b"GIF89a",
        "wrong.bmp": b"BM" + bytes(10),
        "archive.png": b"PK\x03\x04" + bytes(100),
        "video.webp": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
        "cut.png": good[:60],
        "raw.tiff": b"II*\x00" + bytes(4),
    }
    planted = []
    for number, (name, content) in zip(range(count), contents.items(), strict=False):
        path = folder / names[number % len(names)] / name
        path.write_bytes(content)
        planted.append(path)
    return planted


def main() -> None:
    """Write the folder and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--bad", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with np.load(given.data) as arrays:
        images, labels = arrays["train_images"], arrays["train_labels"].reshape(-1)
        names = [str(name) for name in arrays["class_names"]]
    rng = np.random.default_rng(given.seed)
    chosen = rng.permutation(len(images))[: given.pictures]
    kinds = rng.choice(list(KINDS), size=len(chosen), p=[share / 100 for share, _ in KINDS.values()])
    for name in names:
        (given.out / name).mkdir(parents=True)
    for index, kind in zip(chosen.tolist(), kinds.tolist(), strict=True):
        KINDS[kind][1](Image.fromarray(images[index]), given.out / names[labels[index]] / f"photo-{index:05}")
    planted = plant_bad_files(given.out, names, given.bad)
    (given.out / names[0] / "notes.txt").write_text("taken in spring\n")
    counts = ", ".join(f"{(kinds == kind).sum()} {kind}" for kind in KINDS)
    print(f"{len(chosen)} photographs in {given.out}: {counts}; {len(planted)} bad files")


if __name__ == "__main__":
    main()
