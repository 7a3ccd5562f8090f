"""How much memory loading takes, at most: the data as uint8 and 1 GiB, or 2 GiB where they are streamed from disk.

    python benchmarks/memory.py [--gigabytes 1.5] [--folder DIR]

Makes pictures that take so many gigabytes as uint8: an .npz file (as numpy.savez writes it), the same in Fortran's
order, and a folder of JPEG photos of 1600x1200 that are brought to 256x256 (50 different ones under many names, to
spare the disk; `--mixed` puts PNG files of 4000x3000 with transparency among them, which take most memory to decode).
Each is loaded in a process of its own, in memory and streamed, divided into splits, and read once in batches of 128 in
random order. Prints the peak of the process's resident memory against its bound; exits with 1 if one is exceeded.
Needs about three times that space in DIR, which is left as it was.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

GIB = 2**30
CLASSES = 10
SIDE = 256
DIFFERENT = 50


def main() -> int:
    """Measure every case and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.5, help="of pictures as uint8")
    parser.add_argument("--folder", default=None, help="where to make them (default: the folder for temporary files)")
    parser.add_argument("--mixed", action="store_true", help="put large PNG files among the photos")
    parser.add_argument("--child", nargs=2, metavar=("SOURCE", "STREAM"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return measure(*given.child)
    fine = True
    print(f"{'source':<16}{'stream':<8}{'data GB':>8}{'peak GB':>9}{'bound GB':>10}{'seconds':>9}")
    for name, make in (("npz", npz), ("npz Fortran", fortran), ("folder", photos)):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            source = make(Path(folder), round(given.gigabytes * 1e9), given.mixed)
            for stream in ("no", "yes"):
                fine &= report(name, source, stream, folder)
    return 0 if fine else 1


def npz(folder: Path, size: int, mixed: bool) -> Path:
    """Write pictures [N, 64, 64, 3] to an .npz file, piece by piece."""
    count = size // (64 * 64 * 3)
    return write(folder, (count, 64, 64, 3), fortran_order=False)


def fortran(folder: Path, size: int, mixed: bool) -> Path:
    """Write the same in Fortran's order."""
    count = size // (64 * 64 * 3)
    return write(folder, (count, 64, 64, 3), fortran_order=True)


def write(folder: Path, shape: tuple[int, ...], fortran_order: bool) -> Path:
    """Write random bytes as train_images, and labels."""
    rng = np.random.default_rng(0)
    path = folder / "pictures.npz"
    np.savez(path, train_labels=np.arange(shape[0]) % CLASSES)
    header = {"descr": "|u1", "fortran_order": fortran_order, "shape": shape}
    left = int(np.prod(shape))
    with zipfile.ZipFile(path, "a") as archive, archive.open("train_images.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        while left:
            piece = min(left, 2**26)
            file.write(rng.integers(0, 256, piece, dtype=np.uint8).tobytes())
            left -= piece
    return path


def photos(folder: Path, size: int, mixed: bool) -> Path:
    """Write photos of 1600x1200; a quarter of them PNG files of 4000x3000 with transparency where they are mixed."""
    from PIL import Image

    rng = np.random.default_rng(0)
    different = []
    for i in range(DIFFERENT):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        large = mixed and i % 4 == 0
        path = folder / f"{i}.{'png' if large else 'jpg'}"
        photo = coarse.resize((4000, 3000) if large else (1600, 1200), Image.Resampling.BICUBIC)
        (photo.convert("RGBA") if large else photo).save(path)
        different.append(path)
    for i in range(size // (SIDE * SIDE * 3)):
        place = folder / "photos" / f"class {i % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(different[i % DIFFERENT], place / f"{i}{different[i % DIFFERENT].suffix}")
    return folder / "photos"


def report(name: str, source: Path, stream: str, folder: str) -> bool:
    """Measure one case in a process of its own; say whether it stayed within its bound."""
    command = [sys.executable, __file__, "--child", str(source), stream]
    environment = {**os.environ, "TMPDIR": folder}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name:<16}{stream:<8}failed: {done.stderr.strip()}")
        return False
    data, peak, seconds = map(float, done.stdout.split())
    bound = 2 * GIB if stream == "yes" else data + GIB
    print(f"{name:<16}{stream:<8}{data / 1e9:8.2f}{peak / 1e9:9.2f}{bound / 1e9:10.2f}{seconds:9.1f}", flush=True)
    return peak <= bound


def measure(source: str, stream: str) -> int:
    """Load, split and read the pictures; print their bytes, the peak of resident memory and the seconds."""
    from dropkit.data.pictures import load
    from dropkit.data.split import make_split

    began = time.perf_counter()
    size = None if source.endswith(".npz") else SIDE
    pictures = load(source, image_size=size, stream=stream, on_bad_image="skip")
    if len(np.unique(pictures.digests, axis=0)) == len(pictures):  # photos under many names cannot be divided
        make_split(pictures, seed=0)
    for batch in np.array_split(np.random.default_rng(0).permutation(len(pictures)), max(1, len(pictures) // 128)):
        pictures.read(batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(len(pictures) * int(np.prod(pictures.shape)), peak, time.perf_counter() - began)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
