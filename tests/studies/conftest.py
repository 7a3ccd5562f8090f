"""Short studies of the digits, a folder of pictures, a small MNIST, a database."""

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dropkit.data.pictures import load
from dropkit.runs.config import TrainConfig
from dropkit.studies.arms import arm_config
from dropkit.studies.compare import compare


@pytest.fixture(scope="session")
def configs():
    """Make a short training for each policy."""

    def make(*policies, **changes):
        given = {"data": "digits", "model": "mlp", "epochs": 3, "precision": "float32", "threads": 1}
        return [arm_config(TrainConfig(**{**given, **changes}), policy) for policy in policies]

    return make


@pytest.fixture(scope="session")
def study_of(configs):
    """Make a short study of these policies in a folder."""

    def make(out, *policies, seeds=3, metric="error", folds=None, sweep=None, **changes):
        options = {"seeds": seeds, "metric": metric, "folds": folds, "sweep": sweep}
        return compare(configs(*policies, **changes), **options, workers=1, out=out, progress=False)

    return make


@pytest.fixture(scope="session")
def write_pets():
    """Write 20 pictures of each of two classes, of 8x8, into a folder."""

    def write(folder):
        for label, name in enumerate(("cat", "dog")):
            (folder / name).mkdir(parents=True)
            for number in range(20):
                pixels = np.full((8, 8), 10 * number + 5 * label, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{number}.png")

    return write


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory):
    """A folder with an mnist.npz of the digits, enlarged to 28x28: 1,500 for training, 297 for test."""
    pictures = load("digits")
    images = np.kron(pictures.images.numpy()[:, 0], np.ones((3, 3), dtype=np.uint8))
    images, labels = np.pad(images, ((0, 0), (2, 2), (2, 2))), pictures.labels.numpy()
    folder = tmp_path_factory.mktemp("mnist")
    parts = {"train": slice(0, 1500), "test": slice(1500, None)}
    arrays = {f"{split}_images": images[part] for split, part in parts.items()}
    np.savez(folder / "mnist.npz", **arrays, **{f"{split}_labels": labels[part] for split, part in parts.items()})
    return folder


USER, PASSWORD = "ann", "hunter2-secret"


def _programs():
    """Where the server's programs are: Debian keeps them off the path, by version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        pytest.skip("PostgreSQL is not installed")
    return found[-1].parent if found else Path(on_path).resolve().parent


@pytest.fixture
def postgresql_server():
    """Return a server of the test's own: its URL with its password, and how to stop and start it."""
    # Not under pytest's own folder, which the server's user may not enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with _server(Path(folder)) as server:
            yield server


@pytest.fixture
def postgresql(postgresql_server):
    """Return the URL of a server of the test's own, with its password."""
    return postgresql_server.url


@contextmanager
def _server(folder):
    """Start a server that keeps its data in a folder; yield its URL with its password, and what stops and starts it."""
    home, data, password = _programs(), folder / "data", folder / "password"
    password.write_text(PASSWORD)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(program, *words):
        command = [str(home / program), "-D", str(data), *words]
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres")
            shutil.chown(password, "postgres")
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)

    run("initdb", "--auth=scram-sha-256", f"--username={USER}", f"--pwfile={password}", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"

    def start():
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")

    def stop():
        run("pg_ctl", "-m", "immediate", "stop")

    start()
    try:
        url = f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"
        yield SimpleNamespace(url=url, start=start, stop=stop)
    finally:
        stop()
